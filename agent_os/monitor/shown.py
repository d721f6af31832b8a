"""What an agent says to its user, as it may be rendered: addresses that its policy does not let through are taken out.

An answer is no effect, and nobody is asked about it; but a page or a chat window that renders it fetches the images it
names, and with them whatever the address carries. Threat: an injection that has the answer itself carry data out. Whole
messages pass through `shown`, streams through `Streamed`, which holds back what could still become a picture or a link.
"""

from __future__ import annotations

import html
from collections.abc import Hashable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from agent_os.core.action import Action
from agent_os.core.decision import Verdict
from agent_os.core.errors import AgentOSError
from agent_os.core.facts import DEFAULTS, FlowConcern
from agent_os.guards.models.answers import Defang, Rules
from agent_os.monitor.door import Monitor

CHANNEL: Final = "answer"
ADDRESSES_KNOWN_MAX: Final = 1000
"""Addresses of one stream whose judgement is remembered; further ones are judged each time."""
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
    taken, rules = [], dict[str, bool]()
    for concern in concerns:
        said = _concern_rules(monitor, concern)
        rules.update(said)
        if any(said.values()):
            taken.append(concern)
    if rules:
        await _record(monitor, rules, len(taken))
    return without(text, taken) if taken else text


class Streamed:
    """One streamed answer of a session: each of its texts is a lane of its own, that no other completes."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._rules: dict[str, bool] = {}
        self._taken = 0
        self._known: dict[tuple[str, str], bool] = {}
        self._lanes: dict[Hashable, Defang] = {}
        self._defang = Rules(
            lambda address: self._stays("![]({})", address), lambda address: self._stays("{}", address)
        )
        strict = _concern_rules(monitor, FlowConcern("answer_url", "/body", "", "https://x.invalid/", ("x.invalid",)))
        if any(strict.values()):
            self._defang = replace(self._defang, bare=True)

    def feed(self, lane: Hashable, piece: str) -> str:
        """Take a piece of one text and return what may be shown of it now."""
        return self._lane(lane).text(piece)

    def finish(self) -> Iterator[tuple[Hashable, str]]:
        """Yield what was held back of each text, and which one it is of; the stream ends."""
        for lane, defang in self._lanes.items():
            held = defang.rest()
            if held:
                yield lane, held

    async def record(self) -> None:
        """Record what was taken out or warned of, if anything was."""
        if self._rules:
            await _record(self._monitor, self._rules, self._taken)

    def _lane(self, lane: Hashable) -> Defang:
        if lane not in self._lanes:
            self._lanes[lane] = Defang(self._defang)
        return self._lanes[lane]

    def _stays(self, form: str, address: str) -> bool:
        """Return whether the policy lets an address stay in an answer; one that cannot be judged does not."""
        known = self._known.get((form, address))
        if known is not None:
            return known
        flow = self._monitor.session.flow
        try:
            concerns = flow.answer(form.format(address)) if flow is not None else ()
            said: dict[str, bool] = {}
            for concern in concerns:
                said.update(_concern_rules(self._monitor, concern))
        except Exception:  # a guard that fails has seen nothing
            if flow is not None:
                flow.distrust()
            return False
        self._rules.update({rule: self._rules.get(rule, False) or enforced for rule, enforced in said.items()})
        self._taken += any(said.values())
        if len(self._known) < ADDRESSES_KNOWN_MAX:
            self._known[form, address] = not any(said.values())
        return not any(said.values())


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


def _concern_rules(monitor: Monitor, concern: FlowConcern) -> dict[str, bool]:
    """Return the rules of the policy that speak of a concern of an answer, and whether each is enforced."""
    action = Action.parse(
        {"kind": "message.send", "to": [monitor.principal.user], "channel": CHANNEL, "body": ""},
        principal=monitor.principal,
    )
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
