"""What an advisory classifier thinks of a result, told to the session's flow guard. It can only make later effects ask.

A result is looked at once, when it comes, and only where it is untrusted and the model gets to read it. A classifier that
fails, takes too long, is not installed, or is given more than it may be has seen nothing: that counts as suspicion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from agent_os.core.action import Action
from agent_os.core.guards import Classifier
from agent_os.core.ports import Outcome
from agent_os.monitor.gather import Session

CLASSIFY_SECONDS: Final = 10.0
CLASSIFIED_CHARS_MAX: Final = 200_000
"""Characters of one result; more are not looked at, and are suspected."""


async def looked_at(classifier: Classifier | None, session: Session, action: Action, outcome: Outcome) -> Outcome:
    """Return an outcome whose memo says what the classifier thought; the session has been told."""
    flow = session.flow
    if classifier is None or flow is None:
        return outcome
    texts = flow.unlooked(action, outcome)
    why = await _suspected(classifier, texts) if texts else ""
    if not why:
        return outcome
    flow.suspect(action, why)
    return replace(outcome, memo={**(outcome.memo or {}), "suspected": why})


async def _suspected(classifier: Classifier, texts: Sequence[str]) -> str:
    if sum(map(len, texts)) > CLASSIFIED_CHARS_MAX:
        return f"longer than the {CLASSIFIED_CHARS_MAX} characters that {classifier.name} looks at"
    try:
        score = await asyncio.wait_for(classifier.score(texts), CLASSIFY_SECONDS)
    except Exception as error:
        return f"{classifier.name} failed: {type(error).__name__}"
    return "" if score < classifier.threshold else f"{classifier.name}: {score:.2f}"
