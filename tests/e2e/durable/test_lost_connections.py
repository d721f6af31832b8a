"""Connections to a real PostgreSQL that break at the worst moment, and a server that is slow: nothing runs twice or is lost."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agent_os.core.budget import Budget
from agent_os.core.principal import Principal
from agent_os.core.task import TaskState
from agent_os.effects.durable import engine
from agent_os.effects.durable.postgres import PostgresDatabase
from agent_os.runtime.audit import open_audit
from tests.e2e.durable.pg_proxy import Wire, wire_to
from tests.e2e.durable.support import Site

RUNS = max(1, int(os.environ.get("RUNS", "6")) // 6)
KEY = base64.b64encode(bytes(range(32))).decode()
LAG_SECONDS = 1.0
"""What a busy machine may take from an event loop; a server that is waited for takes HELD_SECONDS."""
HELD_SECONDS = 3.0


@pytest.fixture
def wire(shared: Site) -> Iterator[Wire]:
    """A wire to a fresh database."""
    with wire_to(shared.tasks) as made:
        yield made


def _insert(ran: list[int], number: int) -> Any:
    def work(session: Any) -> int:
        ran.append(number)
        session.execute("INSERT INTO kept VALUES(?)", (number,))
        return number

    return work


async def _kept(database: PostgresDatabase) -> list[int]:
    rows = await database.look(lambda session: session.execute("SELECT n FROM kept ORDER BY n").fetchall())
    return [row[0] for row in rows]


@pytest.mark.parametrize(("how", "runs"), [("answer", 1), ("question", 2)])
async def test_a_connection_lost_at_a_commit(wire: Wire, how: str, runs: int) -> None:
    """A lost answer is no lost commit: work that was committed does not run again; work that was not does, once."""
    database = await asyncio.to_thread(PostgresDatabase(wire.url, "CREATE TABLE IF NOT EXISTS kept(n INTEGER)").open)
    try:
        wire.cuts.append(how)
        ran: list[int] = []
        assert await database.run(_insert(ran, 1)) == 1
        assert (wire.cut, ran) == (1, [1] * runs)
        assert await _kept(database) == [1]
    finally:
        await asyncio.to_thread(database.close)


async def test_a_shared_commit_that_is_lost(wire: Wire) -> None:
    """Many callers in shared transactions, every tenth COMMIT lost one way or the other: each row is there exactly once."""
    database = await asyncio.to_thread(PostgresDatabase(wire.url, "CREATE TABLE IF NOT EXISTS kept(n INTEGER)").open)
    try:
        seed = random.randrange(1 << 30)
        wire.chance = random.Random(seed)
        ran: list[int] = []
        answers = await asyncio.gather(*(database.run(_insert(ran, number)) for number in range(300)))
        rounds = 0
        while wire.cut < 6 and rounds < 200:
            answers.append(await database.run(_insert(ran, 300 + rounds)))
            rounds += 1
        wire.chance = None
        assert answers == list(range(300 + rounds)), f"seed {seed}"
        assert await _kept(database) == answers, f"seed {seed}"
    finally:
        await asyncio.to_thread(database.close)


def test_workers_whose_connections_are_cut(shared: Site, wire: Wire) -> None:
    """Two workers lose connections at random COMMITs: every task ends, no effect is done twice or passes for interrupted."""
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
    ids = [f"tsk_{number}" for number in range(4 * RUNS)]
    shared.submit(*(shared.request("family", id=each) for each in ids))
    shared.environment["AGENTOS_TASKS"] = wire.url
    wire.chance = random.Random(seed)
    shared.start(6.0)
    shared.start(6.0)
    shared.environment["AGENTOS_TASKS"] = shared.tasks
    ended = shared.wait(ids, 200.0)
    wire.chance = None
    assert wire.cut > 10
    assert [task.state for task in ended] == [TaskState.DONE] * len(ids), f"seed {seed}: {ended}"
    assert shared.repeated() == {}, f"seed {seed}"
    for task in ended:
        steps = task.result["steps"] + [step for child in task.result["children"] for step in child["value"]["steps"]]
        assert "interrupted" not in steps, f"seed {seed}: {task.id}"
    reader = open_audit(environment=shared.environment)
    assert all(reader.report(writer).ok for writer in reader.writers())


HOLDER = """
import sys, time
from agent_os.effects.durable.postgres import PostgresDatabase
database = PostgresDatabase(sys.argv[1], "CREATE TABLE IF NOT EXISTS kept(n INTEGER)").open()
database.run_sync(lambda session: session.execute("INSERT INTO kept VALUES(1)").rowcount)
def hold(session):
    session.execute("UPDATE kept SET n=2")
    print("holds", flush=True)
    time.sleep(600)
