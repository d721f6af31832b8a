"""Two tenants on one ledger: what one names of the other's is not there, and names that both chose never meet."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent_os import AgentOS, Principal
from agent_os.core.errors import EffectError
from agent_os.runtime.tasks.desk import open_tasks
from tests.e2e.durable.worker import POLICY, PROGRAMS


@pytest.mark.parametrize(
    "other", [Principal(tenant="bolt", user="ana"), Principal(tenant="acme", user="bo"), Principal(user="acme/ana")]
)
async def test_tasks_and_schedules_of_another_are_not_there(tmp_path: Path, other: Principal) -> None:
    """An id that both chose is two tasks; the other's is not read, followed, cancelled or resumed, by its id or a part of it; a
    schedule's name of another tenant is free. The owner does all of it.
    """
    (tmp_path / "work").mkdir()
    (tmp_path / "policy.yaml").write_text(POLICY)
    owner = Principal(tenant="acme", user="ana")
    async with AsyncExitStack() as stack:
        ours, theirs = [
            await stack.enter_async_context(
                AgentOS.open(
                    tmp_path / "policy.yaml", principal=who, workspace=tmp_path / "work", state=tmp_path / "state"
                )
            )
            for who in (owner, other)
        ]
        await stack.enter_async_context(ours.worker(PROGRAMS))
        slow = await ours.asubmit(program="slow", given={"seconds": 60}, id="report-1")
        again = await ours.asubmit(program="slow", given={"seconds": 60}, id="report-1")
        assert again.id == slow.id == (await ours.task("report-1").task()).id
        for name in ("report-1", slow.id, slow.id[:12]):
            handle = theirs.task(name)
            for attack in (handle.task, handle.cancel, handle.suspend, handle.resume, handle.result):
                with pytest.raises(EffectError, match="no task has the id"):
                    await attack()
            with pytest.raises(EffectError, match="no task has the id"):
                [event async for event in handle.events()]
        same = await theirs.asubmit(program="slow", given={"seconds": 60, "mine": 1}, id="report-1")
        assert same.id != slow.id
        found = await same.task()
        assert (found.principal.tenant, found.principal.user, found.input["mine"]) == (other.tenant, other.user, 1)
        await same.cancel()
        assert not (await slow.task()).wanted
        await slow.cancel()
        made = await ours.aschedule("nightly", {"every": "1h"}, program="slow")
        if other.tenant == owner.tenant:
            return
        theirs_too = await theirs.aschedule("nightly", {"every": "1h"}, program="slow")
        runs = {each.run_id(due) for each in (made, theirs_too) for due in (7200.0,)}
        assert len({made.key, theirs_too.key, *runs}) == 4
    desk = open_tasks(environment={"AGENTOS_STATE": str(tmp_path / "state")})
    assert {each.key for each in await desk.schedules.list()} == {made.key, theirs_too.key}
    desk.close()
