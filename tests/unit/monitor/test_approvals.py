"""Approvals at the door: once, for a session, for always, with changed arguments; bound, spent last, given back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS, DeniedError, Policy
from agent_os.core.approval import Answer, Approval
from agent_os.core.errors import ActionError, EffectError
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec
from agent_os.core.ports import Outcome, Pending
from agent_os.runtime.compose import needs_of
from tests.unit.monitor.conftest import Desk, Open
from tests.unit.monitor.test_door import records

POLICY = """
version: 1
tools:
  pay:
    allow: {to: {in: [ana, bo]}}
    ask: {amount: {min: 100}}
    deny: {amount: {min: 10000}}
  run: {allow: true, ask: true}
approvals: {timeout: 10m, allow_session: true, allow_always: true}
"""
PAY = ToolSpec(
    name="pay",
    effect=Effect.PAY,
    arguments={
        "to": Argument(role=Role.AUTHORITY),
        "amount": Argument(role=Role.PAYLOAD, type="number"),
        "note": Argument(role=Role.PAYLOAD, type="text"),
    },
)


async def opened(open_desk: Open, policy: str = POLICY, **options: Any) -> Desk:
    """Return a desk with a payment tool and one that executes."""
    desk = await open_desk(policy, **options)

    async def pay(args: Any) -> Any:
        desk.calls.append(("pay", dict(args)))
        return {"paid": args["amount"]}

    desk.system.toolbox.register(PAY, pay, code=b"pay")
    desk.register("run", Effect.EXECUTE, "argv")
    return desk


async def pay(desk: Desk, amount: float = 150, to: str = "ana", note: str = "as agreed", key: str = "") -> Any:
    """Pay through the door."""
    return await desk.call("pay", to=to, amount=amount, note=note, key=key)


async def respond(desk: Desk, parked: Any, answer: Answer) -> Approval:
    """Answer what waits."""
    assert isinstance(parked, Pending), parked
    store = desk.system.monitor.ports.approvals
    assert store is not None
    return await store.answer(parked.approval_id, answer, desk.system.monitor.ports.clock.now())


def intents(desk: Desk) -> list[dict[str, Any]]:
    """Return the records of intents on disk."""
    return records(desk.on_disk(), "intent")


# ---- lasting answers ------------------------------------------------------------------------------------------------


async def test_for_this_session_exactly_these_arguments(open_desk: Open) -> None:
    """The same call runs again without asking; any other argument asks."""
    desk = await opened(open_desk)
    await respond(desk, await pay(desk), Answer(True, "boss", lasting="session"))
    for _ in range(3):
        assert isinstance(await pay(desk), Outcome)
    assert isinstance(await pay(desk, 149), Pending)
    assert isinstance(await pay(desk, to="bo"), Pending)
    assert isinstance(await pay(desk, note="other"), Pending)
    assert len(desk.calls) == 3


async def test_for_this_session_the_same_authority(open_desk: Open) -> None:
    """`same`: the recipient equal, the amount at most as shown, the text free; nothing wider."""
    desk = await opened(open_desk)
    await respond(desk, await pay(desk), Answer(True, "boss", lasting="session", width="same"))
    assert isinstance(await pay(desk, 120, note="other words"), Outcome)
    assert isinstance(await pay(desk, 150), Outcome)
    assert isinstance(await pay(desk, 150.01), Pending)
    assert isinstance(await pay(desk, to="bo"), Pending)
    with pytest.raises(DeniedError):
        await pay(desk, 20000)
    with pytest.raises(DeniedError):
        await pay(desk, to="eve")


@pytest.mark.parametrize(("lasting", "asks"), [("session", True), ("always", False)])
async def test_a_session_ends_and_always_does_not(open_desk: Open, lasting: str, asks: bool) -> None:
    """Another session of the same user is asked again unless the answer was for always."""
    desk = await opened(open_desk)
    await respond(desk, await pay(desk), Answer(True, "boss", lasting=lasting))
    again = await opened(open_desk)
    assert isinstance(await pay(again), Pending) is asks
    other = await opened(open_desk, principal="eve@corp.example")
    assert isinstance(await pay(other), Pending), "another user's calls are not covered"


async def test_a_lasting_grant_ends_with_the_rules_that_asked(open_desk: Open) -> None:
    """Always outlives a revision that leaves those rules alone, and no other; a session grant outlives none."""
    desk = await opened(open_desk)
    await respond(desk, await pay(desk), Answer(True, "boss", lasting="always"))
    await respond(desk, await pay(desk, 160), Answer(True, "boss", lasting="session"))
    elsewhere = Policy.parse(POLICY + "models: {providers: {o: {kind: openai, models: [m]}}}\n")
    desk.system.monitor.reload(elsewhere, needs_of(elsewhere))
    assert isinstance(await pay(desk), Outcome)
    await pay(desk, 160)  # spends what was approved once, under either revision: see below
    changed = Policy.parse(POLICY.replace("min: 100}", "min: 90}"))
    desk.system.monitor.reload(changed, needs_of(changed))
    assert isinstance(await pay(desk), Pending)
    assert isinstance(await pay(desk, 160), Pending)


async def test_a_policy_that_takes_the_offer_back_ends_it(open_desk: Open) -> None:
    """Where lasting answers are no longer offered, those that were given count no more."""
    desk = await opened(open_desk)
    await respond(desk, await pay(desk), Answer(True, "boss", lasting="always"))
    assert isinstance(await pay(desk), Outcome)
    strict = Policy.parse(POLICY.replace("allow_always: true", "allow_always: false"))
    desk.system.monitor.reload(strict, needs_of(strict))
    assert isinstance(await pay(desk), Pending)


async def test_a_revoked_grant_is_over(open_desk: Open) -> None:
    """Revoking ends it at the next call."""
    desk = await opened(open_desk)
    await respond(desk, await pay(desk), Answer(True, "boss", lasting="always"))
    assert isinstance(await pay(desk), Outcome)
    assert isinstance(await pay(desk), Outcome)
    store: Any = desk.system.monitor.ports.approvals
    (grant,) = await store.list_standing()
    assert (grant.state, grant.uses) == ("live", 1), "the first call spent the single approval"
    assert await store.revoke_standing(grant.grant.id)
    assert isinstance(await pay(desk), Pending)
    assert not await store.revoke_standing(grant.grant.id)


@pytest.mark.parametrize(
    ("policy", "tool"),
    [
        (POLICY.replace("allow_session: true, allow_always: true", "allow_session: false"), "pay"),
        (POLICY.replace("approvals: {timeout: 10m, allow_session: true, allow_always: true}", ""), "pay"),
        (POLICY, "run"),
    ],
    ids=["not offered", "no approvals section", "a program"],
)
async def test_what_is_not_offered_cannot_be_answered(open_desk: Open, policy: str, tool: str) -> None:
    """A lasting answer beyond the offer is no answer; programs are approved one at a time."""
    desk = await opened(open_desk, policy)
    parked = await (pay(desk) if tool == "pay" else desk.call("run", argv="env curl x"))
    with pytest.raises(ActionError, match="not offered"):
        await respond(desk, parked, Answer(True, "boss", lasting="always"))
    assert (await respond(desk, parked, Answer(True, "boss"))).state == "approved"


async def test_a_lower_layer_cannot_offer(open_desk: Open) -> None:
    """A user's file that offers `always` does not offer it for what the organisation's file asks."""
    organisation = POLICY.replace("approvals: {timeout: 10m, allow_session: true, allow_always: true}", "name: org")
    layered = Policy.layered(
        [
            Policy.parse(organisation),
            Policy.parse("name: own\ntools: {pay: {allow: true}, run: {allow: true}}\napprovals: {allow_always: true}"),
        ]
    )
    desk = await opened(open_desk)
    desk.system.monitor.reload(layered, needs_of(layered))
    with pytest.raises(ActionError, match="not offered"):
        await respond(desk, await pay(desk), Answer(True, "boss", lasting="always"))


async def test_layers_without_a_common_approver_deny(open_desk: Open) -> None:
    """Two files that name different approvers leave nobody: that is a denial, not anybody."""
    two = [POLICY.replace("timeout: 10m", f"timeout: 10m, approvers: [{who}]") for who in ("lea", "max")]
    layered = Policy.layered([Policy.parse(f"name: l{number}\n" + text) for number, text in enumerate(two)])
    desk = await opened(open_desk)
    desk.system.monitor.reload(layered, needs_of(layered))
    with pytest.raises(DeniedError) as caught:
        await pay(desk)
    assert caught.value.decision.rules == ("runtime.no-approver",)


async def test_two_people_say_how_long(open_desk: Open) -> None:
    """The narrower of two answers holds: always and once is once."""
    desk = await opened(open_desk, POLICY.replace("timeout: 10m", "timeout: 10m, two_person: {}"))
    parked = await pay(desk)
    assert (await respond(desk, parked, Answer(True, "lea", lasting="always", width="same"))).state == "waiting"
    assert (await respond(desk, parked, Answer(True, "max"))).state == "approved"
    assert isinstance(await pay(desk), Outcome)
    assert isinstance(await pay(desk), Pending)


# ---- changed arguments ----------------------------------------------------------------------------------------------


async def test_changed_arguments_run_in_place(open_desk: Open) -> None:
    """The agent asks again as before; what runs is what the person made of it, once, and the agent is told."""
    desk = await opened(open_desk)
    changed = {"to": "ana", "amount": 120, "note": "less"}
    assert (await respond(desk, await pay(desk), Answer(True, "boss", arguments=changed))).state == "edited"
    outcome = await pay(desk, key="k")
    assert desk.calls == [("pay", changed)]
    assert outcome.note == "a person changed amount, note"
    assert (await pay(desk, key="k")).note == outcome.note, "the recorded outcome says it too"
    assert isinstance(await pay(desk), Pending)
    assert len(desk.calls) == 1


async def test_changed_arguments_may_need_no_approval(open_desk: Open) -> None:
    """Decided again from scratch: an amount that nobody needs to approve is simply allowed, once."""
    desk = await opened(open_desk)
    await respond(desk, await pay(desk), Answer(True, "boss", arguments={"to": "ana", "amount": 5, "note": ""}))
    assert isinstance(await pay(desk), Outcome)
    assert isinstance(await pay(desk), Pending)
    assert [call["amount"] for _, call in desk.calls] == [5]


@pytest.mark.parametrize(
    "arguments", [{"to": "eve", "amount": 5, "note": ""}, {"to": "ana", "amount": 99999, "note": ""}]
)
async def test_changed_arguments_reach_nothing_that_is_denied(open_desk: Open, arguments: dict[str, Any]) -> None:
    """An edit is no way round the policy: what it made is denied, and the ask is used up."""
    desk = await opened(open_desk)
    await respond(desk, await pay(desk), Answer(True, "boss", arguments=arguments))
    with pytest.raises(DeniedError):
        await pay(desk)
    assert desk.calls == []
    assert isinstance(await pay(desk), Pending)


async def test_an_edit_needs_the_second_person_too(open_desk: Open) -> None:
    """Where two must approve, the one who changed the arguments is one of them."""
    desk = await opened(open_desk, POLICY.replace("timeout: 10m", "timeout: 10m, two_person: {}"))
    first = await pay(desk)
    await respond(desk, first, Answer(True, "lea"))
    await respond(desk, first, Answer(True, "max", arguments={"to": "ana", "amount": 120, "note": ""}))
    second = await pay(desk)
    assert isinstance(second, Pending)
    assert second.approval_id != first.approval_id
    with pytest.raises(ActionError, match="one person answers once"):
        await respond(desk, second, Answer(True, "max"))
    await respond(desk, second, Answer(True, "lea"))
    assert isinstance(await pay(desk), Outcome)
    assert [call["amount"] for _, call in desk.calls] == [120]


async def test_editing_may_be_forbidden(open_desk: Open) -> None:
    """`allow_edit: false`: an answer with arguments is no answer."""
    desk = await opened(open_desk, POLICY.replace("timeout: 10m", "timeout: 10m, allow_edit: false"))
    with pytest.raises(ActionError, match="does not let"):
        await respond(desk, await pay(desk), Answer(True, "boss", arguments={"to": "ana", "amount": 1}))


async def test_an_approver_may_edit_at_once(open_desk: Open) -> None:
    """An SDK callback answers with an `Answer`: changed arguments run in the same call, under the approver's name."""
    answer = Answer(True, "boss", arguments={"to": "ana", "amount": 110, "note": "by hand"})
    desk = await opened(open_desk, approver=lambda _: answer)
    assert isinstance(await pay(desk), Outcome)
    assert [call["amount"] for _, call in desk.calls] == [110]
    (intent,) = intents(desk)
    assert intent["approvers"] == ["boss"]


