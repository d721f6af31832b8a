"""Reasoning that a provider signed: what may be sent back to it, and what is left out because its words changed. Pure.

A provider (Anthropic) signs its reasoning and refuses a conversation that brings it back with other words. What the privacy
router pseudonymised, and restored for the caller, becomes the signed words again when it leaves; what was redacted, made
harmless (a link) or changed by the caller does not. Such a block is left out, which the provider allows in earlier turns; where
the turn is still going on (results of its tools follow), thinking is switched off for the call, because a turn may not go on
without its reasoning. Less is sent than was judged, never more. Threat: a caller that puts words into the provider's own mouth.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent_os.core.action import ModelCall
from agent_os.guards.models.neutral import REQUEST_ROLE

SIGNATURES_MAX: Final = 4096
_REASONING: Final = ("thinking", "redacted_thinking")


class SignedReasoning:
    """Remembers what a session's providers signed, bounded, by digests."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, bytes] = OrderedDict()

    def learn(self, words: str, signature: str) -> None:
        """Remember the reasoning of an answer as the provider gave it."""
        if signature:
            self._known[_digest(signature).hex()] = _digest(words)
            if len(self._known) > SIGNATURES_MAX:
                self._known.popitem(last=False)

    def sendable(self, asked: ModelCall, final: ModelCall) -> ModelCall:
        """Return the judged call without reasoning that is not as it was signed; `asked` is the call before rewriting."""
        before = [_parts(message) for message in asked.messages]
        messages: list[Any] = []
        dropped = -1
        for number, message in enumerate(final.messages):
            parts = _parts(message)
            held = before[number] if number < len(before) else []
            kept = [part for part in parts if not _is_reasoning(part) or self._as_signed(part, held)]
            if len(kept) == len(parts):
                messages.append(message)
                continue
            dropped = number
            messages.append({**message, "content": kept or ""})
        if dropped < 0:
            return final
        if all(message.get("role") in ("tool", "assistant") for message in messages[dropped:]):
            messages = [_unthinking(message) for message in messages]
        return final.rewritten(messages=messages)  # type: ignore[return-value]

    def _as_signed(self, part: Mapping[str, Any], asked: Sequence[Any]) -> bool:
        if part["type"] == "redacted_thinking":
            return part in asked
        known = self._known.get(_digest(str(part.get("signature", ""))).hex())
        if known is None:  # signed before this session, or by another gateway
            return bool(part.get("signature")) and part in asked
        return known == _digest(str(part.get("thinking", "")))


def _parts(message: Any) -> list[Any]:
    content = message.get("content") if isinstance(message, Mapping) else None
    return list(content) if isinstance(content, (list, tuple)) else []


def _is_reasoning(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in _REASONING


def _unthinking(message: Any) -> Any:
    content = message.get("content")
    if message.get("role") != REQUEST_ROLE or not isinstance(content, Mapping):
        return message
    params = {name: value for name, value in content.get("params", {}).items() if name != "thinking"}
    return {**message, "content": {**content, "params": params}}


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=24).digest()
