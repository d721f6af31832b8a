"""Delivering messages: the effector of `message.send` on the channel `agent`, and what a message to a box starts.

One `Post` serves every session over one state. It says who sent a message (the permitted action's principal), with which
label (the permit's), and signs it; a secret is not delivered, because its reader's guard would not know it for one. Other
channels (mail, chat) are tools or tool servers. Threats: a message whose delivery half fails and is sent twice (its id is
made of the permit's key), a schedule of somebody else that a message would start.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agent_os.core.action import Action, MessageSend
from agent_os.core.canonical import json_bytes
from agent_os.core.errors import ActionError, EffectError
from agent_os.core.label import TRUSTED, Confidentiality
from agent_os.core.mail import BODY_BYTES_MAX, BOX, RECIPIENTS_MAX, Mail, box_of, own_box, sign
from agent_os.core.ports import Clock, Outcome, Permit
from agent_os.core.principal import Principal
from agent_os.core.stop import NONE, Stops
from agent_os.effects.stores.keys import Keys
from agent_os.effects.stores.mailbox import Mailboxes

CHANNEL: Final = "agent"


class Post:
    """Carries messages between the agents of one installation."""

    kinds = frozenset({"message.send"})

    def __init__(
        self,
        open_boxes: Callable[[], Mailboxes],
        clock: Clock,
        path: Path,
        keys: Keys,
        environment: Mapping[str, str],
        stopped: Callable[[], Stops] = lambda: NONE,
    ) -> None:
        self._open_boxes, self._clock, self._path, self._keys, self._env = open_boxes, clock, path, keys, environment
        self._stopped = stopped

    @functools.cached_property
    def _boxes(self) -> Mailboxes:
        """The mailboxes, opened with the first message: their keys are read from files, and most sessions send none."""
        return self._open_boxes()

    async def execute(self, permit: Permit, action: Action) -> Outcome:
        """Deliver one message to every recipient. Raises EffectError for another channel, a full box or a secret."""
        if not isinstance(action, MessageSend) or action.channel != CHANNEL:
            raise EffectError("only messages between agents are delivered here: use a tool for other channels")
        if permit.label.confidentiality is Confidentiality.SECRET:
            raise EffectError("a secret is not sent in a message")
        if not 0 < len(action.to) <= RECIPIENTS_MAX or len(json_bytes(action.body)) > BODY_BYTES_MAX:
            raise EffectError(f"at most {RECIPIENTS_MAX} recipients and {BODY_BYTES_MAX} bytes")
        try:
            boxes = [(to, box_of(action.principal, to)) for to in dict.fromkeys(action.to)]
        except ActionError as error:
            raise EffectError(str(error)) from None
        delivered = []
        for to, box in boxes:
            mail = self._mail(permit, action, to, box)
            fresh = await self._boxes.put(mail)
            delivered.append({"to": to, "id": mail.id})
            if fresh and to.startswith(BOX):
                await self._arrived(mail, to[len(BOX) :])
        return Outcome({"delivered": delivered}, TRUSTED)

    async def read(self, principal: Principal, *, after: str = "", limit: int = 20) -> Sequence[Mail]:
        """Return what lies in an agent's own mailbox, oldest first."""
        return await self._boxes.read(own_box(principal), after=after, limit=limit)

    def _mail(self, permit: Permit, action: MessageSend, to: str, box: str) -> Mail:
        name = hashlib.sha256(json_bytes([permit.idempotency_key, action.digest, box])).hexdigest()[:20]
        mail = Mail(f"msg_{name}", box, to, action.principal, self._clock.now(), action.body, permit.label)
        return replace(mail, signature=sign(mail.form(), self._boxes.key))

    async def _arrived(self, mail: Mail, name: str) -> None:
        """Start the schedules of the same user that wait for this box, where tasks are kept at all."""
        from agent_os.runtime.tasks.happened import message_arrived  # noqa: PLC0415 - only boxes pay for the tasks' imports

        if not self._env.get("AGENTOS_TASKS") and not (self._path / "agents.db").exists():
            return
        said: dict[str, Any] = {"id": mail.id, "from": mail.shown()["from"], "body": mail.body}
        await message_arrived(self._path, self._keys, self._env, mail.sender, name, said, stopped=self._stopped)


def post_keys(keys: Keys) -> list[bytes]:
    """Return the keys that messages are signed with, the current one first: those that seal payloads, for a use of their own."""
    current = keys.current("payload")
    older = [key for key in keys.existing("payload") if key.id != current.id]
    return [hashlib.sha256(b"agentos.mail\0" + key.secret).digest() for key in (current, *older)]


__all__ = ["Post", "post_keys"]
