"""Budgets under any mixture of callers: what is granted never exceeds the limit, and every unit is accounted for."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent_os.core.budget import Budget
from agent_os.core.principal import Principal
from agent_os.effects.stores.keys import Keys
from agent_os.effects.stores.state import StateDatabase

CALLERS = st.lists(
    st.tuples(
        st.integers(1, 400),
        st.sampled_from(["all", "part", "none", "unknown", "more", "dies"]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=15, deadline=None)
@given(callers=CALLERS, limit=st.integers(1, 5_000), copies=st.sampled_from([1, 1, 20]))
def test_concurrent_calls_never_get_more_than_there_is(
    callers: list[tuple[int, str, int]], limit: int, copies: int
) -> None:
    """Up to 1,200 calls at once that settle honestly, not at all, or with nonsense: in flight and used stay under the limit.

    Only a call that used more than it reserved may pass it, by exactly that much, and then nothing more is granted.
    """
    with tempfile.TemporaryDirectory() as folder:
        keys = Keys.open(Path(folder) / "keys", environment={})
        state = StateDatabase.open(Path(folder), keys)
        budget = Budget("user/day", "user", "total", {"tokens": float(limit)})
        view = state.budgets.view([budget], Principal(user="ana"))
        flying, used, over = 0.0, 0.0, 0.0

        async def call(number: int, amount: int, how: str, turns: int) -> None:
            nonlocal flying, used, over
            name = f"r{number}"
            if not await view.reserve(name, {"user/day": {"tokens": float(amount)}}):
                return
            flying += amount
            assert flying + used <= limit + over
            for _ in range(turns):
                await asyncio.sleep(0)
            if how == "dies":
                return
            spent = {"all": amount, "part": amount // 2, "none": 0, "more": amount + 7}.get(how, float("nan"))
            await view.settle(name, {"user/day": {"tokens": float(spent)}})
            counted = amount if how == "unknown" else spent  # what cannot be a usage is charged as reserved
            flying, used, over = flying - amount, used + counted, over + (7 if how == "more" else 0)

        async def drive() -> None:
            many = callers * copies
            await asyncio.gather(*(call(number, *each) for number, each in enumerate(many)))

        asyncio.run(drive())
        (row,) = state.budgets.accounts() or [{"used": 0.0, "reserved": 0.0}]
        assert (row["used"], row["reserved"]) == (used, flying)
        assert used + flying <= limit + over
        state.close()
        again = StateDatabase.open(Path(folder), keys)
        (row,) = again.budgets.accounts() or [{"used": 0.0, "reserved": 0.0}]
        assert (row["used"], row["reserved"]) == (used + flying, 0.0), "whoever died is charged in full"
        again.close()
