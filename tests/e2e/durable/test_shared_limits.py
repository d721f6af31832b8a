"""Limits over several machines: real processes with state directories of their own on one real PostgreSQL."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.approval import Answer, Approval
from agent_os.core.budget import SCALE
from agent_os.core.errors import EffectError, IntegrityError
from agent_os.core.task import TaskRequest
from agent_os.effects.stores.shared import HOLDER_SECONDS
from agent_os.runtime.approvals import open_desk
from agent_os.runtime.audit import open_audit
from agent_os.runtime.state import State, open_state
from agent_os.runtime.tasks.desk import open_tasks
from tests.e2e.durable.limits_worker import ANA, BUDGET, RATE
from tests.e2e.durable.worker import POLICY, lines

WORKERS = 4


class Machines:
    """Machines that share a database: each has a state directory and a process."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        key = base64.b64encode(bytes(range(32))).decode()
        self.environment = {**os.environ, "AGENTOS_SHARED": url, "AGENTOS_KEY_PAYLOAD": key, "AGENTOS_TASKS": ""}
        self.processes: list[subprocess.Popen[str]] = []

    def place(self, name: str) -> Path:
        """Return a machine's state directory: without a shared database all are processes of one machine."""
        return self.root / (name if self.environment["AGENTOS_SHARED"] else "one")

    def open(self, name: str = "here") -> State:
        """Open one machine's state in this process."""
        return open_state(environment={**self.environment, "AGENTOS_STATE": str(self.place(name))})

    def start(self, work: str, name: str) -> subprocess.Popen[str]:
        """Start a machine and wait until it stands."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.durable.limits_worker", work, str(self.place(name))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment,
        )  # fmt: skip
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def work(self, name: str) -> subprocess.Popen[str]:
        """Start a worker of durable tasks on a machine of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.durable.worker", str(self.root / name), "2.0"],
            stdout=subprocess.PIPE, text=True, env=self.environment,
        )  # fmt: skip
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        return process

    def together(self, work: str) -> list[Any]:
        """Let every machine do the same at once; return what each got."""
        running = [self.start(work, f"machine{number}") for number in range(WORKERS)]
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=120)[0]) for process in running]

    def close(self) -> None:
        """End every process that is left."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def machines(tmp_path: Path, postgres: str, request: pytest.FixtureRequest) -> Iterator[Machines]:
    """Machines on a fresh database."""
    import psycopg

    name = f"l{abs(hash(request.node.nodeid)):x}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
    made = Machines(tmp_path, postgres.replace("/postgres?", f"/{name}?"))
    yield made
    made.close()


@pytest.fixture(params=["postgresql", "sqlite"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machines]:
    """Machines on a shared database, and processes on one `state.db`."""
    if request.param == "postgresql":
        yield request.getfixturevalue("machines")
        return
    made = Machines(tmp_path, "")
    yield made
    made.close()


def ask(number: int, **changes: Any) -> Approval:
    """Return an ask that lives ten minutes."""
    values: dict[str, Any] = {
        "id": f"apr_{number}", "action": {"kind": "tool.call"}, "action_digest": f"sha256:{number}",
        "policy_digest": "sha256:p", "rules": ("tools.send.ask",), "reason": "amount is at least 100",
        "requested_at": time.time(), "expires_at": time.time() + 600.0, "requester": "ana",
    }  # fmt: skip
    return Approval(**{**values, **changes})


def fill(machines: Machines, work: Callable[[State], Any]) -> Any:
    """Do something on this machine's state."""
    state = machines.open()
    try:
        return asyncio.run(work(state))
    finally:
        state.close()


def test_a_budget_is_never_overspent_by_machines_at_once(either: Machines) -> None:
    """Four processes that reserve as fast as they can get exactly what the budget has, and what was unused comes back."""
    taken = either.together("budgets")
    assert sum(taken) == 25, taken

    async def left(state: State) -> Any:
        return await state.stores.budgets.view(BUDGET, ANA).left(["user/year"])

    (budget,) = fill(either, left)
    assert budget.left == {"usd": 10.0 - 25 * 0.25, "calls": 0.0}


def test_a_rate_is_one_rate_for_all(either: Machines) -> None:
    """Thirty calls an hour are thirty, however many processes ask; a call given back may be taken again."""
    assert sum(either.together("rates")) == 30

    async def again(state: State) -> Any:
        rates = state.stores.rates
        before = await rates.take(RATE, ANA, 0.0)
        await rates.give_back(RATE, ANA, 0.0)
        return before, await rates.take(RATE, ANA, 0.0), await rates.take(RATE, ANA, 0.0)

    assert fill(either, again) == (False, True, False)


