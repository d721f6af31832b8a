"""Tasks and schedules from an application: submitted, followed, awaited, by a session that may be gone meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS, Policy
from agent_os.core.errors import ActionError, DeniedError, EffectError
from agent_os.core.task import TaskState
from tests.e2e.durable.worker import POLICY, PROGRAMS, lines

TERMS = POLICY.replace(
    'schedules: {allow: [{name: "*"}]',
    'schedules: {max_active: 2, missed: skip, budgets: {calls: 4}, allow: [{name: "*"}]',
)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[AgentOS]:
    """An open session with a worker of its own beside it."""
    (tmp_path / "work").mkdir()
    (tmp_path / "policy.yaml").write_text(TERMS)
    opened = AgentOS.open(
        tmp_path / "policy.yaml", principal="ana", workspace=tmp_path / "work", state=tmp_path / "state"
    )
    async with opened, opened.worker(PROGRAMS):
        yield opened


async def test_a_task_is_submitted_followed_and_awaited(system: AgentOS) -> None:
    """The result of a program of the application's own comes back; its events name every effect and child, in order."""
    handle = await system.asubmit(program="family")
    events = [event async for event in handle.events()]
    result = await handle.result(within=90)
    assert [each["ok"] for each in result["children"]] == [True] * 4
    states = [event.what for event in events if event.kind == "state"]
    assert states[-1] == "done"
    done = [event.what for event in events if event.kind == "done"]
    assert done.count("tool.call append_line") == 10
    assert done.count("agent.spawn writer") == 4
    assert {event.what for event in events if event.kind == "child"} >= {"done"}
    assert (await system.task(handle.id).task()).state is TaskState.DONE


async def test_failures_and_cancels_are_told(system: AgentOS) -> None:
    """A task that fails or is cancelled raises in `result` with its reason; one id is one task."""
    failing = await system.asubmit(program="fails", id="once")
    with pytest.raises(EffectError, match="broken child"):
        await failing.result(within=90)
    again = await system.asubmit(program="fails", id="once")
    assert (await again.task()).created == (await failing.task()).created
    slow = await system.asubmit(program="slow", given={"seconds": 60})
    with pytest.raises(TimeoutError):
        await slow.result(within=0.3)
    await slow.cancel()
    with pytest.raises(EffectError, match="killed"):
        await slow.result(within=60)


async def test_a_schedule_on_the_policy_s_terms(system: AgentOS) -> None:
    """Missed runs as strictly as the policy says, so many active ones, and each run with an allowance of its own."""
    schedule = await system.aschedule("s", {"every": "1s"}, program="spender", given={"depth": 0}, missed="catch_up")
    assert schedule.missed == "skip"
    limit = asyncio.get_running_loop().time() + 60
    while not any(line.endswith(" 3") for line in lines(system.workspace)):
        assert asyncio.get_running_loop().time() < limit
        await asyncio.sleep(0.1)
    handles = await system._durable()._desk.ledger.list([TaskState.DONE], schedule="s")
    for run in handles:
        assert run.result["calls"] == 4
        assert run.result["rules"] == ["runtime.allowance"]
    await system.aschedule("t", "0 3 * * *", program="steps")
    with pytest.raises(ActionError, match="2 active schedules already"):
        await system.aschedule("u", "0 4 * * *", program="steps")
    with pytest.raises(DeniedError):
        await system.aschedule("forbidden", "0 4 * * *", program="steps")


async def test_a_file_that_appears_starts_a_run(system: AgentOS, tmp_path: Path) -> None:
    """Each file starts one run that is told its name; files that were there, and other names, start none."""
    inbox = tmp_path / "work" / "inbox"
    inbox.mkdir()
    (inbox / "old.pdf").write_text("x")
    await system.aschedule("in", {"event": {"file": "inbox/*.pdf"}}, program="told", overlap="queue")
    (inbox / "note.txt").write_text("x")
    (inbox / "new.pdf").write_text("x")
    limit = asyncio.get_running_loop().time() + 60
    while not lines(system.workspace):
        assert asyncio.get_running_loop().time() < limit
        await asyncio.sleep(0.1)
    (inbox / "next.pdf").write_text("x")
    while len(lines(system.workspace)) < 2:
        assert asyncio.get_running_loop().time() < limit
        await asyncio.sleep(0.1)
    await asyncio.sleep(2.5)
    assert lines(system.workspace) == ["inbox/new.pdf", "inbox/next.pdf"]


async def test_a_signal_starts_each_schedule_once(system: AgentOS) -> None:
    """The same event twice is one run for each schedule that waits for it, and none for others."""
    for name, event in (("a", "orders"), ("b", "other")):
        await system.aschedule(name, {"event": {"webhook": event}}, program="told", overlap="queue")
    schedules = system._durable()._desk.schedules
    for _ in range(2):
        tasks = await schedules.signal("webhook", "orders", {"files": ["x"]}, event_id="1")
    assert [task.schedule for task in tasks] == ["a"]
    await schedules.signal("webhook", "orders", {"files": ["y"]}, event_id="2")
    limit = asyncio.get_running_loop().time() + 60
    while len(lines(system.workspace)) < 2:
        assert asyncio.get_running_loop().time() < limit
        await asyncio.sleep(0.1)
    assert sorted(lines(system.workspace)) == ["x", "y"]


async def test_a_sub_agent_submits_nothing(tmp_path: Path) -> None:
    """What a child of the session may not do itself, it may not have done by a task or a schedule either."""
    (tmp_path / "work").mkdir()
    (tmp_path / "policy.yaml").write_text(POLICY)
    os_ = AgentOS.open(tmp_path / "policy.yaml", principal="ana", workspace=tmp_path / "work", state=tmp_path / "state")

    async def child(session: AgentOS, task: str) -> Any:
        for attempt in (session.asubmit(program="steps"), session.aschedule("s", "0 3 * * *", program="steps")):
            with pytest.raises(DeniedError) as caught:
                await attempt
            assert caught.value.decision.rules == ("runtime.child-submits",)
        return "refused"

    async with os_:
        assert await os_.aspawn("writer", "x", child) == "refused"


def test_a_session_without_a_loop(tmp_path: Path) -> None:
    """The synchronous face: submit, wait; a policy that is no file submits nothing, and says what to do."""
    (tmp_path / "work").mkdir()
    (tmp_path / "policy.yaml").write_text(POLICY)
    opened = AgentOS.open(
        tmp_path / "policy.yaml", principal="ana", workspace=tmp_path / "work", state=tmp_path / "state"
    )
    with opened as system:
        worker = system.worker(PROGRAMS)
        system.loop.run(worker.open())
        try:
            assert len(system.submit(program="steps").wait(within=90)["steps"]) == 10
        finally:
            system.loop.run(worker.close())
    memory = AgentOS.open(Policy.parse(POLICY), principal="ana", workspace=tmp_path / "work", state=tmp_path / "state")
    with memory as system, pytest.raises(ActionError, match="reads its policy again"):
        system.submit(program="steps")
