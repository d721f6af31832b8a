"""Asks and answers: bound to one action and policy, used once, in time, by those who may."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.approval import Answer, Approval
from agent_os.core.errors import ActionError, EffectError
from agent_os.effects.stores.keys import Keys
from agent_os.effects.stores.state import StateDatabase

ACTION, POLICY = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def ask(number: int = 1, **changes: Any) -> Approval:
    """Return an ask made at time 1000 that expires at 2000."""
    values: dict[str, Any] = {
        "id": f"apr_{number}",
        "action": {"kind": "tool.call", "tool": "send_payment"},
        "action_digest": ACTION,
        "policy_digest": POLICY,
        "rules": ("tools.send_payment.ask",),
        "reason": "amount is over 1000",
        "requested_at": 1000.0,
        "expires_at": 2000.0,
        "preview": {"arguments": {"iban": "DE02120300000000202051"}},
        "requester": "alice",
    }
    return Approval(**{**values, **changes})


@pytest.fixture
def approvals(state: StateDatabase) -> Any:
    """The approvals, at time 1500."""
    state.approvals._now = lambda: 1500.0
    return state.approvals


async def test_an_approval_makes_one_grant_for_exactly_that(approvals: Any) -> None:
    """The grant discharges its rule for its action and policy and nothing else, and is spent once."""
    await approvals.request(ask())
    assert await approvals.grants(ACTION, POLICY, 1500) == ()
    answered = await approvals.answer("apr_1", Answer(True, "bob", "seen"), 1500)
    assert (answered.state, answered.approvals, answered.answer) == ("approved", ("bob",), "seen")
    (grant,) = await approvals.grants(ACTION, POLICY, 1500)
    assert (grant.rules, grant.action_digest, grant.policy_digest) == (("tools.send_payment.ask",), ACTION, POLICY)
    assert await approvals.grants("sha256:" + "c" * 64, POLICY, 1500) == ()
    assert await approvals.grants(ACTION, "sha256:" + "c" * 64, 1500) == (), "the policy changed meanwhile"
    used = await asyncio.gather(*(approvals.spend([grant.id], 1500, by="x") for _ in range(20)))
    assert sum(used) == 1
    assert await approvals.grants(ACTION, POLICY, 1500) == ()
    assert not await approvals.spend(["grt_apr_99"], 1500, by="x")
    assert not await approvals.spend(["apr_1"], 1500, by="x")


async def test_the_same_ask_is_asked_once(approvals: Any) -> None:
    """A retry finds the ask that waits; another action, rule or policy is another ask."""
    assert (await approvals.request(ask(1))).id == "apr_1"
    assert (await approvals.request(ask(2))).id == "apr_1"
    assert (await approvals.request(ask(3, action_digest="sha256:x"))).id == "apr_3"
    assert (await approvals.request(ask(4, policy_digest="sha256:x"))).id == "apr_4"
    assert [each.id for each in await approvals.list()] == ["apr_1", "apr_3", "apr_4"]


async def test_a_denial_is_final(approvals: Any) -> None:
    """One no is no, and nobody turns it round."""
    await approvals.request(ask(needed=2))
    await approvals.answer("apr_1", Answer(True, "bob"), 1500)
    denied = await approvals.answer("apr_1", Answer(False, "carol", "wrong supplier"), 1500)
    assert (denied.state, denied.answer) == ("denied", "wrong supplier")
    with pytest.raises(ActionError, match="answered before: denied"):
        await approvals.answer("apr_1", Answer(True, "dave"), 1500)
    assert await approvals.grants(ACTION, POLICY, 1500) == ()


async def test_two_people_are_two_people(approvals: Any) -> None:
    """With two needed, one person answering twice (a double click, or under another spelling) does not make it."""
    await approvals.request(ask(needed=2))
    results = await asyncio.gather(
        *(approvals.answer("apr_1", Answer(True, "bob"), 1500) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, Approval) for result in results) == 1
    for again in ("BOB", " bob", "ｂｏｂ"):
        with pytest.raises(ActionError, match="one person answers once"):
            await approvals.answer("apr_1", Answer(True, again), 1500)
    assert (await approvals.get("apr_1")).state == "waiting"
    assert (await approvals.answer("apr_1", Answer(True, "carol"), 1500)).state == "approved"
    (grant,) = await approvals.grants(ACTION, POLICY, 1500)
    assert grant.approvers == ("bob", "carol")


async def test_what_expired_cannot_be_answered_or_used(approvals: Any) -> None:
    """Silence denies; an approval not used in time is no approval."""
    await approvals.request(ask(1))
    with pytest.raises(ActionError, match="expired"):
        await approvals.answer("apr_1", Answer(True, "bob"), 2000)
    assert (await approvals.get("apr_1")).state == "expired"
    await approvals.request(ask(2))
    await approvals.answer("apr_2", Answer(True, "bob"), 1999)
    (grant,) = await approvals.grants(ACTION, POLICY, 1999)
    assert await approvals.grants(ACTION, POLICY, 2000) == ()
    assert not await approvals.spend([grant.id], 2000, by="x")


@pytest.mark.parametrize(
    ("changes", "approver", "groups", "why"),
    [
        ({"separate": True}, "alice", (), "another person"),
        ({"separate": True}, "Alice ", (), "another person"),
        ({"separate": True}, "ａｌｉｃｅ", (), "another person"),
        ({"approvers": ("carol", "group:finance")}, "bob", (), "not among"),
        ({"approvers": ("carol", "group:finance")}, "bob", ("group:sales",), "not among"),
        ({}, "agent:main", (), "a person"),
        ({}, "", (), "a person"),
    ],
)
async def test_who_may_not_answer(
    approvals: Any, changes: dict[str, Any], approver: str, groups: tuple[str, ...], why: str
) -> None:
    """The requester where the policy separates duties, people outside the list, agents, nobody."""
    await approvals.request(ask(**changes))
    with pytest.raises(ActionError, match=why):
        await approvals.answer("apr_1", Answer(True, approver, groups=frozenset(groups)), 1500)
    assert (await approvals.get("apr_1")).state == "waiting"


@pytest.mark.parametrize(
    ("changes", "approver", "groups"),
    [
        ({}, "alice", ()),
        ({"separate": True}, "bob", ()),
        ({"approvers": ("carol",)}, "carol", ()),
        ({"approvers": ("group:finance",)}, "bob", ("group:finance",)),
    ],
)
async def test_who_may_answer(approvals: Any, changes: dict[str, Any], approver: str, groups: tuple[str, ...]) -> None:
    """The benign twins of those who may not."""
    await approvals.request(ask(**changes))
    answered = await approvals.answer("apr_1", Answer(True, approver, groups=frozenset(groups)), 1500)
    assert answered.state == "approved"


async def test_forged_and_malformed_asks(approvals: Any) -> None:
    """An unknown id, an ask born approved or expired, and an unknown state are errors."""
    with pytest.raises(ActionError, match="no ask"):
        await approvals.answer("apr_77", Answer(True, "bob"), 1500)
    for changes in ({"state": "approved"}, {"expires_at": 1000.0}, {"needed": 0}):
        with pytest.raises(ActionError):
            await approvals.request(ask(**changes))
    with pytest.raises(ActionError, match="unknown state"):
        await approvals.list("open")
    assert await approvals.get("apr_77") is None


async def test_asks_outlive_the_process_and_are_sealed(state: StateDatabase, directory: Path, keys: Keys) -> None:
    """A new process finds the ask with its preview; the file does not show it in clear."""
    state.approvals._now = lambda: 1500.0
    await state.approvals.request(ask())
    again = StateDatabase.open(directory, keys, now=lambda: 1500.0)
    (found,) = await again.approvals.list()
    assert found == ask()
    again.close()
    raw = b"".join(path.read_bytes() for path in directory.glob("state.db*"))
    assert b"DE02120300000000202051" not in raw
    assert b"tools.send_payment.ask" in raw


async def test_a_newer_database_is_not_touched(directory: Path, keys: Keys) -> None:
    """A file of a later schema version is refused by name."""
    StateDatabase.open(directory, keys).close()
    connection = sqlite3.connect(directory / "state.db")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(EffectError, match="newer version"):
        StateDatabase.open(directory, keys)


async def test_which_asks_wait_without_what_they_ask(approvals: Any) -> None:
    """The ids of open asks alone: what an engine looks at to wake parked tasks; answered and expired ones are not there."""
    for number in (1, 2, 3):
        await approvals.request(
            ask(number, action_digest=f"sha256:{number}", expires_at=1600.0 if number == 3 else 2000.0)
        )
    await approvals.answer("apr_1", Answer(True, "bob"), 1500)
    assert await approvals.waiting_ids() == {"apr_2", "apr_3"}
    approvals._now = lambda: 1700.0
    assert await approvals.waiting_ids() == {"apr_2"}


async def test_a_tenant_that_floods_leaves_room_for_others(approvals: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bound in the policy a tenant has the store's own; another tenant's ask is taken all the same."""
    monkeypatch.setattr("agent_os.effects.stores.approvals.TENANT_WAITING_MAX", 2)
    for number in range(2):
        await approvals.request(ask(number, action_digest=f"d{number}"))
    with pytest.raises(ActionError, match="of this tenant"):
        await approvals.request(ask(3, action_digest="d3"))
    assert (await approvals.request(ask(4, action_digest="d4", tenant="other"))).state == "waiting"
