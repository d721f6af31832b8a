"""A PostgreSQL ledger whose rows were damaged or planted: other tasks go on, what cannot be read is a dead letter."""

from __future__ import annotations

import time
from typing import Any, Final

import psycopg

from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule, parse_trigger
from agent_os.core.task import TaskState
from agent_os.effects.durable.leases import Leases
from agent_os.effects.durable.rows import UNREADABLE
from agent_os.effects.durable.schedules import Schedules
from tests.e2e.durable.support import Site
from tests.e2e.durable.test_damage import KEPT, PICKLE

TEXTS: Final = ("zzz", '{"', PICKLE.hex(), "[1,2", "-1")
NUMBERS: Final = {
    "integer": (-1, 2**31 - 1),
    "bigint": (-1, 2**63 - 1),
    "double precision": (-1.0, float("nan"), float("inf"), 1e308),
}
"""What a column of each type can hold that no version of ours writes."""


def _server(site: Site) -> psycopg.Connection[Any]:
    return psycopg.connect(site.tasks, autocommit=True)


def _columns(connection: psycopg.Connection[Any], table: str) -> list[tuple[str, str]]:
    sql = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name=%s AND table_schema='public'"
    return [(row[0], row[1]) for row in connection.execute(sql, (table,)) if row[0] not in KEPT]


def test_damaged_tasks_hold_up_no_others(shared: Site) -> None:
    """Every column of a task's row holding whatever its type lets it hold: other tasks end, lists show all, nothing spins."""
    shared.submit(shared.request("steps", id="first"))
    with _server(shared) as connection:
        bad = [
            (f"bad_{column}_{number}", column, value)
            for column, kind in _columns(connection, "agentos_task")
            for number, value in enumerate(NUMBERS.get(kind, TEXTS))
        ]
    assert len({column for _, column, _ in bad}) > 25
    shared.submit(*(shared.request("steps", id=each) for each, _, _ in bad))
    with _server(shared) as connection:
        for each, column, value in bad:
            connection.execute(f"UPDATE agentos_task SET {column}=%s WHERE id=%s", (value, each))  # type: ignore[call-overload]
    shared.start(5.0)
    fine = [f"fine_{number}" for number in range(6)]
    shared.submit(*(shared.request("steps", id=each) for each in fine))
    ended = shared.wait(["first", *fine])
    assert [task.state for task in ended] == [TaskState.DONE] * 7, ended
    for brief in (False, True):
        shown = {
            task.id: task for task in shared.ledger(lambda ledger, brief=brief: ledger.list(limit=1000, brief=brief))
        }
        assert set(shown) == {*(each for each, _, _ in bad), *fine, "first"}
    sealed = [shown[each] for each, column, _ in bad if column in ("input", "rights")]
    assert {task.state for task in sealed} == {TaskState.DEAD}
    assert {task.reason for task in sealed} == {UNREADABLE}


def test_other_damaged_tables(shared: Site) -> None:
    """Limits, shares, workers, allowances, outcomes and schedules full of garbage: what stands apart goes on."""
    for name in ("torn", "whole"):
        made = Schedule(
            name=name, trigger=parse_trigger({"every": 1}), program="steps", input={}, owner=Principal(user="ana"),
            workspace=str(shared.work), policies=(str(shared.policy),),
        )  # fmt: skip
        shared.ledger(lambda ledger, made=made: Schedules(ledger).add(made))
    worst = float("nan")
    with _server(shared) as connection:
        connection.execute("INSERT INTO agentos_limit VALUES('tenant','t0',-5,-5,%s)", (worst,))
        connection.execute("INSERT INTO agentos_share VALUES('t0',%s)", (worst,))
        connection.execute("INSERT INTO agentos_allowance VALUES('tsk_0','calls',%s,%s)", (worst, worst))
        for number, text in enumerate(TEXTS):
            connection.execute(
                "INSERT INTO agentos_worker VALUES(%s,%s,-1,%s,%s,%s,%s)",
                (f"w{number}", text, worst, worst, text, text),
            )
            connection.execute(
                "INSERT INTO agentos_outcome VALUES(%s,'tsk_1',-1,%s,%s,%s,%s)", (f"k{number}", text, worst, text, text)
            )
        connection.execute("UPDATE agentos_schedule SET spec='zz' WHERE name='torn'")
    (task,) = shared.submit(shared.request("steps", id="tsk_1"))
    shared.start(5.0)
    (ended,) = shared.wait([task.id])
    assert ended.state is TaskState.DONE
    limit = time.monotonic() + 60
    while not shared.ledger(lambda ledger: ledger.list([TaskState.DONE], schedule="whole")):
        assert time.monotonic() < limit, "one torn schedule held up another one"
        time.sleep(0.1)
    with _server(shared) as connection:
        torn = connection.execute("SELECT paused, note FROM agentos_schedule WHERE name='torn'").fetchone()
    assert torn == (1, UNREADABLE)
    assert shared.ledger(lambda ledger: Leases(ledger).live()), "workers can be listed"


def test_a_task_on_a_worker_that_never_was(shared: Site) -> None:
    """A row that says it runs on a worker nobody knows is taken over like that of a dead one."""
    shared.submit(shared.request("steps", id="tsk_1"))
    with _server(shared) as connection:
        connection.execute("UPDATE agentos_task SET state='running', worker='wrk_ghost' WHERE id='tsk_1'")
    shared.start(1.5)
    (ended,) = shared.wait(["tsk_1"])
    assert ended.state is TaskState.DONE
