"""Who is at the root: a sub-agent and a schedule's run answer to, and are counted for, the agent that somebody started."""

from __future__ import annotations

import pytest

from agent_os import decide
from agent_os.core.action import Action
from agent_os.core.budget import Budget
from agent_os.core.principal import Principal
from agent_os.core.schedule import key_of
from agent_os.core.stop import Stop, Stops
from agent_os.policy.policy import Policy

CLERK = Principal(tenant="bolt", user="bolt", agent="clerk")
LEASE = Policy.parse(
    """
version: 1
models: {providers: {near: {kind: vllm, base_url: "http://127.0.0.1:1/v1", models: [big]}}}
budgets: [{name: lease, per: agent, window: month, who: {tenant: bolt, agent: clerk}, tokens: 100}]
"""
)


@pytest.mark.parametrize(
    ("who", "held"),
    [
        (CLERK, True),
        (CLERK.child("reader-1"), True),
        (CLERK.child("reader-1").child("clerk-2"), True),
        (CLERK.run_of("nightly"), True),
        (CLERK.run_of("nightly").run_of("again").child("reader-1"), True),
        (Principal(tenant="bolt", user="bolt", agent="scout").child("reader-1"), False),
        (Principal(tenant="acme", user="bolt", agent="clerk").run_of("nightly"), False),
    ],
)
def test_a_lease_holds_for_whatever_its_agent_starts(who: Principal, held: bool) -> None:
    """Sub-agents and schedules of a leased agent reserve its budget, on its account, and are quarantined with it; others not."""
    call = {
        "kind": "model.call",
        "provider": "near",
        "model": "big",
        "messages": [],
        "input_tokens": 10,
        "max_tokens": 5,
    }
    obligations = decide(LEASE, Action.parse(call, principal=who)).obligations
    assert [each.params["budget"] for each in obligations if each.kind == "reserve"] == ["lease"] * held
    accounts = {Budget("lease", "agent", "total").account(each, 0.0) for each in (CLERK, who)}
    assert len(accounts) == (1 if held else 2)
    stop = Stop("stp_1", "agent", "clerk", "lea", "", 0.0, "bolt")
    assert (Stops.of([stop]).holding(who) is not None) is held


def test_the_agent_of_a_schedule_of_main_is_named_as_ever() -> None:
    """A person's own schedule runs as `schedule:NAME`, counted for `main`; an agent whose name only looks so is its own."""
    run = Principal(user="ana").run_of("nightly")
    assert (run.agent, run.root) == ("schedule:nightly", "main")
    assert Principal(agent="reschedule:x").root == "reschedule:x"


def test_names_of_two_tenants_never_meet() -> None:
    """Whatever slashes a tenant and a name have, two pairs have two keys; in the default tenant a name is its own key."""
    pairs = [
        ("default", "a"),
        ("default", "acme//a"),
        ("acme", "a"),
        ("acme", "/a"),
        ("acme/", "a"),
        ("acme%2F", "a"),
        ("a", "b//c"),
        ("a//b", "c"),
    ]
    assert len({key_of(*pair) for pair in pairs}) == len(pairs)
    assert len({Principal(tenant=tenant, user=user).owner for tenant, user in pairs}) == len(pairs)
    assert key_of("default", "a") == "a"