def test_a_grant_is_spent_once_over_all_machines(either: Machines) -> None:
    """Each of ten approvals is used by exactly one of four processes."""

    async def approve(state: State) -> None:
        for number in range(10):
            await state.stores.approvals.request(ask(number))
            await state.stores.approvals.answer(f"apr_{number}", Answer(True, "lea"), time.time())

    fill(either, approve)
    spent = [each for got in either.together("spend") for each in got]
    assert sorted(spent) == sorted(f"apr_{number}" for number in range(10))


def test_a_double_click_on_two_machines_is_one_answer(either: Machines) -> None:
    """The same person on four machines answers a two-person ask once: it still waits for somebody else."""

    async def request(state: State) -> None:
        await state.stores.approvals.request(ask(1, needed=2))

    fill(either, request)
    said = [each for got in either.together("answer") for each in got]
    assert said.count("waiting") == 1
    assert all("one person answers once" in each for each in said if each != "waiting")

    async def second(state: State) -> Any:
        first = await state.stores.approvals.get("apr_1")
        return first, await state.stores.approvals.answer("apr_1", Answer(True, "max"), time.time())

    before, after = fill(either, second)
    assert (before.state, before.approvals) == ("waiting", ("lea",))
    assert (after.state, after.approvals) == ("approved", ("lea", "max"))


def test_what_is_no_answer_answers_nothing(either: Machines) -> None:
    """Four processes at once: a forged id, an ask that expired, one that was denied, and a replayed grant move nothing."""

    async def request(state: State) -> None:
        asks, now = state.stores.approvals, time.time()
        await asks.request(ask(1, requested_at=now - 600.0, expires_at=now + 0.05))
        await asks.request(ask(2, requested_at=now, expires_at=now + 600.0))
        await asks.answer("apr_2", Answer(False, "lea"), now)
        await asks.request(ask(3, requested_at=now, expires_at=now + 600.0))
        await asks.answer("apr_3", Answer(True, "lea"), now)
        assert await asks.spend(["grt_apr_3"], now, by="first")

    fill(either, request)
    said = [each for got in either.together("forge") for each in got]
    assert len(said) == 4 * WORKERS
    assert all("refused" in each for each in said), said

    async def states(state: State) -> Any:
        return {each.id: each.state for each in await state.stores.approvals.list(None)}

    found = fill(either, states)
    assert (found["apr_2"], found["apr_3"]) == ("denied", "used")
    assert "apr_forged" not in found


def test_two_machines_ask_one_person_once(machines: Machines) -> None:
    """The same action asked about on two machines is one ask; its expiry is the database's clock, not a machine's."""

    async def request(state: State) -> Any:
        first = await state.stores.approvals.request(ask(1))
        second = await state.stores.approvals.request(
            ask(2, action_digest="sha256:1", requested_at=9e9, expires_at=9e9 + 1)
        )
        return first, second

    first, second = fill(machines, request)
    assert first.id == second.id == "apr_1"
    assert abs(second.expires_at - second.requested_at - 600.0) < 1.0


def test_what_a_killed_machine_reserved_is_charged_once(machines: Machines) -> None:
    """`kill -9` with a reservation: it counts as used, by whoever finds it, exactly once."""
    process = machines.start("hold", "lost")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "true\n"
    process.kill()
    process.wait()
    taken = machines.together("budgets")
    assert 4 <= sum(taken) <= 8, "2 of 10 dollars were left"

    async def accounts(state: State) -> Any:
        return {row["unit"]: row for row in state.stores.budgets.accounts()}

    found = fill(machines, accounts)
    assert found["usd"]["reserved"] == 0
    assert abs(found["usd"]["used"] - 8.0 - 0.25 * sum(taken)) < 1 / SCALE


def test_a_machine_elsewhere_lives_while_it_signs(machines: Machines) -> None:
    """A holder of another machine is not judged by this kernel's processes, but by when it signed last."""
    state = machines.open()
    try:
        shared = state.stores.shared
        assert shared is not None
        rows = [("hld_far", 1, "1", "another-boot", shared.counters.now()), ("hld_old", 1, "1", "another-boot", 0.0)]

        def enter(session: Any) -> Any:
            for row in rows:
                session.execute("INSERT INTO holder VALUES(?,?,?,?,?)", row)
            return shared.holders.gone(session)

        assert shared.counters.run_sync(enter) == ["hld_old"]
        assert HOLDER_SECONDS > 30
    finally:
        state.close()


