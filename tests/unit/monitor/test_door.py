"""Law 8, step by step, on a real session: what is recorded before what, what runs, what never does."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Awaitable, Mapping
from typing import Any

import pytest

from agent_os import ActionError, DeniedError, Pending, Policy
from agent_os.core.action import ToolCall
from agent_os.core.approval import Answer
from agent_os.core.errors import EffectError
from agent_os.core.ports import Outcome
from agent_os.core.principal import Capability, Principal
from agent_os.runtime.compose import needs_of
from tests.unit.monitor.conftest import POLICY, Open


def records(text: str, kind: str) -> list[dict[str, Any]]:
    """Return the audit records of a type."""
    lines = (json.loads(line).get("record", {}) for line in text.splitlines())
    return [record for record in lines if record.get("type") == kind]


async def test_the_intent_is_on_disk_before_the_effect_begins(open_desk: Open) -> None:
    """An effect outside the process finds its own intent already durable."""
    desk = await open_desk()
    seen: list[int] = []
    desk.during = lambda: seen.append(len(records(desk.on_disk(), "intent")))
    outcome = await desk.call("send", to="ana", amount=5)
    assert isinstance(outcome, Outcome)
    assert outcome.ok
    assert seen == [1]


async def test_the_outcome_follows_its_intent_under_one_reference(open_desk: Open) -> None:
    """Every intent is closed by one outcome that names it."""
    desk = await open_desk()
    await desk.call("send", to="ana", amount=5)
    await desk.system.monitor.ports.audit.append({"type": "test.barrier"})
    text = desk.on_disk()
    (intent,) = records(text, "intent")
    (outcome,) = records(text, "outcome")
    assert intent["ref"] == outcome["ref"]
    assert outcome["ok"] is True
    assert intent["rules"]


async def test_a_denied_call_never_runs_and_is_recorded(open_desk: Open) -> None:
    """What no rule allows raises with the decision, runs nothing and leaves a record."""
    desk = await open_desk()
    with pytest.raises(DeniedError) as caught:
        await desk.call("send", to="mallory", amount=5)
    assert caught.value.decision.verdict == "deny"
    assert desk.calls == []
    await desk.system.monitor.ports.audit.append({"type": "test.barrier"})
    (denied,) = records(desk.on_disk(), "denied")
    assert denied["action"]["tool"] == "send"


async def test_values_never_enter_the_audit(open_desk: Open) -> None:
    """Arguments stand in the audit by name only; neither allowed nor denied values do."""
    desk = await open_desk()
    await desk.call("send", to="ana", amount=17)
    with pytest.raises(DeniedError):
        await desk.call("send", to="XX-very-secret-recipient", amount=3)
    await desk.system.monitor.ports.audit.append({"type": "test.barrier"})
    assert "very-secret" not in desk.on_disk()
    assert '"amount"' in desk.on_disk()


async def test_a_tool_the_registry_does_not_know_is_denied(open_desk: Open) -> None:
    """A name alone is no tool: identity comes from the registry."""
    desk = await open_desk(POLICY.replace("look:", "ghost: {allow: true}\n  look:"))
    with pytest.raises(DeniedError) as caught:
        await desk.call("ghost")
    assert caught.value.decision.rules == ("runtime.tool-not-registered",)


async def test_a_callers_tool_digest_and_principal_are_ignored(open_desk: Open) -> None:
    """Digest and principal are the registry's and the session's, whatever the action claims."""
    desk = await open_desk()
    forged = ToolCall(tool="look", args={}, tool_digest="sha256:forged", principal=Principal(user="root"))
    outcome = await desk.system.monitor.perform(forged)
    assert isinstance(outcome, Outcome)
    await desk.system.monitor.ports.audit.append({"type": "test.barrier"})
    (intent,) = records(desk.on_disk(), "intent")
    assert intent["user"] == "ana@corp.example"
    assert intent["action"]["tool_digest"] != "sha256:forged"


async def test_an_ask_parks_and_a_grant_opens_it_once(open_desk: Open) -> None:
    """An ask returns Pending; a person's answer lets exactly this action through, once."""
    desk = await open_desk()
    parked = await desk.call("send", to="ana", amount=150)
    assert isinstance(parked, Pending)
    assert desk.calls == []
    store = desk.system.monitor.ports.approvals
    assert store is not None
    await store.answer(parked.approval_id, Answer(True, "boss"), desk.system.monitor.ports.clock.now())
    outcome = await desk.call("send", to="ana", amount=150)
    assert isinstance(outcome, Outcome)
    again = await desk.call("send", to="ana", amount=150)
    assert isinstance(again, Pending)
    assert len(desk.calls) == 1


