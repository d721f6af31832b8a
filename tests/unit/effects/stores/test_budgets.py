"""Budgets: nothing is overspent by what happens at once, in one process, in several, or across a crash."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent_os.core.budget import Budget, period
from agent_os.core.errors import ActionError
from agent_os.core.principal import Principal
from agent_os.effects.stores.keys import Keys
from agent_os.effects.stores.state import StateDatabase

YEAR = Budget("user/year", "user", "year", {"tokens": 1000.0})
BOTH = Budget("user/day", "user", "day", {"tokens": 500.0, "usd": 0.3})
ALICE = Principal(user="alice", session="s1")


async def test_a_thousand_at_once_fit_exactly(state: StateDatabase) -> None:
    """Of a thousand concurrent reservations exactly those that fit are granted."""
    view = state.budgets.view([YEAR], ALICE)
    granted = await asyncio.gather(*(view.reserve(f"r{n}", {"user/year": {"tokens": 7}}) for n in range(1000)))
    assert sum(granted) == 142
    assert (await view.left(["user/year"]))[0].left == {"tokens": 6.0}


async def test_all_amounts_or_none(state: StateDatabase) -> None:
    """A reservation over several budgets and units that fails at the last leaves nothing behind."""
    view = state.budgets.view([YEAR, BOTH], ALICE)
    wanted = {"user/year": {"tokens": 100}, "user/day": {"tokens": 100, "usd": 0.31}}
    assert not await view.reserve("r1", wanted)
    assert [each.left for each in (await view.left(["user/year", "user/day"]))] == [
        {"tokens": 1000.0},
        {"tokens": 500.0, "usd": 0.3},
    ]
    assert await view.reserve("r1", {**wanted, "user/day": {"tokens": 100, "usd": 0.3}})


async def test_settling_charges_what_was_used(state: StateDatabase) -> None:
    """Less gives back, nothing releases, more is recorded and then nothing fits, twice is once."""
    view = state.budgets.view([YEAR], ALICE)
    for number in range(3):
        assert await view.reserve(f"r{number}", {"user/year": {"tokens": 300}})
    await view.settle("r0", {"user/year": {"tokens": 100}})
    await view.settle("r0", {"user/year": {"tokens": 100}})
    await view.settle("r1", {})
    assert (await view.left(["user/year"]))[0].left == {"tokens": 600.0}
    await view.settle("r2", {"user/year": {"tokens": 5000}})
    assert (await view.left(["user/year"]))[0].left == {"tokens": 0.0}
    assert not await view.reserve("r4", {"user/year": {"tokens": 1}})


@pytest.mark.parametrize("usage", [-5.0, float("nan"), float("inf"), 1e30, True, "7"])
async def test_a_usage_that_cannot_be_is_charged_as_reserved(state: StateDatabase, usage: float) -> None:
    """A provider's negative or nonsensical number never gives budget back."""
    view = state.budgets.view([YEAR], ALICE)
    await view.reserve("r", {"user/year": {"tokens": 300}})
    await view.settle("r", {"user/year": {"tokens": usage}})
    assert (await view.left(["user/year"]))[0].left == {"tokens": 700.0}


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf"), 1e30])
async def test_a_reservation_that_cannot_be_is_an_error(state: StateDatabase, amount: float) -> None:
    """Negative or infinite amounts are refused by name."""
    with pytest.raises(ActionError, match="user/year"):
        await state.budgets.view([YEAR], ALICE).reserve("r", {"user/year": {"tokens": amount}})


async def test_small_amounts_add_up_exactly(state: StateDatabase) -> None:
    """Thirty cents are thirty cents, however they are cut."""
    view = state.budgets.view([BOTH], ALICE)
    granted = [await view.reserve(f"r{n}", {"user/day": {"usd": 0.1}}) for n in range(4)]
    assert granted == [True, True, True, False]


