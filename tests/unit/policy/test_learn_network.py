"""What learn proposes for hosts that led to other than public addresses: declared exactly, and never the forbidden ones."""

from __future__ import annotations

from typing import Any

import pytest

from agent_os.policy import Policy
from agent_os.policy.workbench.learn import Seen, learn


def proposed(addresses: list[str]) -> dict[str, Any]:
    """The network section of the overlay for one denied connection."""
    wire = {"kind": "net.connect", "host": "svc.corp.example", "port": 443, "binary": "/usr/bin/curl", "ancestors": []}
    policy = Policy.parse("version: 1\n")
    learnt = learn(policy, [Seen({**wire, "resolved_ips": addresses}, "test:1")])
    blocks = [block for item in learnt.proposals for block in item.fragment["network_policies"].values()]
    return dict(blocks[0]["endpoints"][0]) if blocks else {}


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["93.184.215.14"], {}),
        (["10.1.2.3", "10.1.2.4"], {"allowed_ips": ["10.1.2.3", "10.1.2.4"]}),
        (["127.0.0.1"], {"local": True}),
    ],
)
def test_addresses_are_declared_exactly(addresses: list[str], expected: dict[str, Any]) -> None:
    """Private ones become `allowed_ips`, this machine `local`; public ones need nothing."""
    endpoint = proposed(addresses)
    assert {key: value for key, value in endpoint.items() if key in ("allowed_ips", "local")} == expected
    assert endpoint["host"] == "svc.corp.example"


def test_a_metadata_address_is_never_proposed() -> None:
    """What no rule can open is not offered."""
    assert proposed(["169.254.169.254"]) == {}
