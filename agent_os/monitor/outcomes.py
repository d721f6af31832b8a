"""What an effect gave, as the caller may have it: originals put back, every leaf labelled, kept where payloads are.

Threat: a result that no guard could read and that passes as trusted. What cannot be labelled is untrusted as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

from agent_os.core import canonical
from agent_os.core.action import Action
from agent_os.core.errors import ActionError, AgentOSError
from agent_os.core.label import UNTRUSTED, Integrity
from agent_os.core.ports import Outcome, OutcomeStore
from agent_os.monitor.gather import Needs, Session
from agent_os.monitor.labelling import found_in
from agent_os.monitor.wiring import Ports


async def received(ports: Ports, needs: Needs, session: Session, action: Action, outcome: Outcome) -> Outcome:
    """Return the outcome restored for this session and labelled by its flow guard; others run while it is looked through."""
    if session.privacy is not None and outcome.ok:
        try:
            outcome = replace(outcome, value=session.privacy.restore(outcome.value, action))
        except Exception as error:  # the effect happened: its result stays, with its placeholders
            outcome = replace(outcome, detail=f"originals could not be put back: {type(error).__name__}")
    if session.flow is None:
        return outcome
    try:
        found = await found_in(ports, needs, session.flow, action, outcome)
        work = session.flow.observing(action, outcome, found)
        with closing(work):
            outcome = await _in_pieces(work)
    except Exception:  # an outcome the guard cannot label is untrusted as a whole
        outcome = replace(outcome, label=UNTRUSTED, leaves=())
    return _noted(session, outcome)


async def _in_pieces(work: Generator[None, None, Outcome]) -> Outcome:
    """Drive a taking to its end; between its pieces whoever waits for the loop has a turn."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            labelled: Outcome = done.value
            return labelled
        await asyncio.sleep(0)


def _noted(session: Session, outcome: Outcome) -> Outcome:
    """Note that a session which may be resumed has read untrusted text; what cannot be noted is not handed out."""
    note, flow = session.on_untrusted, session.flow
    if note is None or flow is None or flow.context.integrity is not Integrity.UNTRUSTED:
        return outcome
    try:
        note()
    except AgentOSError as error:
        return replace(
            outcome, value=None, leaves=(), error="not-noted", detail=f"it was done, its result is kept back: {error}"
        )
    session.on_untrusted = None
    return outcome


def recalled(session: Session, action: Action, outcome: Outcome) -> None:
    """Let a session's flow guard take an outcome that is returned without its effect; one that cannot, trusts nothing."""
    if session.flow is not None:
        with suppress(Exception):  # the guard has distrusted everything by then
            session.flow.recall(action, outcome)


async def keep(store: OutcomeStore, key: str, outcome: Outcome) -> None:
    """Record the outcome of a key; one whose value cannot be stored is recorded as done without it, never as not done."""
    try:
        await store.record(key, outcome)
    except ActionError as error:
        await store.record(
            key, replace(outcome, value=None, leaves=(), memo=None, error="not-kept", detail=f"it was done: {error}")
        )


def size(value: Any) -> int:
    """Return a result's size as the audit says it: bytes or characters, -1 for what has none."""
    return len(value) if isinstance(value, str | bytes) else -1


def kept(outcome: Outcome) -> dict[str, Any]:
    """Return what the payload store keeps of an outcome: where the caller got handles, what they stand for."""
    given = (outcome.memo or {}).get("value", outcome.value)
    try:
        value = canonical.json_value(given)
    except ActionError:
        value = {"$type": type(given).__name__}
    return {"value": value, "error": outcome.error}