async def test_whom_and_when_a_budget_counts_for(state: StateDatabase) -> None:
    """Another user, period or run counts apart; names that look alike when joined do not meet."""
    moment = [1763721000.0]
    state.budgets.now = lambda: moment[0]
    alice = state.budgets.view([BOTH], ALICE)
    assert await alice.reserve("r1", {"user/day": {"tokens": 500}})
    assert not await alice.reserve("r2", {"user/day": {"tokens": 1}})
    assert await state.budgets.view([BOTH], Principal(user="bob")).reserve("r3", {"user/day": {"tokens": 500}})
    moment[0] += 86_400
    assert await alice.reserve("r4", {"user/day": {"tokens": 500}})
    one, other = Principal(tenant="a/b", user="c"), Principal(tenant="a", user="b/c")
    assert YEAR.account(one, 0) != YEAR.account(other, 0)
    run = Budget("agent/run", "agent", "run", {"usd": 1.0})
    assert await state.budgets.view([run], ALICE, run="1").reserve("r5", {"agent/run": {"usd": 1}})
    assert await state.budgets.view([run], ALICE, run="2").reserve("r6", {"agent/run": {"usd": 1}})
    model = Budget("model/day", "model", "day", {"calls": 1.0})
    view = state.budgets.view([model], ALICE)
    assert await view.reserve("r7", {"model/day:big": {"calls": 1}})
    assert not await view.reserve("r8", {"model/day:big": {"calls": 1}})
    assert await view.reserve("r9", {"model/day:small": {"calls": 1}})


async def test_unknown_budgets_and_reused_reservations_are_errors(state: StateDatabase) -> None:
    """A name the policy does not have is never 'unlimited', and a reservation's id is used once."""
    view = state.budgets.view([YEAR], ALICE)
    with pytest.raises(ActionError, match="no budget"):
        await view.reserve("r", {"nobody": {"tokens": 1}})
    with pytest.raises(ActionError, match="no budget"):
        await view.left(["nobody"])
    await view.reserve("r", {"user/year": {"tokens": 1}})
    with pytest.raises(ActionError, match="in use"):
        await view.reserve("r", {"user/year": {"tokens": 1}})


def test_periods() -> None:
    """Periods are UTC calendar periods, ISO weeks included."""
    moment = 1798761599.0  # 2026-12-31 23:59:59 UTC
    names = [period(window, moment) for window in ("hour", "day", "week", "month", "year", "total")]
    assert names == ["2026-12-31T23", "2026-12-31", "2026-W53", "2026-12", "2026", "total"]
    assert period("year", moment + 1) == "2027"


SPENDER = """
import asyncio, sys
from pathlib import Path
from agent_os.core.budget import Budget
from agent_os.core.principal import Principal
from agent_os.effects.stores.keys import Keys
from agent_os.effects.stores.state import StateDatabase

directory, name, hold = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "hold"
state = StateDatabase.open(directory, Keys.open(directory / "keys", environment={}))
view = state.budgets.view([Budget("user/year", "user", "year", {"tokens": 1000.0})], Principal(user="alice"))

async def main():
    got = await asyncio.gather(*(view.reserve(f"{name}-{n}", {"user/year": {"tokens": 3}}) for n in range(200)))
    print(sum(got), flush=True)
    if hold:
        await asyncio.sleep(60)

asyncio.run(main())
state.close()
"""


def _spend(directory: Path, name: str, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SPENDER, str(directory), name, mode], stdout=subprocess.PIPE, text=True
    )


async def test_processes_together_do_not_overspend(directory: Path, keys: Keys) -> None:
    """Four processes reserving at once get what fits and not one token more."""
    keys.current("payload")
    processes = [_spend(directory, f"p{n}", "end") for n in range(4)]
    granted = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(granted) == 333


async def test_what_a_killed_process_held_is_charged_in_full(directory: Path, keys: Keys) -> None:
    """After `kill -9` a reservation stays counted, first as reserved and once it is noticed as used."""
    keys.current("payload")
    process = _spend(directory, "p", "hold")
    assert process.stdout is not None
    assert int(process.stdout.readline()) == 200
    state = StateDatabase.open(directory, keys)
    view = state.budgets.view([YEAR], ALICE)
    assert state.budgets.accounts()[0]["reserved"] == 600.0, "a live process keeps its reservations"
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    assert (await view.left(["user/year"]))[0].left == {"tokens": 400.0}
    assert not await view.reserve("mine", {"user/year": {"tokens": 401}})
    account = state.budgets.accounts()[0]
    assert (account["used"], account["reserved"]) == (600.0, 0.0)
    assert await view.reserve("mine", {"user/year": {"tokens": 400}})
    state.close()
    assert os.path.exists(directory / "state.db")
