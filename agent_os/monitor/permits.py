"""Permits: minted after an intent is in the audit, and nowhere else. Pure.

A permit binds the action and the facts that its effect depends on; `execute` takes it once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from agent_os.core.action import Action
from agent_os.core.facts import Facts
from agent_os.core.label import UNTRUSTED, Label
from agent_os.core.ports import Permit
from agent_os.monitor.gather import Session
from agent_os.monitor.judging import Judged
from agent_os.monitor.wiring import Ports


def mint(ports: Ports, session: Session, judged: Judged, references: Sequence[str], key: str = "") -> list[Permit]:
    """Return a permit for each of these passages of one judged action."""
    action, _, facts = judged
    digest, facts_digest, addresses = action.digest, _facts_digest(facts), facts.resolved_ips or ()
    deadline = ports.clock.monotonic() + ports.execute_timeout_s
    label = _carried(session, action, facts)
    return [
        Permit(
            nonce=reference,
            action_digest=digest,
            facts_digest=facts_digest,
            idempotency_key=key or reference,
            resolved_ips=addresses,
            deadline=deadline,
            label=label,
        )
        for reference in references
    ]


def _carried(session: Session, action: Action, facts: Facts) -> Label:
    """Return the label of what a message carries: as trusted as what was read before it, as guarded as its body."""
    if action.kind != "message.send" or session.flow is None or facts.labels is None or facts.context is None:
        return UNTRUSTED
    body = Label.join_all(label for pointer, label in facts.labels.items() if pointer.startswith("/body"))
    return replace(body, integrity=min(body.integrity, facts.context.integrity))


def _facts_digest(facts: Facts) -> str:
    """Return what binds a permit to the facts that an effect depends on: time, addresses, program."""
    form = repr((facts.now, facts.workspace, facts.resolved_ips, facts.executable, facts.depth))
    return hashlib.sha256(form.encode()).hexdigest()