database.run_sync(hold)
"""


async def test_a_frozen_transaction_holds_nobody_up(shared: Site) -> None:
    """A process that freezes within a transaction loses its locks: what waits for its row goes on, and its change is undone."""
    program = [sys.executable, "-c", HOLDER, shared.tasks]
    holder = await asyncio.create_subprocess_exec(*program, stdout=subprocess.PIPE, env=shared.environment)
    database = await asyncio.to_thread(PostgresDatabase(shared.tasks, "").open)
    try:
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"holds\n"
        holder.send_signal(signal.SIGSTOP)
        changed = await database.run(lambda session: session.execute("UPDATE kept SET n=n+10").rowcount)
        assert (changed, await _kept(database)) == (1, [11])
    finally:
        holder.kill()
        await holder.wait()
        await asyncio.to_thread(database.close)


async def _lag(seconds: float) -> float:
    """Return by how much a heartbeat of this loop fell behind, at most."""
    worst, until = 0.0, time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.monotonic()
        await asyncio.sleep(0.01)
        worst = max(worst, time.monotonic() - begun - 0.01)
    return worst


async def test_a_slow_server_holds_up_no_loop(shared: Site, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server answers nothing for seconds, the loop of a worker, its budgets, asks and tasks goes on turning."""
    from tests.e2e.durable.worker import runtime

    monkeypatch.setenv("AGENTOS_SHARED", wire.url)
    tasks = [shared.request("naps", id=f"tsk_{number}", count=40) for number in range(4)]
    await asyncio.to_thread(shared.submit, *tasks)
    worker = await runtime(shared.state, 30.0, None, wire.url).open()
    try:
        stores = worker.state.stores
        view = stores.budgets.view([Budget("user/year", "user", "year", {"usd": 10.0})], Principal(user="ana"))
        assert stores.shared is not None
        wire.hold(True)
        waiting: list[Any] = [
            asyncio.ensure_future(view.left(["user/year"])),
            asyncio.ensure_future(view.reserve("r", {"user/year": {"usd": 1.0}})),
            asyncio.ensure_future(stores.approvals.list()),
            asyncio.ensure_future(worker.ledger.list()),
            asyncio.ensure_future(worker.schedules.list()),
        ]
        worst = await _lag(HELD_SECONDS)
        assert not any(each.done() for each in waiting), "the server was held"
        wire.hold(False)
        found = await asyncio.gather(*waiting)
        assert found[0][0].left == {"usd": 10.0} or found[0][0].left == {"usd": 9.0}
        assert found[1] is True
        assert worst < LAG_SECONDS, f"the loop stood still for {worst:.2f} s"
    finally:
        wire.hold(False)
        await worker.close()


async def _task(worker: Any) -> Any:
    return await worker.engine.get("tsk_1")


async def _parked(worker: Any) -> Any:
    while True:
        task = await _task(worker)
        if task.state is TaskState.WAITING_APPROVAL:
            return task
        assert not task.state.ended, task
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("tasks", ["shared", "sqlite"])
async def test_an_answer_in_a_shared_database_wakes_the_task_at_once(
    shared: Site, monkeypatch: pytest.MonkeyPatch, tasks: str
) -> None:
    """Nobody polls: an answer that another process gives on PostgreSQL is notified to the worker whose task waits for it."""
    from tests.e2e.durable.worker import runtime

    monkeypatch.setattr(engine, "ANSWERS_SECONDS", 3600.0)
    monkeypatch.setattr(engine, "LOOK_SECONDS", 3600.0)
    shared.environment["AGENTOS_SHARED"] = shared.tasks
    monkeypatch.setenv("AGENTOS_SHARED", shared.tasks)
    monkeypatch.setenv("AGENTOS_KEY_PAYLOAD", KEY)
    shared.environment["AGENTOS_KEY_PAYLOAD"] = KEY
    if tasks == "sqlite":
        shared.environment["AGENTOS_TASKS"] = shared.tasks = ""
    await asyncio.to_thread(shared.submit, shared.request("asker", id="tsk_1"))
    worker = await runtime(shared.state, 30.0, None, shared.tasks).open()
    try:
        async with asyncio.timeout(60):
            parked = await _parked(worker)
            answering = [sys.executable, "-m", "tests.e2e.durable.limits_worker", "answer", str(shared.state / "desk")]
            environment = {**shared.environment, "AGENTOS_KEY_PAYLOAD": KEY}
            process = await asyncio.create_subprocess_exec(
                *answering, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            said, _ = await process.communicate(b"go\n")
            assert b"approved" in said, parked
            while not (task := await _task(worker)).state.ended:
                await asyncio.sleep(0.02)
        assert task.state is TaskState.DONE, task
    finally:
        await worker.close()