async def test_a_grant_discharges_no_other_action(open_desk: Open) -> None:
    """Another amount is another digest: the grant does not reach it."""
    desk = await open_desk()
    parked = await desk.call("send", to="ana", amount=150)
    assert isinstance(parked, Pending)
    store = desk.system.monitor.ports.approvals
    assert store is not None
    await store.answer(parked.approval_id, Answer(True, "boss"), desk.system.monitor.ports.clock.now())
    assert isinstance(await desk.call("send", to="ana", amount=151), Pending)
    assert desk.calls == []


async def test_a_grant_ends_with_its_policy_revision(open_desk: Open) -> None:
    """A policy that changed meanwhile asks anew."""
    desk = await open_desk()
    parked = await desk.call("send", to="ana", amount=150)
    assert isinstance(parked, Pending)
    monitor = desk.system.monitor
    assert monitor.ports.approvals is not None
    await monitor.ports.approvals.answer(parked.approval_id, Answer(True, "boss"), monitor.ports.clock.now())
    changed = Policy.parse(POLICY.replace("min: 100}", "min: 90}"))
    monitor.reload(changed, needs_of(changed))
    assert isinstance(await desk.call("send", to="ana", amount=150), Pending)
    assert desk.calls == []


async def test_a_deny_is_not_for_asking(open_desk: Open) -> None:
    """Deny beats ask: no approval is offered for what is denied."""
    desk = await open_desk()
    with pytest.raises(DeniedError):
        await desk.call("send", to="bo", amount=5000)
    assert desk.system.monitor.ports.approvals is not None
    assert list(await desk.system.monitor.ports.approvals.list()) == []


@pytest.mark.parametrize(("answer", "runs"), [(True, 1), (False, 0)])
async def test_an_approver_answers_at_once(open_desk: Open, answer: bool, runs: int) -> None:
    """An approver's yes performs the action in the same call; its no denies it."""
    desk = await open_desk(approver=lambda approval: (answer, "boss", "seen"))
    if answer:
        assert isinstance(await desk.call("send", to="ana", amount=150), Outcome)
    else:
        with pytest.raises(DeniedError):
            await desk.call("send", to="ana", amount=150)
    assert len(desk.calls) == runs


async def test_an_approver_that_raises_leaves_nothing_done(open_desk: Open) -> None:
    """An approver's failure is no approval."""

    def broken(approval: object) -> bool:
        raise RuntimeError("terminal went away")

    desk = await open_desk(approver=broken)
    with pytest.raises(DeniedError) as caught:
        await desk.call("send", to="ana", amount=150)
    assert caught.value.decision.rules == ("runtime.approver",)
    assert desk.calls == []


async def test_one_key_is_one_effect(open_desk: Open) -> None:
    """A recorded outcome is returned under its key; nothing runs or is decided again."""
    desk = await open_desk()
    first = await desk.call("send", to="ana", amount=5, key="k1")
    denied_now = Policy.parse("version: 1\ntools: {send: {deny: true}}")
    desk.system.monitor.reload(denied_now, needs_of(denied_now))
    second = await desk.call("send", to="ana", amount=5, key="k1")
    assert first == second
    assert len(desk.calls) == 1


async def test_concurrent_calls_under_one_key_are_one_effect(open_desk: Open) -> None:
    """Fifty callers with one key share one effect and one outcome."""
    desk = await open_desk()
    outcomes = await asyncio.gather(*(desk.call("send", to="ana", amount=5, key="k2") for _ in range(50)))
    assert len(desk.calls) == 1
    assert all(outcome == outcomes[0] for outcome in outcomes)


async def test_a_key_in_use_is_for_one_action(open_desk: Open) -> None:
    """Another action under a key that is in use is an error and never runs."""
    desk = await open_desk()
    first = asyncio.ensure_future(desk.call("send", to="ana", amount=5, key="k4"))
    await asyncio.sleep(0)
    with pytest.raises(ActionError):
        await desk.call("send", to="bo", amount=6, key="k4")
    await first
    assert desk.calls == [("send", {"to": "ana", "amount": 5})]


