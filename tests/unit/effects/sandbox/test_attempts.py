"""Whether a sandbox without a network tried to use one."""

from __future__ import annotations

import os

import pytest

from agent_os.effects.sandbox.attempts import Attempts, tried

QUIET = """\
Ip: Forwarding OutRequests OutNoRoutes
Ip: 1 12 0
Udp: InDatagrams NoPorts InErrors
Udp: 3 0 0
UdpLite: InDatagrams NoPorts
UdpLite: 0 0
"""


@pytest.mark.parametrize(
    ("old", "new"), [("Ip: 1 12 0", "Ip: 1 12 2"), ("Udp: 3 0 0", "Udp: 3 1 0")], ids=["no-route", "no-name-server"]
)
def test_an_address_or_a_name_that_was_asked_for_counts(old: str, new: str) -> None:
    """An address without a route and a question nobody answered are attempts; traffic that arrived is none."""
    assert not tried(QUIET)
    assert tried(QUIET.replace(old, new))


def test_what_is_not_of_that_form_tells_nothing() -> None:
    """No file, a text of another form: nothing is claimed."""
    assert not tried("") and not tried("Ip: 5 5\nnonsense\nUdp:\n")
    gone = Attempts(os.open("/dev/null", os.O_RDONLY))
    assert not gone.any()
    gone.close()
    assert not gone.any()
    gone.close()


def test_the_counters_of_a_live_process_can_be_read() -> None:
    """They are this kernel's, in the form that is read."""
    here = Attempts(os.open(f"/proc/{os.getpid()}/net/snmp", os.O_RDONLY))
    assert here.any() in (True, False)
    with open("/proc/net/snmp", encoding="ascii") as file:
        assert "OutNoRoutes" in file.read()
    here.close()
