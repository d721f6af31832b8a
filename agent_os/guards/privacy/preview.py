"""What a person who is asked gets to see of values that privacy guards. Pure.

Secrets are never shown, numbers that identify somebody by their last four characters. What a person must judge stays whole:
names, addresses of mail and web, bank accounts (a look-alike with the same ends can be made). What is approved is the exact
action; this is only its picture. Threat: an approvals list, a chat message or a terminal's history that holds the keys and cards
an agent was about to send.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent_os.core.action import Action
from agent_os.core.facts import Finding
from agent_os.guards.privacy.content import replaced
from agent_os.guards.privacy.spans import resolve

SHOWN_CHARS: Final = 4
SHOWN_OF_CHARS_MIN: Final = 9
SURE: Final = 0.5
_WHOLE: Final = frozenset(
    {
        "AGE", "CRYPTO", "DATE_TIME", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "LITERAL", "LOCATION", "MAC_ADDRESS", "NRP",
        "ORGANIZATION", "PERSON", "PHONE_NUMBER", "UNREADABLE", "URL",
    }
)  # fmt: skip


def pictured(action: Action, findings: Sequence[Finding] | None) -> Action:
    """Return an action as it may be shown; itself where nothing in it is to be withheld, or nothing was looked for."""
    by_pointer: dict[str, list[Finding]] = {}
    for item in findings or ():
        if item.type not in _WHOLE and (item.score >= SURE or item.type.startswith("SECRET_")):
            by_pointer.setdefault(item.pointer, []).append(item)
    if not by_pointer:
        return action

    def change(pointer: str, text: str) -> str:
        edge, out = 0, []
        for item in resolve(by_pointer.get(pointer, ()), text=text):
            out += [text[edge : item.start], withheld(item.type, text[item.start : item.end])]
            edge = item.end
        return "".join([*out, text[edge:]])

    return replaced(action, change)


def withheld(kind: str, value: str) -> str:
    """Return what stands for a value: its kind, and the end of a number that is long enough."""
    if kind.startswith("SECRET_") or len(value) < SHOWN_OF_CHARS_MIN or not value[-SHOWN_CHARS:].isalnum():
        return f"[{kind} withheld]"
    return f"[{kind} \u2026{value[-SHOWN_CHARS:]}]"