# ---- spent last -----------------------------------------------------------------------------------------------------


async def test_a_spent_budget_does_not_cost_the_approval(open_desk: Open) -> None:
    """Reserve first, spend last: of two approved payments at once and a budget for one, the other keeps its approval."""
    desk = await opened(open_desk, POLICY + "budgets: [{name: calls, per: session, window: run, calls: 1}]\n")
    for amount in (150, 160):
        await respond(desk, await pay(desk, amount), Answer(True, "boss"))
    done = await asyncio.gather(pay(desk, 150), pay(desk, 160), return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["DeniedError", "Outcome"]
    store: Any = desk.system.monitor.ports.approvals
    assert sorted(each.state for each in await store.list(None)) == ["approved", "used"]


async def test_a_spent_rate_does_not_cost_the_approval(open_desk: Open) -> None:
    """The same for rates, and a budget that does not fit gives its call of the rate back."""
    policy = POLICY.replace("deny: {amount: {min: 10000}}", "rate: {calls: 1, per: session, window: 1h}")
    desk = await opened(open_desk, policy)
    parked = await pay(desk)
    await respond(desk, parked, Answer(True, "boss"))
    assert isinstance(await pay(desk, 5), Outcome)
    with pytest.raises(DeniedError):
        await pay(desk)
    store: Any = desk.system.monitor.ports.approvals
    assert [each.state for each in await store.list(None)] == ["approved"]


async def test_an_audit_that_fails_gives_the_approval_back(open_desk: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was done, so nothing was used: budget, and the person's answer."""
    desk = await opened(open_desk, POLICY + "budgets: [{name: calls, per: session, window: run, calls: 5}]\n")
    await respond(desk, await pay(desk), Answer(True, "boss"))
    audit: Any = desk.system.monitor.ports.audit
    append = audit.append

    def failing(record: Any) -> Any:
        if record["type"] == "intent":
            raise EffectError("disk full")
        return append(record)

    monkeypatch.setattr(type(audit), "append", lambda _, record: failing(record))
    with pytest.raises(DeniedError, match="audit"):
        await pay(desk)
    monkeypatch.undo()
    assert isinstance(await pay(desk), Outcome)
    assert len(desk.calls) == 1


async def test_one_approval_is_one_effect_under_a_race(open_desk: Open) -> None:
    """Ten callers at once with one approval: one runs, the others are denied or ask; what they reserved is back."""
    desk = await opened(open_desk, POLICY + "budgets: [{name: calls, per: session, window: run, calls: 20}]\n")
    await respond(desk, await pay(desk), Answer(True, "boss"))
    done = await asyncio.gather(*(pay(desk) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(each, Outcome) for each in done) == 1
    assert all(isinstance(each, Outcome | Pending | DeniedError) for each in done)
    assert len(desk.calls) == 1
    budgets = desk.system.monitor.ports.budgets
    assert budgets is not None
    (left,) = await budgets.left(["calls"])
    assert left.left["calls"] == 19


async def test_the_intent_names_who_approved(open_desk: Open) -> None:
    """The record of the effect holds the approval and the people behind it."""
    desk = await opened(open_desk)
    parked = await pay(desk)
    await respond(desk, parked, Answer(True, "boss"))
    await pay(desk)
    (intent,) = intents(desk)
    assert intent["approvals"] == [f"grt_{parked.approval_id}"]
    assert intent["approvers"] == ["boss"]


async def test_a_callbacks_answer_is_recorded_before_it_counts(open_desk: Open) -> None:
    """Who answered, what to, and how far stands in the audit; an answer not theirs to give is void and leaves the ask."""
    desk = await opened(
        open_desk, POLICY.replace("timeout: 10m", "timeout: 10m, approvers: [lea]"), approver=lambda _: True
    )
    assert isinstance(await pay(desk), Pending)
    said = [*records(desk.on_disk(), "approval.answered"), *records(desk.on_disk(), "approval.void")]
    assert [(record["type"], record["approver"]) for record in said] == [
        ("approval.answered", "application"),
        ("approval.void", "application"),
    ]


async def test_more_asks_than_may_wait_are_denied(open_desk: Open) -> None:
    """`max_waiting` holds for a tenant: an agent cannot bury its approvers."""
    desk = await opened(open_desk, POLICY.replace("timeout: 10m", "timeout: 10m, max_waiting: 3"))
    for amount in (101, 102, 103):
        assert isinstance(await pay(desk, amount), Pending)
    assert isinstance(await pay(desk, 101), Pending), "the same ask is no new one"
    with pytest.raises(DeniedError, match="wait already"):
        await pay(desk, 104)


# ---- sub-agents -----------------------------------------------------------------------------------------------------


async def test_a_child_gets_nothing_by_approval_that_it_does_not_hold(tmp_path: Path) -> None:
    """Law 11: what a child does not hold is denied, not asked; what it holds is asked under its own name, and a lasting
    answer to its parent does not cover it."""
    policy = POLICY + "agents: {roles: {payer: {tools: [pay]}, reader: {tools: [look]}}}\n"
    (tmp_path / "work").mkdir()
    answers: list[str] = []

    def approver(approval: Approval) -> Answer:
        answers.append(approval.agent)
        return Answer(True, "boss", lasting="session")

    async with AgentOS.open(
        Policy.parse(policy), principal="ana", workspace=tmp_path / "work", state=tmp_path / "state", approver=approver
    ) as system:
        paid: list[float] = []

        async def body(args: Any) -> Any:
            paid.append(args["amount"])
            return {}

        system.toolbox.register(PAY, body, code=b"pay")
        call = {"kind": "tool.call", "tool": "pay", "args": {"to": "ana", "amount": 150, "note": "x"}}

        async def run(child: AgentOS, _: str) -> Any:
            try:
                done = await child.aperform(call)
            except DeniedError as error:
                return list(error.decision.rules)
            return isinstance(done, Outcome)

        assert isinstance(await system.aperform(call), Outcome)
        assert await system.aspawn("reader", "pay it", run) == ["runtime.capability"]
        assert await system.aspawn("payer", "pay it", run) is True
        assert answers == ["main", "main/payer-2"]
        assert len(paid) == 2
