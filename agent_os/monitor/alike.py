"""Identical actions of one moment, judged once: what the network guard asks when tunnels come in numbers.

A decision is a function of policy, action and facts and of nothing else (law 5), so equal actions on the same facts have one
decision. Only what is plain goes this way: allowed, with nothing to reserve, rewrite, scan, ask of an engine or keep as a
payload. For everything else the answer is None, and each action goes through `admit` by itself, denials too. Each has a
record, a reference and a permit of its own, and is handed out when its own record is durable. Threat: a way past the door
that is a little more lenient than the door: it can only do less.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress

from agent_os.core.action import NetConnect
from agent_os.core.decision import Verdict
from agent_os.core.errors import AgentOSError
from agent_os.core.ports import CANCELLED, Outcome
from agent_os.monitor import record
from agent_os.monitor.gather import Needs, Session
from agent_os.monitor.judging import Judged
from agent_os.monitor.wiring import Ports


def may_share(action: object, needs: Needs, ports: Ports, session: Session) -> bool:
    """Return whether equal actions of this kind could be judged together here at all."""
    return (
        type(action) is NetConnect
        and not session.ended
        and session.allowance is None
        and not needs.verdicts
        and not needs.budgets
        and action.kind not in needs.findings
        and ports.payloads is None
    )


def plain(judged: Judged) -> bool:
    """Return whether a decision asks for nothing that must be done for each action by itself."""
    return judged.decision.verdict is Verdict.ALLOW and not judged.decision.obligations


async def intend(ports: Ports, judged: Judged, references: Sequence[str]) -> bool:
    """Write an intent for each reference and wait until all are durable; False: they are not, and nothing may happen.

    An intent that was written and is not carried out is closed by an outcome `cancelled`.
    """
    action, decision, facts = judged
    said = record.describe(action, ports.keyed_digest)
    first = record.intent(action, decision, reference="", now=facts.now or 0.0, said=said)
    written: list[Awaitable[None]] = []
    try:
        for reference in references:
            written.append(ports.audit.append({**first, "ref": reference}))
        for durable in reversed(written):  # the last is durable after the others: these are not waited for again
            await durable
    except AgentOSError:
        _close(ports, references[: len(written)])
        return False
    except asyncio.CancelledError:
        _close(ports, references[: len(written)])
        raise
    return True


def _close(ports: Ports, references: Sequence[str]) -> None:
    for reference in references:
        gone = record.finished(reference, Outcome(error=CANCELLED), now=ports.clock.now(), size=-1)
        with suppress(AgentOSError):
            ports.audit.append(gone)
