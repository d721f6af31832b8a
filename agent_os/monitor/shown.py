"""What an agent says to its user, as it may be rendered: addresses that its policy does not let through are taken out.

An answer is no effect, and nobody is asked about it; but a page or a chat window that renders it fetches the images it
names, and with them whatever the address carries. Threat: an injection that has the answer itself carry data out.
What has been streamed word by word has been shown: only whole messages pass here.
"""

from __future__ import annotations

import html
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from agent_os.core.action import Action
from agent_os.core.decision import Verdict
from agent_os.core.errors import AgentOSError
from agent_os.core.facts import DEFAULTS, FlowConcern
from agent_os.monitor.door import Monitor

CHANNEL: Final = "answer"
WITHHELD: Final = "(this answer could not be checked and is withheld)"


async def shown(monitor: Monitor, text: str) -> str:
    """Return a text of the agent as its user may be shown it, and record what was taken out or warned of."""
    flow = monitor.session.flow
    if flow is None or not text:
        return text
    try:
        concerns = flow.answer(text)
    except Exception:  # a guard that fails has seen nothing
        flow.distrust()
        return WITHHELD
    if not concerns:
        return text
    action = Action.parse(
        {"kind": "message.send", "to": [monitor.principal.user], "channel": CHANNEL, "body": ""},
        principal=monitor.principal,
    )
    taken, rules = [], dict[str, bool]()
    for concern in concerns:
        said = _answers(monitor, action, concern)
        rules.update(said)
        if any(said.values()):
            taken.append(concern)
    if rules:
        await _record(monitor, rules, len(taken))
    return without(text, taken) if taken else text


def without(text: str, taken: list[FlowConcern]) -> str:
    """Return a text in which the addresses of these concerns lead nowhere."""
    for concern in taken:
        address = concern.detail
        said = f"(address taken out: {(concern.to or ('unknown',))[0].replace('.', '[.]')})"
        if concern.to and address not in text:
            text = html.unescape(text)
        if not concern.to or address not in text:  # too many to name, or spelled in a way only a browser reads
            return text.replace("![", "! [").replace("](", "] (").replace("<", "‹").replace("//", "/ /")
        text = text.replace(address, said)
    return text


def _answers(monitor: Monitor, action: Action, concern: FlowConcern) -> dict[str, bool]:
    """Return the rules of the policy that speak of a concern, and whether each is enforced."""
    facts = replace(DEFAULTS, flow=(concern,))
    found: dict[str, bool] = {}
    for layer in monitor.policy.compiled:
        for governed in layer.by_kind.get(action.kind, ()):
            if governed.section.name == "flow":
                for match in governed.judge(action, facts):
                    enforced = match.effect is not Verdict.ALLOW and not (match.audit_only or governed.trial)
                    found[match.rule] = found.get(match.rule, False) or enforced
    return found


async def _record(monitor: Monitor, rules: dict[str, bool], taken: int) -> None:
    who = monitor.principal
    record: dict[str, Any] = {
        "type": "answer",
        "time": monitor.ports.clock.now(),
        "tenant": who.tenant,
        "user": who.user,
        "agent": who.agent,
        "session": who.session,
        "rules": sorted(rules),
        "taken_out": taken,
        "policy": monitor.policy.digest,
    }
    with suppress(AgentOSError):  # what is withheld stays withheld whether or not it could be recorded
        await monitor.ports.audit.append(record)