def test_without_the_shared_key_nothing_is_read(machines: Machines, tmp_path: Path) -> None:
    """A machine with another payload key cannot read what others sealed, nor answer it."""

    async def request(state: State) -> None:
        await state.stores.approvals.request(ask(1))

    fill(machines, request)
    machines.environment["AGENTOS_KEY_PAYLOAD"] = base64.b64encode(bytes(32)).decode()

    async def read(state: State) -> Any:
        with pytest.raises((EffectError, IntegrityError)):
            await state.stores.approvals.get("apr_1")

    fill(machines, read)


def test_the_chains_of_all_machines_verify_together(machines: Machines) -> None:
    """Each machine has its own chain and keys; one command verifies them all, side by side."""
    machines.together("rates")
    states = [str(machines.root / f"machine{number}") for number in range(WORKERS)]
    command = [sys.executable, "-m", "agent_os", "audit", "verify"]
    for state in states[1:]:
        command += ["--state", state]
    ran = subprocess.run(
        command, env={**machines.environment, "AGENTOS_STATE": states[0]}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count(": verified") == WORKERS
    assert "together: 4 machines, every approval was used once" in ran.stdout


def _task(machines: Machines, name: str, until: set[str], seconds: float = 60.0) -> Any:
    """Return the task `tsk_1` once it is in one of some states, as a machine sees it."""
    limit = time.monotonic() + seconds
    while True:
        desk = open_tasks(environment={**machines.environment, "AGENTOS_STATE": str(machines.root / name)})
        try:
            task = asyncio.run(desk.get("tsk_1"))
        finally:
            desk.close()
        if task.state.value in until or time.monotonic() > limit:
            assert task.state.value in until, task
            return task
        time.sleep(0.1)


def test_an_ask_travels_between_machines(machines: Machines, tmp_path: Path) -> None:
    """Parked on one machine, which is killed; answered from a second; finished on a third: nothing twice, all verify."""
    machines.environment["AGENTOS_TASKS"] = machines.environment["AGENTOS_SHARED"]
    work, policy = tmp_path / "work", tmp_path / "policy.yaml"
    work.mkdir()
    policy.write_text(POLICY)
    desk = open_tasks(environment={**machines.environment, "AGENTOS_STATE": str(machines.root / "second")})
    request = TaskRequest(
        id="tsk_1", program="asker", input={}, principal=ANA, workspace=str(work), policies=(str(policy),)
    )
    try:
        asyncio.run(desk.ledger.add(request, "tsk_1"))
    finally:
        desk.close()
    first = machines.work("first")
    parked = _task(machines, "second", {"waiting"})
    first.kill()
    first.wait()
    asyncio.run(_approve(machines, parked.approval))
    machines.work("third")
    assert _task(machines, "second", {"done", "failed"}).state.value == "done"
    assert lines(str(work)) == ["tsk_1 append_line", "careful tsk_1 careful_line", "tsk_1 append_line"]
    for name in ("first", "second", "third"):
        reader = open_audit(environment={**machines.environment, "AGENTOS_STATE": str(machines.root / name)})
        assert all(reader.report(writer).ok for writer in reader.writers())


async def _approve(machines: Machines, approval: str) -> None:
    desk = open_desk(
        answering=True, environment={**machines.environment, "AGENTOS_STATE": str(machines.root / "second")}
    )
    try:
        await desk.answer(await desk.get(approval), approve=True)
    finally:
        desk.close()


def test_an_answer_under_one_revision_is_none_under_another(machines: Machines, tmp_path: Path) -> None:
    """While a policy rolls out, what was approved under the old revision is asked again by a worker with the new one."""
    work, policy = tmp_path / "work", tmp_path / "policy.yaml"
    work.mkdir()
    machines.environment["AGENTOS_TASKS"] = machines.environment["AGENTOS_SHARED"]
    policy.write_text(POLICY)
    desk = open_tasks(environment={**machines.environment, "AGENTOS_STATE": str(machines.root / "second")})
    request = TaskRequest(
        id="tsk_1", program="asker", input={}, principal=ANA, workspace=str(work), policies=(str(policy),)
    )
    try:
        asyncio.run(desk.ledger.add(request, "tsk_1"))
    finally:
        desk.close()
    first = machines.work("first")
    parked = _task(machines, "second", {"waiting"})
    first.kill()
    first.wait()
    policy.write_text(POLICY.replace("budgets: {calls: 12}", "budgets: {calls: 11}"))
    asyncio.run(_approve(machines, parked.approval))
    machines.work("third")
    limit = time.monotonic() + 60
    while (again := _task(machines, "second", {"waiting", "ready", "running"})).approval == parked.approval:
        assert time.monotonic() < limit, again
        time.sleep(0.1)
    again = _task(machines, "second", {"waiting"})
    assert again.approval != parked.approval
    assert lines(str(work)) == ["tsk_1 append_line"]
