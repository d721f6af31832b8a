"""What learn proposes for hosts that led to other than public addresses: declared exactly, and never the forbidden ones."""

from __future__ import annotations

from typing import Any

import pytest

from agent_os.policy import Policy
from agent_os.policy.workbench.learn import Learnt, Seen, learn


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


def requests(*paths: str, connect: bool = True) -> Learnt:
    """Learn from requests of one program to one host."""
    wire = {"host": "svc.corp.example", "port": 443, "binary": "/usr/bin/curl", "ancestors": []}
    seen = [Seen({**wire, "kind": "net.connect"}, why_not="")] if connect else []
    seen += [Seen({**wire, "kind": "net.request", "method": "GET", "path": path}, why_not="") for path in paths]
    return learn(Policy.parse("version: 1\n"), seen)


@pytest.mark.parametrize(
    ("paths", "learnt"),
    [
        (["/items/1", "/items/22"], ["/items/1", "/items/22"]),
        (["/items/1", "/items/22", "/items/333"], ["/items/*"]),
        (["/i/PRJ-1/log", "/i/PRJ-2/log", "/i/AB-77/log", "/i/PRJ-1"], ["/i/*/log", "/i/PRJ-1"]),
        (["/o/0a1b2c3d4e", "/o/ffee001122", "/o/deadbeef01"], ["/o/*"]),
        (["/a/alpha", "/a/beta", "/a/gamma"], ["/a/alpha", "/a/beta", "/a/gamma"]),
        (["/x*y/1", "/x*y/2", "/x*y/3"], ["/x\\*y/*"]),
    ],
)
def test_ids_in_paths_are_left_open_and_nothing_else(paths: list[str], learnt: list[str]) -> None:
    """From three on, and only where a segment looks like an id; one proposal, over requests, covers the connection too."""
    found = requests(*paths)
    (proposal,) = found.proposals
    (endpoint,) = next(iter(proposal.fragment["network_policies"].values()))["endpoints"]
    assert endpoint["protocol"] == "rest"
    assert sorted(rule["allow"]["path"] for rule in endpoint["rules"]) == sorted(learnt)
    assert proposal.count == len(paths) + 1


def test_a_connection_without_requests_is_learnt_as_what_it_is() -> None:
    """Where nothing inside was seen the proposal says that every byte passes."""
    (proposal,) = requests().proposals
    assert "every byte" in proposal.note
