"""A policy file that changes while a durable run is under way: what it says now holds, in every part of the run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS
from agent_os.core.errors import DeniedError, PolicyError
from agent_os.core.task import Task, TaskState
from agent_os.runtime.tasks import in_force
from agent_os.runtime.tasks.in_force import TaskPolicies
from agent_os.runtime.tasks.session import TaskSession

POLICY = """
version: 1
extends: [pack:baseline]
filesystem_policy: {include_workdir: true}
"""
BUDGET = "budgets:\n  - {per: session, window: run, calls: %d}\n"


def task_of(policy: Path) -> Task:
    """A task of one policy file, as far as policies look at it."""
    found: Any = type("Row", (), {"input": {}, "policies": (str(policy),), "program": "x", "id": "t"})()
    return found


async def test_a_budget_that_shrinks_holds_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget made smaller by the file denies the run's next effect; left alone, the same effects pass."""
    monkeypatch.setattr(in_force, "POLICY_SECONDS", 0.0)
    policy, work = tmp_path / "policy.yaml", tmp_path / "work"
    work.mkdir()

    async def reads(session: TaskSession) -> list[str]:
        said = []
        for turn in range(6):
            if turn == 3 and session.task.input.get("shrinks"):
                policy.write_text(POLICY + BUDGET % 2 + "# changed\n")
            try:
                await session.perform({"kind": "tool.call", "tool": "list_files", "args": {"path": "."}})
                said.append("done")
            except DeniedError as error:
                said.append(error.decision.rules[0])
        return said

    policy.write_text(POLICY + BUDGET % 100)
    opened = AgentOS.open(policy, principal="ana", workspace=work, state=tmp_path / "state")
    async with opened, opened.worker({"reads": reads}):
        for shrinks in (False, True):
            handle = await opened.asubmit(program="reads", given={"shrinks": shrinks})
            async with asyncio.timeout(60):
                said = await handle.result()
            assert said[:3] == ["done"] * 3
            assert all((each != "done") is shrinks for each in said[3:]), said
            assert (await handle.task()).state is TaskState.DONE


async def test_files_that_do_not_load_begin_no_run(tmp_path: Path) -> None:
    """As long as a file is broken every new run fails, also within the second after it was looked at; mended, they run."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    policies = TaskPolicies()
    before = await policies.of(task_of(policy))
    held = next(iter(policies._held.values()))

    policy.write_text(POLICY + "network: [\n")
    held.looked -= in_force.POLICY_SECONDS
    for _ in range(2):  # the second look comes within the second of the first
        with pytest.raises(PolicyError):
            await policies.of(task_of(policy))

    policy.write_text(POLICY + BUDGET % 7)
    held.looked -= in_force.POLICY_SECONDS
    after = await policies.of(task_of(policy))
    assert after.digest != before.digest
