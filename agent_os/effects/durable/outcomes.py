"""Outcomes of one run of a task, fenced: implements `core.ports.OutcomeStore` on the ledger.

A claim is written only while the run's token is the task's: policy, budget and lease hold in the moment before the effect,
and a worker that was replaced claims nothing. A claim that an earlier run left without outcome is *interrupted*; it is
taken over only for an effect that may be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from agent_os.core.errors import ActionError, AgentOSError, EffectError, IntegrityError
from agent_os.core.ports import CANCELLED, Outcome
from agent_os.core.task import REPEATABLE, FencedError, Task, TaskStep, TaskStopped
from agent_os.effects.clock import passed
from agent_os.effects.durable.dispatch import EACH, Limit, limits_of
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.schema import HELD
from agent_os.effects.stores.outcomes import KEY_CHARS_MAX, outcome_bytes, outcome_of

TURN_SECONDS: Final = 0.05
"""Between two looks whether a tool that is limited has room."""
TURN_WAIT_SECONDS: Final = 300.0
"""How long an effect waits for a tool that is limited before it fails."""
CONFIRM_SECONDS: Final = 0.5
"""An effect that begins later than this after its claim looks at the ledger again."""
TOOL: Final = "tool.call "
_DONE: Final = "done"
CLAIM_AT_ONCE: Final = """
WITH held AS (SELECT token, state, wanted FROM agentos_task WHERE id=? FOR UPDATE),
fresh AS (
  INSERT INTO agentos_outcome
  SELECT ?::text, ?::text, ?::bigint, ?::text, ?::float8, '', ?::text FROM held
  WHERE token=?::bigint AND state='running' AND wanted=''
  AND NOT EXISTS (SELECT 1 FROM agentos_limit WHERE ?::text<>'' AND scope='tool' AND name IN (?::text, '*'))
  ON CONFLICT(key) DO NOTHING RETURNING 1
)
SELECT count(*) FROM fresh
"""
"""On PostgreSQL: takes the task's row, compares its token and writes the claim, as one statement. It says 0 for whatever needs
a closer look (fenced, to stop, a key that is there, a tool with a limit): the statements for SQLite give it in the same
transaction.
"""


class FencedOutcomes:
    """The outcomes as the run of `task` with its token sees them."""

    def __init__(self, ledger: Ledger, task: Task, leaving: Callable[[], bool] = lambda: False) -> None:
        self._ledger, self._task, self._leaving = ledger, task, leaving
        self.under_way: set[str] = set()
        """Keys that this run has claimed and that have no outcome yet."""
        self._what: dict[str, str] = {}
        self._known: dict[str, str] | None = {} if task.token == 1 else None
        """Recorded outcomes by key, sealed: none at a task's first start, read once at a later one."""
        self._sure: dict[str, float] = {}
        """When this run was last known to be the task's, by the key that was claimed then (empty: no key)."""

    def describe(self, key: str, what: str) -> None:
        """Say what a key is for (a kind, a tool's name): it is shown with the task's steps, and limited by it."""
        self._what[key] = what

    async def recall(self, key: str) -> Outcome | None:
        """Return the recorded outcome of a key, or None."""
        if self._known is None:
            sql = "SELECT key, value FROM agentos_outcome WHERE task=? AND value<>''"
            rows = await self._ledger.rows_of(sql, self._task.id)
            self._known = {row[0]: row[1] for row in rows}
        return self._open(key, self._known[key]) if key in self._known else None

    async def claim(self, key: str, action_digest: str) -> Outcome | None:
        """Claim a key for this run: None means go ahead, an Outcome that it was done before.

        A key that begins with REPEATABLE is of an effect that may be repeated. A tool of which as many run as may waits here.

        Raises FencedError when the task was taken over, TaskStopped when it is to stop, ActionError when the key belongs to
        another action, EffectError when it is in progress or was interrupted and may not be repeated.
        """
        if not key or len(key) > KEY_CHARS_MAX:
            raise ActionError(f"must have 1 to {KEY_CHARS_MAX} characters", field="key")
        if self._leaving():
            raise TaskStopped("handover")
        task, token = self._task.id, self._task.token
        repeatable, what = key.startswith(REPEATABLE), self._what.pop(key, "")

        tool = what.removeprefix(TOOL) if what.startswith(TOOL) else ""

        def work(session: Any) -> tuple[str, str]:
            if self._ledger.shared:
                values = (key, task, token, action_digest, self._ledger.now(), what)
                held = session.execute(CLAIM_AT_ONCE, (task, *values, token, tool, tool)).fetchone()
                if held is not None and held[0] == 1:
                    return "claimed", ""
            stopped = self._ledger.fence(session, task, token)
            if stopped:
                return "stopped", stopped
            if tool and not self._room(session, what):
                return "full", ""
            now = self._ledger.now()
            fresh = session.execute(
                "INSERT INTO agentos_outcome VALUES(?,?,?,?,?,'',?) ON CONFLICT(key) DO NOTHING",
                (key, task, token, action_digest, now, what),
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
            session.execute("UPDATE agentos_outcome SET token=?, at=? WHERE key=?", (token, now, key))
            return "claimed", ""

        answer, detail, waited = "full", "", 0.0
        while answer == "full" and waited < TURN_WAIT_SECONDS:
            if waited:
                await asyncio.sleep(TURN_SECONDS)
            sure = passed()
            answer, detail = await self._claimed(key, work)
            waited += TURN_SECONDS
        if answer == "claimed":
            self._sure[key] = sure
            self.under_way.add(key)
            return None
        if answer == _DONE:
            return self._open(key, detail)
        if answer == "stopped" and detail == "fenced":
            raise FencedError(f"task {task} was taken over: this run of it may do nothing more")
        if answer == "stopped":
            raise TaskStopped(detail)
        if answer == "other":
            raise ActionError("this idempotency key was used for another action", field="key")
        if answer == "full":
            raise EffectError(f"{what} had no room for {TURN_WAIT_SECONDS:g} s: its limit is reached")
        if answer == "running":
            raise EffectError(f"in progress: key {key} is being carried out")
        raise EffectError(f"interrupted: key {key} was begun by a run that ended; it may have happened")

    async def _claimed(self, key: str, work: Callable[[Any], tuple[str, str]]) -> tuple[str, str]:
        """Claim in a transaction; a caller that is cancelled meanwhile leaves no claim behind."""
        writing = asyncio.ensure_future(self._ledger.storage.run(work))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            with suppress(AgentOSError):
                if (await writing)[0] == "claimed":
                    await self.release(key)
            raise

    def _room(self, session: Any, what: str) -> bool:
        """Return whether one more call of a tool may begin, over all workers; within a transaction."""
        limits, name = limits_of(session), what.removeprefix(TOOL)
        limit: Limit | None = limits.get(("tool", name)) or limits.get(("tool", EACH))
        if limit is None:
            return True
        session.execute(  # one at a time looks and claims
            "UPDATE agentos_limit SET at_once=at_once WHERE scope='tool' AND name=?", (limit.name,)
        )
        under_way = (
            "SELECT count(*) FROM agentos_outcome JOIN agentos_task ON agentos_task.id=agentos_outcome.task"
            " AND agentos_task.token=agentos_outcome.token AND agentos_task.state='running'"
            " WHERE agentos_outcome.what=? AND agentos_outcome.value=''"
        )
        if limit.at_once and session.execute(under_way, (what,)).fetchone()[0] >= limit.at_once:
            return False
        begun = "SELECT count(*) FROM agentos_outcome WHERE what=? AND at>?"
        since = self._ledger.now() - limit.seconds
        return not limit.starts or bool(session.execute(begun, (what, since)).fetchone()[0] < limit.starts)

    async def confirm(self, key: str) -> None:
        """Raise FencedError or TaskStopped unless the claim under `key` (empty: the last check) is fresh, or still holds."""
        sure = self._sure.pop(key, None) if key else self._sure.get("")
        if sure is None or passed() - sure > CONFIRM_SECONDS:
            await self.check()

    async def check(self) -> None:
        """Raise FencedError or TaskStopped unless this run may still act."""
        task, token = self._task.id, self._task.token
        self._sure[""] = passed()
        stopped = await self._ledger.storage.run(lambda session: self._ledger.fence(session, task, token))
        if stopped == "fenced":
            raise FencedError(f"task {task} was taken over: this run of it may do nothing more")
        if stopped:
            raise TaskStopped(stopped)

    async def record(self, key: str, outcome: Outcome) -> None:
        """Store the outcome of this run's claim; the first one stays, a later run's claim is not overwritten.

        An effect that was cut off has none: one that may be repeated is free again, another one is interrupted.
        """
        try:
            if outcome.error == CANCELLED:
                if key.startswith(REPEATABLE):
                    await self.release(key)
                return
            await self._record(key, outcome)
        finally:
            self.under_way.discard(key)

    async def _record(self, key: str, outcome: Outcome) -> None:
        sealed = self._ledger.cipher.seal(outcome_bytes(outcome), b"outcome " + key.encode()).hex()
        if outcome.memo and ("value" in outcome.memo or "held" in outcome.memo):
            sealed = HELD + sealed
        task, token = self._task.id, self._task.token
        if self._known is not None:
            self._known[key] = sealed

        def work(session: Any) -> None:
            written = session.execute(
                "UPDATE agentos_outcome SET value=? WHERE key=? AND token=? AND value=''", (sealed, key, token)
            ).rowcount
            if written == 1 and sealed.startswith(HELD):  # the task's end forgets it
                session.execute("UPDATE agentos_task SET queued=queued|2 WHERE id=?", (task,))
            if written == 1 and self._task.attempts > 1:  # it gets on: only starts that lead nowhere make a dead letter
                session.execute("UPDATE agentos_task SET attempts=1 WHERE id=? AND token=?", (task, token))

        await self._ledger.storage.run(work)

    async def release(self, key: str) -> None:
        """Give back a claim of this run under which nothing was done."""
        self.under_way.discard(key)
        task, token = self._task.id, self._task.token
        sql = "DELETE FROM agentos_outcome WHERE key=? AND task=? AND token=? AND value=''"
        await self._ledger.write(sql, key, task, token)

    def _open(self, key: str, sealed: str) -> Outcome:
        try:
            plain = bytes.fromhex(sealed.removeprefix(HELD))
        except (ValueError, AttributeError):
            raise IntegrityError(f"stored outcome of key {key} cannot be read") from None
        return outcome_of(self._ledger.cipher.open(plain, b"outcome " + key.encode()), key)


async def steps_of(ledger: Ledger, task_id: str, after: float = 0.0) -> Sequence[TaskStep]:
    """Return what a task has begun since a time, oldest first, and whether it has an outcome. No values."""
    sql = "SELECT key, what, at, value<>'' FROM agentos_outcome WHERE task=? AND at>=? ORDER BY at, key"
    rows = await ledger.rows_of(sql, task_id, after)
    return [TaskStep(key=row[0], what=row[1], at=row[2], done=bool(row[3])) for row in rows]
