"""A ledger whose rows were damaged, planted, written by an older or by a newer version: clear errors, and the rest goes on."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.errors import EffectError
from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule, parse_trigger
from agent_os.core.task import TaskState
from agent_os.effects.durable.leases import Leases
from agent_os.effects.durable.rows import UNREADABLE
from agent_os.effects.durable.schedules import Schedules
from agent_os.effects.durable.schema import VERSION
from tests.e2e.durable.support import Site
from tests.e2e.durable.worker import lines

PICKLE = b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."
GARBAGE: tuple[Any, ...] = ("zzz", '{"', b"\xff\x00", -1, PICKLE, PICKLE.hex(), "[1,2", "\x00")
KEPT = {"id", "queue"}
"""Columns that say which row it is and who may see it: another value is another task."""


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] not in KEPT]


def _damaged(site: Site) -> list[str]:
    """Damage one column of one ready task each, in every way; return their ids."""
    with sqlite3.connect(site.state / "agents.db") as connection:
        columns = _columns(connection, "agentos_task")
        ids = [(f"bad_{column}_{number}", column, value) for column in columns for number, value in enumerate(GARBAGE)]
    site.submit(*(site.request("steps", id=each) for each, _, _ in ids))
    with sqlite3.connect(site.state / "agents.db") as connection:
        for each, column, value in ids:
            connection.execute(f"UPDATE agentos_task SET {column}=? WHERE id=?", (value, each))
    return [each for each, _, _ in ids]


def test_damaged_tasks_hold_up_no_others(site: Site) -> None:
    """Every column of a task's row holding every kind of garbage: other tasks end, lists show them, nothing spins or dies."""
    site.submit(site.request("steps", id="first"))
    bad = _damaged(site)
    site.start(5.0)
    fine = [f"fine_{number}" for number in range(6)]
    site.submit(*(site.request("steps", id=each) for each in fine))
    ended = site.wait(["first", *fine])
    assert [task.state for task in ended] == [TaskState.DONE] * 7, ended
    shown = {task.id: task for task in site.ledger(lambda ledger: ledger.list(limit=1000))}
    assert set(shown) == {*bad, *fine, "first"}
    briefly = site.ledger(lambda ledger: ledger.list(limit=1000, brief=True))
    assert {task.id for task in briefly} == set(shown)
    dead = [task for task in shown.values() if task.state is TaskState.DEAD]
    assert all(task.reason for task in dead), "a dead letter says why"
    sealed = [shown[f"bad_{column}_{number}"] for column in ("input", "rights") for number in range(len(GARBAGE))]
    assert {task.state for task in sealed} == {TaskState.DEAD}
    assert {task.reason for task in sealed} == {UNREADABLE}


def test_other_damaged_tables(site: Site) -> None:
    """Limits, shares, queues, workers, allowances, outcomes and schedules full of garbage: what stands apart goes on."""

    def schedule(name: str) -> Schedule:
        return Schedule(
            name=name, trigger=parse_trigger({"every": 1}), program="steps", input={}, owner=Principal(user="ana"),
            workspace=str(site.work), policies=(str(site.policy),),
        )  # fmt: skip

    for name in ("torn", "whole"):
        made = schedule(name)
        site.ledger(lambda ledger, made=made: Schedules(ledger).add(made))
    with sqlite3.connect(site.state / "agents.db") as connection:
        for number, value in enumerate(GARBAGE):
            names = (f"t{number}", f"t{number}", value, value, value)
            connection.execute("INSERT INTO agentos_limit VALUES('tenant',?,?,?,?)", (names[0], value, value, value))
            connection.execute("INSERT INTO agentos_share VALUES(?,?)", (f"t{number}", value))
            connection.execute("INSERT INTO agentos_worker VALUES(?,'h',1,?,?,?,?)", (f"w{number}", *names[2:], value))
            connection.execute("INSERT INTO agentos_outcome VALUES(?,?,?,?,?,?,?)", (f"k{number}", *[value] * 6))
            connection.execute("INSERT INTO agentos_allowance VALUES(?,'calls',?,?)", (f"a{number}", value, value))
        connection.execute("UPDATE agentos_schedule SET spec='zz' WHERE name='torn'")
    site.submit(*(site.request("steps", id=f"x{number}", tenant=f"t{number}") for number in range(len(GARBAGE))))
    (task,) = site.submit(site.request("steps", id="tsk_1"))
    site.start(5.0)
    (ended,) = site.wait([task.id])
    assert ended.state is TaskState.DONE
    limit = time.monotonic() + 60
    while not site.ledger(lambda ledger: ledger.list([TaskState.DONE], schedule="whole")):
        assert time.monotonic() < limit, "one torn schedule held up another one"
        time.sleep(0.1)
    with sqlite3.connect(site.state / "agents.db") as connection:
        torn = connection.execute("SELECT paused, note FROM agentos_schedule WHERE name='torn'").fetchone()
    assert torn == (1, UNREADABLE)
    assert site.ledger(lambda ledger: Leases(ledger).live()), "workers can be listed"
    held = site.ledger(lambda ledger: ledger.get("x0"))
    assert held.state is TaskState.READY, "a tenant whose limit cannot be read starts nothing"