async def test_a_key_belongs_to_its_user(open_desk: Open) -> None:
    """Another user's call under the same key is an action of its own: no outcome crosses over."""
    ana = await open_desk()
    await ana.call("send", to="ana", amount=5, key="k6")
    bo = await open_desk(principal="bo@corp.example")
    await bo.call("send", to="ana", amount=5, key="k6")
    assert len(ana.calls) == len(bo.calls) == 1


async def test_no_name_of_a_tenant_or_user_reads_as_anothers_key(open_desk: Open) -> None:
    """ATTACK: tenant `acme/x` with user `bo`, and tenant `acme` with user `x/bo`: their outcomes under one key stay apart."""
    one = await open_desk(principal=Principal(tenant="acme/x", user="bo"))
    await one.call("send", to="ana", amount=5, key="k7")
    other = await open_desk(principal=Principal(tenant="acme", user="x/bo"))
    await other.call("send", to="ana", amount=5, key="k7")
    third = await open_desk(principal=Principal(tenant="acme%2Fx", user="bo"))
    await third.call("send", to="ana", amount=5, key="k7")
    assert len(one.calls) == len(other.calls) == len(third.calls) == 1


async def test_the_last_waiter_takes_the_effect_with_it(open_desk: Open) -> None:
    """Cancelling one of two callers leaves the effect to the other; cancelling both ends it."""
    desk = await open_desk()
    ended: list[str] = []

    async def body(action: object) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    action = {"kind": "tool.call", "tool": "look", "args": {}}
    perform = desk.system.monitor.perform
    tasks = [asyncio.ensure_future(perform(action, body=body, key="k5")) for _ in range(2)]
    await asyncio.sleep(0.1)
    tasks[0].cancel()
    await asyncio.sleep(0.05)
    assert ended == []
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert ended == ["cancelled"]


async def test_a_denied_call_gives_its_key_back(open_desk: Open) -> None:
    """Nothing was done under the key of a denied call, so it may be used once the policy allows."""
    desk = await open_desk()
    with pytest.raises(DeniedError):
        await desk.call("send", to="mallory", amount=5, key="k3")
    wider = Policy.parse("version: 1\ntools: {send: {allow: true}}")
    desk.system.monitor.reload(wider, needs_of(wider))
    assert isinstance(await desk.call("send", to="mallory", amount=5, key="k3"), Outcome)


async def test_concurrent_performs_are_all_recorded(open_desk: Open) -> None:
    """Two hundred calls at once leave two hundred intents and outcomes, each pair with a reference of its own."""
    desk = await open_desk()
    await asyncio.gather(*(desk.call("send", to="ana", amount=number % 90) for number in range(200)))
    await desk.system.monitor.ports.audit.append({"type": "test.barrier"})
    text = desk.on_disk()
    intents, outcomes = records(text, "intent"), records(text, "outcome")
    assert len({line["ref"] for line in intents}) == len(intents) == 200
    assert {line["ref"] for line in outcomes} == {line["ref"] for line in intents}


async def test_an_audit_that_cannot_be_written_denies(open_desk: Open) -> None:
    """When the log is closed under the monitor, nothing executes any more and the denial says why."""
    desk = await open_desk()
    await desk.call("send", to="ana", amount=5)
    for log in desk.system._open().state.logs:
        log.close()
    with pytest.raises(DeniedError) as caught:
        await desk.call("send", to="ana", amount=5)
    assert caught.value.decision.rules == ("runtime.audit-unavailable",)
    assert len(desk.calls) == 1


async def test_an_action_cannot_be_settled_twice(open_desk: Open) -> None:
    """`settle` closes an admission once; a second call changes nothing."""
    desk = await open_desk()
    admission = await desk.system.monitor.admit({"kind": "tool.call", "tool": "look", "args": {}})
    await desk.system.monitor.settle(admission, Outcome(1))
    await desk.system.monitor.settle(admission, Outcome(2))
    await desk.system.monitor.ports.audit.append({"type": "test.barrier"})
    assert len(records(desk.on_disk(), "outcome")) == 1


