"""Two tenants on one ledger: what one names of the other's is not there, and names that both chose never meet."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent_os import AgentOS, Pending, Principal
from agent_os.cli.tenant import app as tenant_verbs
from agent_os.core.errors import EffectError
from agent_os.runtime.audit import open_audit
from agent_os.runtime.stopping import open_stops
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


WHOLE = """
version: 1
filesystem_policy: {include_workdir: true}
memory: {read: ["*"], write: ["*"]}
tools: {read_file: {allow: true}, write_file: {allow: true, ask: true}}
schedules: {allow: [{name: "*"}]}
budgets: [{per: user, window: month, calls: 100}]
audit: {payloads: encrypted}
"""


def rows_of(file: Path) -> list[str]:
    """Return every row of every table as text: a table that nobody thought of is seen too."""
    with closing(sqlite3.connect(file)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return [f"{table} {row}" for table in tables for row in connection.execute(f"SELECT * FROM {table}")]


async def kept(session: Any) -> Any:
    """Do nothing and return something."""
    return {"of": session.principal.tenant}


async def test_a_tenant_is_exported_and_erased_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything of a tenant is written out and taken out, once it is quarantined and nothing of it runs; the other tenant's rows, whose
    name begins alike, stay as they were; the audit verifies, and says that it was done.
    """
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.txt").write_text("a")
    (tmp_path / "policy.yaml").write_text(WHOLE)
    state = tmp_path / "state"
    for tenant in ("acme", "acme2"):
        who = Principal(tenant=tenant, user=f"{tenant}-ana")
        async with AgentOS.open(
            tmp_path / "policy.yaml", principal=who, workspace=tmp_path / "work", state=state
        ) as system:
            async with system.worker({"kept": kept}):
                await (await system.asubmit(program="kept", id="one")).result(within=60)
                await system.aschedule("nightly", {"every": "1h"}, program="kept")
            await system.aperform({"kind": "memory.write", "key": "notes", "value": f"word of {tenant}"})
            read = {"kind": "tool.call", "tool": "read_file", "args": {"path": "a.txt"}}
            assert (await system.aperform(read, key="k")).ok
            written = {"kind": "tool.call", "tool": "write_file", "args": {"path": "b.txt", "content": "x"}}
            assert isinstance(await system.aperform(written), Pending)
    monkeypatch.setenv("AGENTOS_STATE", str(state))

    def run(*words: str) -> Any:
        return asyncio.to_thread(CliRunner().invoke, tenant_verbs, list(words))

    before = [json.loads((await run("show", name, "--json")).stdout) for name in ("acme", "acme2")]
    assert before[0] == before[1]
    empty = {
        "pseudonyms of all users",
        "messages",
        "sessions",
        "limits",
        "lasting grants",
        "labels of memories",
        "labels of sessions",
    }
    assert {what for what, count in before[0].items() if not count} <= empty
    assert "quarantine tenant acme --kill" in str((await run("erase", "acme", "--yes")).exception)
    assert (await run("export", "acme", "--to", str(tmp_path / "acme.json"))).exit_code == 0
    text = (tmp_path / "acme.json").read_text()
    assert "word of acme" in text
    assert "acme2" not in text
    desk = await asyncio.to_thread(open_stops)
    await desk.stop("tenant", "acme")
    await asyncio.to_thread(desk.close)
    assert (await run("erase", "acme", "--yes")).exit_code == 0
    after = [json.loads((await run("show", name, "--json")).stdout) for name in ("acme", "acme2")]
    assert not any(after[0].values())
    assert after[1] == before[1]
    assert [row for file in state.glob("*.db") for row in rows_of(file) if "acme" in row.replace("acme2", "")] == []
    audit = open_audit(environment={"AGENTOS_STATE": str(state)})
    assert all(audit.report(writer).ok for writer in audit.writers())
    (erased,) = [record for record in audit.records() if record["type"] == "tenant.erased"]
    assert (erased["tenant"], erased["rows"]) == ("acme", before[0])
