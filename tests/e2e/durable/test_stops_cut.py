"""A halt that cuts an effect of a durable task in two: the task stands still, and what may be repeated is done again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS
from agent_os.core.errors import EffectError, StoppedError
from agent_os.core.task import TaskState
from tests.e2e.durable.worker import POLICY


@pytest.mark.parametrize(
    ("action", "result"),
    [
        ({"kind": "fs.read", "path": "a.txt"}, "done again"),
        ({"kind": "process.exec", "argv": ["/usr/bin/sleep", "0"]}, "interrupted"),
    ],
)
async def test_an_effect_that_a_halt_cut_off(tmp_path: Path, action: dict[str, Any], result: str) -> None:
    """A read is done again after the release; a program fails as interrupted: it may have happened, and a person decides."""
    (tmp_path / "work").mkdir()
    (tmp_path / "policy.yaml").write_text(POLICY)
    begun = 0

    async def program(session: Any) -> str:
        async def cut(_action: Any) -> str:
            nonlocal begun
            begun += 1
            if begun == 1:
                await system.stops.ahalt(by="lea", reason="odd payments")
                raise StoppedError("ended: everything is halted by lea: odd payments")
            return "again"

        try:
            outcome = await session.monitor.perform(action, body=cut)
        except EffectError as error:
            return str(error)
        return f"done {outcome.value}"

    opened = AgentOS.open(
        tmp_path / "policy.yaml", principal="ana", workspace=tmp_path / "work", state=tmp_path / "state"
    )
    async with opened as system, system.worker({"p": program}):
        handle = await system.asubmit(program="p")
        async with asyncio.timeout(60):
            while (task := await handle.task()).state is not TaskState.SUSPENDED:
                assert not task.state.ended, task.reason
                await asyncio.sleep(0.02)
        assert "odd payments" in task.reason
        await system.stops.arelease("all", by="lea")
        assert result in await handle.result(within=60)