async def test_a_malformed_action_is_an_action_error(open_desk: Open) -> None:
    """Bad input names its field and is no denial."""
    desk = await open_desk()
    with pytest.raises(ActionError) as caught:
        await desk.system.monitor.perform({"kind": "tool.call", "tool": "look", "argz": {}})
    assert caught.value.field == "argz"
    assert "args" in str(caught.value)


async def test_a_child_holds_no_more_than_its_parent(open_desk: Open) -> None:
    """A child's monitor has only the capabilities it was given, and cannot be given what its parent lacks."""
    desk = await open_desk()
    child = desk.system.monitor.child("helper", (Capability("tool.call", frozenset({"look"})),))
    assert isinstance(await child.perform({"kind": "tool.call", "tool": "look", "args": {}}), Outcome)
    with pytest.raises(DeniedError):
        await child.perform({"kind": "tool.call", "tool": "send", "args": {"to": "ana", "amount": 1}})
    with pytest.raises(ActionError):
        child.child("grandchild", (Capability("tool.call", frozenset({"send"})),))


async def test_a_body_gets_the_final_action_and_its_failure_is_recorded(open_desk: Open) -> None:
    """What an in-process body raises reaches the caller, and the audit shows an outcome that is not ok."""
    desk = await open_desk()

    async def body(action: object) -> None:
        raise ValueError("broken tool")

    with pytest.raises(ValueError, match="broken tool"):
        await desk.system.monitor.perform({"kind": "tool.call", "tool": "look", "args": {}}, body=body)
    await desk.system.monitor.ports.audit.append({"type": "test.barrier"})
    (outcome,) = records(desk.on_disk(), "outcome")
    assert outcome["ok"] is False
    assert "broken tool" not in desk.on_disk()


async def test_an_effect_error_is_a_typed_failure(open_desk: Open) -> None:
    """The world's failure is an Outcome with an error, not an exception."""
    desk = await open_desk()

    async def body(action: object) -> None:
        raise EffectError("unreachable")

    outcome = await desk.system.monitor.perform({"kind": "tool.call", "tool": "look", "args": {}}, body=body)
    assert isinstance(outcome, Outcome)
    assert outcome.error == "failed"


async def test_an_effect_that_goes_on_for_ever_is_cut_off(open_desk: Open) -> None:
    """The time an effect has ends it; a time-out of the tool's own is the tool's failure and says nothing of the door's."""
    desk = await open_desk()
    monitor = desk.system.monitor
    monitor._ports = dataclasses.replace(monitor.ports, execute_timeout_s=0.05)

    async def endless(action: object) -> None:
        await asyncio.sleep(60)

    async def its_own(action: object) -> None:
        raise TimeoutError("the tool's server did not answer")

    look = {"kind": "tool.call", "tool": "look", "args": {}}
    outcome = await monitor.perform(look, body=endless)
    assert isinstance(outcome, Outcome)
    assert (outcome.error, outcome.detail) == ("timeout", "not finished after 0.05 s")
    with pytest.raises(TimeoutError, match="the tool's server"):
        await monitor.perform(look, body=its_own)
    await monitor.ports.audit.append({"type": "test.barrier"})
    assert [item["error"] for item in records(desk.on_disk(), "outcome")] == ["timeout", "raised"]


async def test_a_cancelled_effect_is_closed(open_desk: Open) -> None:
    """Cancelling a caller leaves an outcome `cancelled`, not an intent that hangs."""
    desk = await open_desk()

    async def body(action: object) -> None:
        await asyncio.sleep(60)

    task = asyncio.ensure_future(
        desk.system.monitor.perform({"kind": "tool.call", "tool": "look", "args": {}}, body=body)
    )
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await desk.system.monitor.ports.audit.append({"type": "test.barrier"})
    (outcome,) = records(desk.on_disk(), "outcome")
    assert outcome["error"] == "cancelled"


RATED = """
version: 1
tools:
  send: {allow: true, rate: {calls: 2, window: 1h, per: user}}
"""


async def test_a_rate_limit_counts_over_sessions_of_one_user(open_desk: Open) -> None:
    """The third call in the window is denied, in another session of the same user too; another user's is not."""
    first = await open_desk(RATED)
    await first.call("send", to="ana", amount=1)
    second = await open_desk(RATED)
    await second.call("send", to="ana", amount=2)
    for desk in (first, second):
        with pytest.raises(DeniedError):
            await desk.call("send", to="ana", amount=3)
    other = await open_desk(RATED, principal="bo@corp.example")
    assert isinstance(await other.call("send", to="ana", amount=3), Outcome)


