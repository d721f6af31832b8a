"""What detectors find in a result, for the labels of its leaves. Looked at once, when it comes, within a time and a size.

Threat: secrets or personal data in a result whose manifest says nothing of them. A detector that fails, takes too long, is not
installed, or is given more than it may be has seen nothing: the result counts as secret as a whole, and so does what leaves
after it (`guards/flow/found.py`).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from agent_os.core.action import Action
from agent_os.core.guards import FlowGuard
from agent_os.core.ports import Outcome
from agent_os.guards.flow.found import spans_of
from agent_os.monitor.gather import Needs
from agent_os.monitor.wiring import LABEL_TIMEOUT_S, Ports

LABELLED_CHARS_MAX: Final = 1_000_000
"""Characters of one result that detectors look at; a longer one counts as secret as a whole."""


async def found_in(
    ports: Ports, needs: Needs, flow: FlowGuard, action: Action, outcome: Outcome
) -> list[tuple[str, int, int, str, bool]] | Any | None:
    """Return what was found in an outcome as spans; None where nobody could look, nothing where the policy asks for nothing."""
    if needs.labels is None:
        return ()
    try:
        texts = flow.examined(action, outcome)
        if texts is None or sum(map(len, texts.values())) > LABELLED_CHARS_MAX:
            return None
        if not texts:
            return ()
        if ports.finder is None:
            return None
        findings = await asyncio.wait_for(ports.finder.scan(texts), LABEL_TIMEOUT_S)
        return spans_of(findings, needs.labels)
    except Exception:  # whatever it was: nobody has looked
        return None
