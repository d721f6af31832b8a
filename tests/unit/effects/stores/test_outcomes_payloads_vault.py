"""Outcomes are done once, payloads are sealed and let go, the vault forgets for good."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.errors import ActionError, EffectError, IntegrityError
from agent_os.core.label import TRUSTED, Confidentiality, Label
from agent_os.core.ports import Outcome
from agent_os.effects.stores.keys import Keys
from agent_os.effects.stores.state import StateDatabase


async def test_a_key_is_claimed_once_and_its_outcome_returned(state: StateDatabase) -> None:
    """Of many claims one goes ahead; once recorded, everybody gets the outcome."""
    results = await asyncio.gather(*(state.outcomes.claim("k", "sha256:a") for _ in range(10)), return_exceptions=True)
    assert results.count(None) == 1
    assert sum(isinstance(result, EffectError) and "in progress" in str(result) for result in results) == 9
    done = Outcome(
        {"a": [1, 2.5, None, b"\x00\xff"], "$bytes": "no"},
        TRUSTED,
        (("/a", Label(confidentiality=Confidentiality.SECRET)),),
        usage={"tokens": 3},
    )
    await state.outcomes.record("k", done)
    await state.outcomes.record("k", Outcome("later"))
    assert await state.outcomes.claim("k", "sha256:a") == done
    assert await state.outcomes.recall("k") == done
    assert await state.outcomes.recall("other") is None
    with pytest.raises(ActionError, match="another action"):
        await state.outcomes.claim("k", "sha256:b")


async def test_a_released_claim_can_be_taken_again(state: StateDatabase) -> None:
    """What was claimed and then denied does not stay claimed; a recorded outcome stays."""
    assert await state.outcomes.claim("k", "sha256:a") is None
    await state.outcomes.release("k")
    assert await state.outcomes.claim("k", "sha256:a") is None
    await state.outcomes.record("k", Outcome(1))
    await state.outcomes.release("k")
    assert await state.outcomes.recall("k") == Outcome(1)


@pytest.mark.parametrize("value", [object(), {"x": {1, 2}}, float("nan")])
async def test_only_json_is_stored(state: StateDatabase, value: Any) -> None:
    """What is no JSON is refused, never pickled."""
    with pytest.raises(ActionError):
        await state.outcomes.record("k", Outcome(value))


CLAIMER = """
import asyncio, sys
from pathlib import Path
from agent_os.effects.stores.keys import Keys
from agent_os.effects.stores.state import StateDatabase
directory = Path(sys.argv[1])
state = StateDatabase.open(directory, Keys.open(directory / "keys", environment={}))
async def main():
    print(await state.outcomes.claim("k", "sha256:a"), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_claim_of_a_killed_process_is_interrupted(state: StateDatabase, directory: Path) -> None:
    """While its process lives it is in progress; after `kill -9` it is interrupted and never goes ahead by itself."""
    process = subprocess.Popen([sys.executable, "-c", CLAIMER, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "None\n"
    with pytest.raises(EffectError, match="in progress"):
        await state.outcomes.claim("k", "sha256:a")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    with pytest.raises(EffectError, match="interrupted"):
        await state.outcomes.claim("k", "sha256:a")
    assert await state.outcomes.interrupted() == ["k"]
    await state.outcomes.release("k")
    with pytest.raises(EffectError, match="interrupted"):
        await state.outcomes.claim("k", "sha256:a")


async def test_a_stored_outcome_moved_to_another_key_does_not_open(state: StateDatabase, directory: Path) -> None:
    """Swapping rows in the file is found."""
    await state.outcomes.record("k1", Outcome("cheap"))
    await state.outcomes.record("k2", Outcome("dear"))
    connection = sqlite3.connect(directory / "state.db")
    connection.execute("UPDATE outcome SET value=(SELECT value FROM outcome WHERE key='k2') WHERE key='k1'")
    connection.commit()
    connection.close()
    with pytest.raises(IntegrityError):
        await state.outcomes.recall("k1")


async def test_payloads_are_sealed_and_end(state: StateDatabase, directory: Path, keys: Keys) -> None:
    """A payload comes back under its reference, is not in clear in the file, and is gone after its time."""
    store = state.open_payloads(directory, keys, keep_days=1)
    moment = [1000.0]
    store._now = lambda: moment[0]
    payload = {"action": {"args": {"iban": "DE02120300000000202051" * 50}}}
    await store.put("act_1", payload)
    assert await store.get("act_1") == payload
    assert await store.get("act_2") is None
    assert b"DE0212" not in b"".join(path.read_bytes() for path in directory.glob("payloads.db*"))
    moment[0] += 86_401
    assert await store.get("act_1") is None, "past its time it is not shown even before it is purged"
    assert await store.purge() == 1


async def test_vault_scopes_are_apart(state: StateDatabase) -> None:
    """The same name in two scopes has two values; an unknown scope or name has none."""
    await state.vault.put("a", {"Alice": "P1", "Bob": "P2"})
    await state.vault.put("b", {"Alice": "Q1"})
    await state.vault.put("a", {"Bob": "P3"})
    assert await state.vault.get("a", "Alice") == "P1"
    assert await state.vault.get("b", "Alice") == "Q1"
    assert await state.vault.get("b", "Bob") is None
    assert await state.vault.get("c", "Bob") is None
    assert await state.vault.load("a") == {"Alice": "P1", "Bob": "P3"}
    assert await state.vault.scopes() == ["a", "b"]


async def test_the_vault_shows_neither_names_nor_values(state: StateDatabase, directory: Path) -> None:
    """Names are personal data too: neither stands in the file."""
    await state.vault.put("a", {"Alice Archer": "Person One"})
    raw = b"".join(path.read_bytes() for path in directory.glob("state.db*"))
    assert b"Alice" not in raw
    assert b"Person One" not in raw


async def test_forgetting_erases_even_from_a_copy(state: StateDatabase, directory: Path, keys: Keys) -> None:
    """With its data key destroyed a scope's entries cannot be read, even when a backup's rows are put back."""
    await state.vault.put("a", {"Alice": "P1"})
    copy = state.database.read(lambda connection: connection.execute("SELECT * FROM vault_entry").fetchall())
    assert await state.vault.forget("a")
    assert not await state.vault.forget("a")
    assert await state.vault.get("a", "Alice") is None
    await state.vault.put("a", {"Carol": "P9"})
    connection = sqlite3.connect(directory / "state.db")
    connection.executemany("INSERT INTO vault_entry VALUES(?,?,?,?)", copy)
    connection.commit()
    connection.close()
    assert await state.vault.get("a", "Alice") is None, "names are found under the scope's own key"
    with pytest.raises(IntegrityError):
        await state.vault.load("a")


async def test_entries_and_scopes_expire(state: StateDatabase) -> None:
    """Past its time an entry or a whole scope is gone; purging destroys it."""
    moment = [1000.0]
    state.vault._now = lambda: moment[0]
    await state.vault.put("a", {"Alice": "P1"}, expires_at=1500)
    await state.vault.put("a", {"Bob": "P2"})
    await state.vault.put("b", {"Carol": "P3"}, scope_expires_at=1500)
    moment[0] = 1600
    assert await state.vault.load("a") == {"Bob": "P2"}
    assert await state.vault.get("b", "Carol") is None
    assert await state.vault.scopes() == ["a"]
    assert await state.vault.purge() == 2


async def test_a_failing_piece_of_work_fails_alone(state: StateDatabase) -> None:
    """What shares a transaction with a failure is committed all the same; the failure undoes itself."""

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO outcome VALUES('x','',?,0,NULL)", ("h",))
        raise ValueError("mine")

    results = await asyncio.gather(
        state.outcomes.claim("a", "d"),
        state.database.run(broken),
        state.outcomes.claim("b", "d"),
        return_exceptions=True,
    )
    assert results[0] is None
    assert isinstance(results[1], ValueError)
    assert results[2] is None
    rows = state.database.read(lambda connection: connection.execute("SELECT key FROM outcome ORDER BY key").fetchall())
    assert rows == [("a",), ("b",)]