def test_a_task_on_a_worker_that_never_was(site: Site) -> None:
    """A row that says it runs on a worker nobody knows is taken over like that of a dead one."""
    site.submit(site.request("steps", id="tsk_1"))
    with sqlite3.connect(site.state / "agents.db") as connection:
        connection.execute("UPDATE agentos_task SET state='running', worker='wrk_ghost' WHERE id='tsk_1'")
    site.start(1.5)
    (ended,) = site.wait(["tsk_1"])
    assert ended.state is TaskState.DONE


@pytest.mark.parametrize("where", ["site", "shared"])
def test_a_ledger_of_a_newer_version_is_refused(where: str, request: pytest.FixtureRequest) -> None:
    """Tables that say they need a later Agent OS are not opened, on SQLite and on PostgreSQL; additions are."""
    place: Site = request.getfixturevalue(where)
    place.submit(place.request("steps", id="tsk_1"))
    _said(place, VERSION + 1, VERSION)
    assert place.ledger(lambda ledger: ledger.get("tsk_1")).id == "tsk_1"
    _said(place, VERSION + 2, VERSION + 1)
    with pytest.raises(EffectError, match=f"newer Agent OS.*this is {VERSION}"):
        place.ledger(lambda ledger: ledger.get("tsk_1"))


def _said(site: Site, version: int, least: int) -> None:
    sql = f"UPDATE agentos_schema SET version={version}, least={least}"
    if not site.tasks:
        with sqlite3.connect(site.state / "agents.db") as connection:
            connection.execute(sql)
        return
    import psycopg

    with psycopg.connect(site.tasks, autocommit=True) as server:
        server.execute(sql)  # type: ignore[call-overload]


OLD = """
CREATE TABLE agentos_task(
  id TEXT PRIMARY KEY, program TEXT NOT NULL, input TEXT NOT NULL, principal TEXT NOT NULL, workspace TEXT NOT NULL,
  policies TEXT NOT NULL, queue TEXT NOT NULL, priority INTEGER NOT NULL, deadline DOUBLE PRECISION NOT NULL,
  parent TEXT NOT NULL, schedule TEXT NOT NULL, state TEXT NOT NULL, created DOUBLE PRECISION NOT NULL,
  started DOUBLE PRECISION NOT NULL, ended DOUBLE PRECISION NOT NULL, attempts INTEGER NOT NULL,
  token BIGINT NOT NULL, worker TEXT NOT NULL, approval TEXT NOT NULL, reason TEXT NOT NULL, result TEXT NOT NULL,
  wanted TEXT NOT NULL, queued INTEGER NOT NULL
);
CREATE TABLE agentos_outcome(
  key TEXT PRIMARY KEY, task TEXT NOT NULL, token BIGINT NOT NULL, action_digest TEXT NOT NULL,
  at DOUBLE PRECISION NOT NULL, value TEXT NOT NULL
);
CREATE TABLE agentos_schedule(
  name TEXT PRIMARY KEY, spec TEXT NOT NULL, paused INTEGER NOT NULL, next DOUBLE PRECISION NOT NULL,
  starts DOUBLE PRECISION NOT NULL, note TEXT NOT NULL
);
"""
_FIELDS = (
    "id, program, input, principal, workspace, policies, queue, priority, deadline, parent, schedule, state, created,"
    " started, ended, attempts, token, worker, approval, reason, result, wanted, queued"
)


def test_a_ledger_of_an_older_version_is_brought_up_to_date(site: Site, tmp_path: Path) -> None:
    """Tables of format 1 with a task that is ready and one that was running: both are done after the upgrade."""
    site.submit(site.request("steps", id="tsk_1"), site.request("steps", id="tsk_2"))
    database = site.state / "agents.db"
    with sqlite3.connect(database) as connection:
        rows = connection.execute(f"SELECT {_FIELDS} FROM agentos_task").fetchall()
    for file in site.state.glob("agents.db*"):
        file.unlink()
    with sqlite3.connect(database) as connection:
        connection.executescript(OLD)
        for row in rows:
            marks = ",".join("?" * len(row))
            connection.execute(f"INSERT INTO agentos_task({_FIELDS}) VALUES({marks})", row)
        connection.execute(
            "UPDATE agentos_task SET state='running', worker='old', attempts=1, token=1 WHERE id='tsk_2'"
        )
    database.chmod(0o600)
    site.start(1.5)
    ended = site.wait(["tsk_1", "tsk_2"])
    assert [task.state for task in ended] == [TaskState.DONE, TaskState.DONE]
    assert len(lines(str(site.work))) == 20
