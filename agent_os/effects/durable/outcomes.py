"""Outcomes of one run of a task, fenced: implements `core.ports.OutcomeStore` on the ledger.

A claim is written only while the run's token is the task's: policy, budget and lease hold in the moment before the effect,
and a worker that was replaced claims nothing. A claim that an earlier run left without outcome is *interrupted*; it is
taken over only for an effect that may be repeated.
"""

from __future__ import annotations

from typing import Any, Final

from agent_os.core.errors import ActionError, EffectError
from agent_os.core.ports import Outcome
from agent_os.core.task import FencedError, Task, TaskStopped
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.stores.outcomes import KEY_CHARS_MAX, outcome_bytes, outcome_of

_DONE: Final = "done"


class FencedOutcomes:
    """The outcomes as the run of `task` with its token sees them."""

    def __init__(self, ledger: Ledger, task: Task) -> None:
        self._ledger, self._task = ledger, task

    async def recall(self, key: str) -> Outcome | None:
        """Return the recorded outcome of a key, or None."""
        row = await self._ledger.storage.run(
            lambda session: session.execute("SELECT value FROM agentos_outcome WHERE key=?", (key,)).fetchone()
        )
        return self._open(key, row[0]) if row is not None and row[0] else None

    async def claim(self, key: str, action_digest: str) -> Outcome | None:
        """Claim a key for this run: None means go ahead, an Outcome that it was done before.

        A key that begins with `r:` is of an effect that may be repeated.

        Raises FencedError when the task was taken over, TaskStopped when it is to stop, ActionError when the key belongs to
        another action, EffectError when it is in progress or was interrupted and may not be repeated.
        """
        if not key or len(key) > KEY_CHARS_MAX:
            raise ActionError(f"must have 1 to {KEY_CHARS_MAX} characters", field="key")
        task, token = self._task.id, self._task.token
        repeatable = key.startswith("r:")

        def work(session: Any) -> tuple[str, str]:
            stopped = self._ledger.fence(session, task, token)
            if stopped:
                return "stopped", stopped
            fresh = session.execute(
                "INSERT INTO agentos_outcome VALUES(?,?,?,?,?,'') ON CONFLICT(key) DO NOTHING",
                (key, task, token, action_digest, self._ledger.now()),
            ).rowcount
            if fresh == 1:
                return "claimed", ""
            held = session.execute(
                "SELECT action_digest, token, value, task FROM agentos_outcome WHERE key=?", (key,)
            ).fetchone()
            if held[0] != action_digest:
                return "other", ""
            if held[2]:
                return _DONE, held[2]
            if held[3] == task and held[1] == token:
                return "running", ""
            if held[3] != task or not repeatable:
                return "interrupted", ""
            session.execute("UPDATE agentos_outcome SET token=? WHERE key=?", (token, key))
            return "claimed", ""

        answer, detail = await self._ledger.storage.run(work)
        if answer == "claimed":
            return None
        if answer == _DONE:
            return self._open(key, detail)
        if answer == "stopped" and detail == "fenced":
            raise FencedError(f"task {task} was taken over: this run of it may do nothing more")
        if answer == "stopped":
            raise TaskStopped(detail)
        if answer == "other":
            raise ActionError("this idempotency key was used for another action", field="key")
        if answer == "running":
            raise EffectError(f"in progress: key {key} is being carried out")
        raise EffectError(f"interrupted: key {key} was begun by a run that ended; it may have happened")

    async def check(self) -> None:
        """Raise FencedError or TaskStopped unless this run may still act."""
        task, token = self._task.id, self._task.token
        stopped = await self._ledger.storage.run(lambda session: self._ledger.fence(session, task, token))
        if stopped == "fenced":
            raise FencedError(f"task {task} was taken over: this run of it may do nothing more")
        if stopped:
            raise TaskStopped(stopped)

    async def record(self, key: str, outcome: Outcome) -> None:
        """Store the outcome of this run's claim; the first one stays, a later run's claim is not overwritten."""
        sealed = self._ledger.cipher.seal(outcome_bytes(outcome), b"outcome " + key.encode()).hex()
        task, token = self._task.id, self._task.token

        def work(session: Any) -> None:
            written = session.execute(
                "UPDATE agentos_outcome SET value=? WHERE key=? AND token=? AND value=''", (sealed, key, token)
            ).rowcount
            if written == 1 and self._task.attempts > 1:  # it gets on: only starts that lead nowhere make a dead letter
                session.execute("UPDATE agentos_task SET attempts=1 WHERE id=? AND token=?", (task, token))

        await self._ledger.storage.run(work)

    async def release(self, key: str) -> None:
        """Give back a claim of this run under which nothing was done."""
        task, token = self._task.id, self._task.token
        await self._ledger.storage.run(
            lambda session: (
                session.execute(
                    "DELETE FROM agentos_outcome WHERE key=? AND task=? AND token=? AND value=''", (key, task, token)
                ).rowcount
            )
        )

    def _open(self, key: str, sealed: str) -> Outcome:
        return outcome_of(self._ledger.cipher.open(bytes.fromhex(sealed), b"outcome " + key.encode()), key)
