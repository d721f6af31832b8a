"""A process that uses shared limits as hard as it can, and says what it got: one word of work on its command line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from agent_os.core.approval import Answer
from agent_os.core.budget import Budget
from agent_os.core.decision import Obligation
from agent_os.core.errors import ActionError
from agent_os.core.principal import Principal
from agent_os.runtime.state import State, open_state

BUDGET = [Budget("user/year", "user", "year", {"usd": 10.0, "calls": 25.0})]
RATE = (Obligation("rate", {"rule": "tools.send.rate", "calls": 30, "window_s": 3600, "per": "tenant"}),)
ANA = Principal(user="ana")


async def budgets(state: State) -> Any:
    """Reserve and settle until nothing fits; return how many fitted."""
    view = state.stores.budgets.view(BUDGET, ANA)
    taken = 0
    for number in range(40):
        name = f"{os.getpid()}.{number}"
        if await view.reserve(name, {"user/year": {"usd": 0.5, "calls": 1.0}}):
            taken += 1
            await view.settle(name, {"user/year": {"usd": 0.25, "calls": 1.0}})
    return taken


async def rates(state: State) -> Any:
    """Take calls until none is left; return how many were taken."""
    took = [await state.stores.rates.take(RATE, ANA, 0.0) for _ in range(40)]
    return sum(took)


async def spend(state: State) -> Any:
    """Try to spend every grant there is; return those that were spent here."""
    got = []
    for asked in await state.stores.approvals.list("approved"):
        if await state.stores.approvals.spend([f"grt_{asked.id}"], time.time(), by=str(os.getpid())):
            got.append(asked.id)
    return got


async def answer(state: State) -> Any:
    """Answer every ask that waits; return the states that were reached, or why not."""
    said = []
    for asked in await state.stores.approvals.list():
        try:
            said.append((await state.stores.approvals.answer(asked.id, Answer(True, "lea"), time.time())).state)
        except ActionError as error:
            said.append(str(error))
    return said


async def forge(state: State) -> Any:
    """Answer and spend what cannot be: a made-up id, what was denied, what was used, and use it under another policy."""
    asks, now, said = state.stores.approvals, time.time(), []
    for forged in ("apr_forged", "apr_2"):
        try:
            said.append((await asks.answer(forged, Answer(True, "max"), now)).state)
        except ActionError as error:
            said.append(f"refused: {error}")
    said.append("spent" if await asks.spend(["grt_apr_3"], now, by="again") else "refused: used")
    live = await asks.grants("sha256:3", "sha256:another", now)
    said.append("granted" if live else "refused: another policy")
    return said


async def hold(state: State) -> Any:
    """Reserve and never come back."""
    view = state.stores.budgets.view(BUDGET, ANA)
    reserved = await view.reserve(f"{os.getpid()}", {"user/year": {"usd": 8.0}})
    print(json.dumps(reserved), flush=True)
    await asyncio.sleep(600)


def main() -> None:
    """Do one kind of work once a line arrives on standard input, so that all begin together."""
    work = {"budgets": budgets, "rates": rates, "spend": spend, "answer": answer, "forge": forge, "hold": hold}[
        sys.argv[1]
    ]
    state = open_state(environment={**os.environ, "AGENTOS_STATE": str(Path(sys.argv[2]))})
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        print(json.dumps(asyncio.run(work(state))), flush=True)
    finally:
        state.close()


if __name__ == "__main__":
    main()