BUDGETED = """
version: 1
tools: {send: {allow: true}}
budgets: [{per: user, window: day, calls: 3}]
"""


async def test_a_budget_is_reserved_before_and_denied_when_spent(open_desk: Open) -> None:
    """Concurrent calls cannot overspend a budget, and a spent one is denied by name."""
    desk = await open_desk(BUDGETED)
    results = await asyncio.gather(
        *(desk.call("send", to="ana", amount=number) for number in range(10)), return_exceptions=True
    )
    assert len(desk.calls) == 3
    assert sum(isinstance(result, DeniedError) for result in results) == 7


async def test_a_budget_of_seconds_counts_what_effects_took(open_desk: Open) -> None:
    """A second is reserved for an effect and what it took is counted; the next that does not fit any more is denied."""
    desk = await open_desk(BUDGETED.replace("calls: 3", "seconds: 1.005"))
    desk.during = lambda: time.sleep(0.01)
    assert await desk.call("send", to="ana", amount=1)
    with pytest.raises(DeniedError, match="not enough seconds"):
        await desk.call("send", to="ana", amount=2)
    assert len(desk.calls) == 1


class Stuck:
    """An audit whose disk does not answer until it is let go: real records, and nobody's wait ends before."""

    def __init__(self, real: Any) -> None:
        self.real, self.waited, self.go = real, asyncio.Event(), asyncio.Event()

    def append(self, record: Mapping[str, Any]) -> Awaitable[None]:
        durable = self.real.append(record)

        async def later() -> None:
            self.waited.set()
            await self.go.wait()
            await durable

        return later() if record["type"] == "intent" else durable


async def test_an_admission_that_is_given_up_uses_nothing(open_desk: Open) -> None:
    """A caller cancelled while its intent is written gets its budget and its key back, and the record is closed."""
    desk = await open_desk(BUDGETED)
    monitor = desk.system.monitor
    stuck = Stuck(monitor.ports.audit)
    monitor._ports = dataclasses.replace(monitor.ports, audit=stuck)
    for number in range(5):
        stuck.waited.clear()
        task = asyncio.ensure_future(desk.call("send", to="ana", amount=number, key="k"))
        await stuck.waited.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert desk.calls == []
    stuck.go.set()
    for number in range(3):
        assert isinstance(await desk.call("send", to="ana", amount=number, key=f"k{number or ''}"), Outcome)
    await stuck.real.append({"type": "test.barrier"})
    text = desk.on_disk()
    assert {line["ref"] for line in records(text, "intent")} == {line["ref"] for line in records(text, "outcome")}


async def test_a_result_that_cannot_be_kept_is_not_done_again(open_desk: Open) -> None:
    """A value that is no JSON reaches its caller; under the same key it is known as done, and not done twice."""
    desk = await open_desk()
    done = []

    async def body(action: object) -> object:
        done.append(action)
        return object()

    wire = {"kind": "tool.call", "tool": "look", "args": {}}
    first = await desk.system.monitor.perform(wire, body=body, key="k")
    again = await desk.system.monitor.perform(wire, body=body, key="k")
    assert isinstance(first, Outcome)
    assert first.ok
    assert isinstance(again, Outcome)
    assert again.error == "not-kept"
    assert "it was done" in again.detail
    assert len(done) == 1


NETWORKED = """
version: 1
network_policies:
  api: {endpoints: [{host: api.corp.example, port: 443, protocol: rest, access: read-only}]}
"""


async def test_a_name_no_rule_can_allow_is_never_resolved(open_desk: Open) -> None:
    """A denied request leaks nothing in a DNS question; one that a rule names is resolved, and judged by its address."""
    desk = await open_desk(NETWORKED)
    asked: list[str] = []

    class Recording:
        async def resolve(self, host: str, port: int) -> tuple[str, ...]:
            asked.append(host)
            return ("127.0.0.1",)

    monitor = desk.system.monitor
    monitor._ports = dataclasses.replace(monitor.ports, resolver=Recording())
    for host in ("secret-value.attacker.example", "api.corp.example"):
        with pytest.raises(DeniedError):
            await monitor.perform({"kind": "net.request", "host": host, "port": 443, "method": "GET", "path": "/"})
    assert asked == ["api.corp.example"]
