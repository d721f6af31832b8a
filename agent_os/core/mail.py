"""Messages between agents: whom they reach, what they carry, and how the runtime signs them. Pure values.

    reader-1        the agent of that name in the sender's own session (`main` is its root)
    task:ID         the root agent of another task of the same user
    box:NAME        a mailbox of the user's own, which a schedule may wait for

A message is what an untrusted party wrote, whoever carries it: its body vouches for nothing. Threats: a message that claims
another sender (the runtime says who sent it, and signs that), one that crosses from one user to another (a box has an
owner and no address names another), one that was edited where it lies, a body that grows without end.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.canonical import json_bytes
from agent_os.core.errors import ActionError
from agent_os.core.label import UNTRUSTED, Label
from agent_os.core.principal import Principal

BODY_BYTES_MAX: Final = 256 * 1024
RECIPIENTS_MAX: Final = 64
NAME_CHARS_MAX: Final = 200
TASK: Final = "task:"
BOX: Final = "box:"
ROOT: Final = "main"


@dataclass(frozen=True, slots=True)
class Mail:
    """One message as it lies in a mailbox. `at` is Unix seconds; `signature` is the runtime's over all the rest."""

    id: str
    box: str
    to: str
    sender: Principal
    at: float
    body: Any
    label: Label = UNTRUSTED
    signature: str = ""

    def form(self) -> bytes:
        """Return what is signed: everything but the signature, in RFC 8785 form."""
        said = [self.id, self.box, self.to, self.sender.to_json(), repr(self.at), self.body, self.label.to_json()]
        return json_bytes(["agentos.mail.1", *said])

    def signed_by(self, keys: Sequence[bytes]) -> bool:
        """Return whether the signature is one of these keys'."""
        form = self.form()
        return (
            sum(hmac.compare_digest(self.signature, sign(form, key)) for key in keys) > 0
        )  # every key, whichever fits

    def shown(self) -> dict[str, Any]:
        """Return the message as its reader gets it."""
        return {
            "id": self.id,
            "from": "/".join((*self.sender.parents, self.sender.agent)),
            "at": self.at,
            "body": self.body,
            "integrity": self.label.integrity.name.lower(),
        }


def sign(form: bytes, key: bytes) -> str:
    """Return the signature of a form (HMAC-SHA256 under a key of the runtime's own, in hex)."""
    return hmac.new(key, form, "sha256").hexdigest()


def box_of(principal: Principal, recipient: str) -> str:
    """Return the mailbox that a recipient names, as this principal may name it. Raises ActionError."""
    if not recipient or len(recipient) > NAME_CHARS_MAX or any(ord(char) < 32 or char in "/|" for char in recipient):
        raise ActionError(f"is a name of 1 to {NAME_CHARS_MAX} printable characters", field="to")
    if recipient.startswith(BOX):
        return _box(principal, "box", recipient[len(BOX) :])
    if recipient.startswith(TASK):
        return _box(principal, "session", recipient[len(TASK) :], ROOT)
    if ":" in recipient or "@" in recipient:
        hint = "an agent's name, task:ID or box:NAME"
        raise ActionError(f"reaches nobody: {recipient!r} is no agent's address", field="to", hint=hint)
    return _box(principal, "session", principal.session, recipient)


def own_box(principal: Principal) -> str:
    """Return the mailbox of an agent itself."""
    return _box(principal, "session", principal.session, principal.agent)


def _box(principal: Principal, *parts: str) -> str:
    if not all(parts):
        raise ActionError("names nobody", field="to", hint="an agent's name, task:ID or box:NAME")
    return json_bytes([principal.tenant, principal.user, *parts]).decode()
