"""The privacy router of one session: what to scan, how to rewrite, what to restore. Implements `core.ports.PrivacyRouter`.

Pure given its book of pseudonyms. A text that this router produced itself is recognised (by a keyed digest, bounded) and
not put behind placeholders a second time. Restoration happens towards the session itself, which is where the originals came
from; an action of this session that goes out again is scanned and rewritten again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from agent_os.core.action import Action, MessageSend, ModelCall, NetRequest, ToolCall
from agent_os.core.decision import Obligation
from agent_os.core.facts import Finding
from agent_os.guards.privacy.content import texts_of
from agent_os.guards.privacy.joints import EDGE_CHARS, TAILS_MAX
from agent_os.guards.privacy.pseudonyms import Entry, PseudonymBook, SentBook
from agent_os.guards.privacy.restore import StreamRestorer, restore_tree
from agent_os.guards.privacy.rewrite import rewrite

PRODUCED_MAX: Final = 8192
_ANSWERING: Final = (ModelCall, NetRequest, ToolCall, MessageSend)


class SessionRouter:
    """Rewrites what leaves one session and restores what comes back to it."""

    def __init__(
        self,
        book: PseudonymBook,
        *,
        local: tuple[str, str] | None = None,
        keep: Callable[[Sequence[Entry]], None] | None = None,
        kept: Callable[[], Awaitable[None]] | None = None,
        shared: bool = False,
    ) -> None:
        """`shared`: the book is that of several users, and a stand-in that can be guessed is restored only where this session
        put it out. `keep` stores issued pseudonyms and may return before they are stored; `kept` waits until they are."""
        self._book, self._local, self._keep, self._kept = book, local, keep, kept
        self._view = SentBook(book) if shared else book
        self._produced: OrderedDict[bytes, None] = OrderedDict()
        self._tails: OrderedDict[str, tuple[str, Mapping[str, str], Mapping[str, str]]] = OrderedDict()

    def reconfigure(self, *, local: tuple[str, str] | None) -> None:
        """Follow another policy from here on; the pseudonyms that are out stay known."""
        self._local = local

    @property
    def book(self) -> PseudonymBook:
        """The pseudonyms of this session's scope."""
        return self._book

    def texts(self, action: Action) -> Mapping[str, str]:
        """Return the texts of an action to be scanned, by RFC 6901 pointer into its arguments."""
        return texts_of(action)

    def before(self, action: Action) -> Mapping[str, str]:
        """Return the ends of what the last call of the same kind to the same place held, by pointer.

        Asking again for the same action says the same: a retry is no neighbour of itself.
        """
        if isinstance(action, ModelCall):
            return {}  # each call holds the conversation
        place = f"{action.kind} {action.target}"
        digest, earlier, last = self._tails.pop(place, ("", {}, {}))
        if digest != action.digest:
            ends = {pointer: text[-2 * EDGE_CHARS :] for pointer, text in texts_of(action).items()}
            earlier, last = last, dict(list(ends.items())[-TAILS_MAX:])
        self._tails[place] = (action.digest, earlier, last)
        while len(self._tails) > TAILS_MAX:
            self._tails.popitem(last=False)
        return earlier

    def rewrite(self, action: Action, findings: Sequence[Finding], obligations: Sequence[Obligation]) -> Action:
        """Return the action with redact, pseudonymise and local-only carried out; raises EffectError where it cannot."""
        changed = rewrite(action, findings, obligations, self._view, local=self._local, produced=self._is_produced)
        if changed is not action:
            for text in texts_of(changed).values():
                if "[" in text:
                    self._produced[_digest(text)] = None
                    self._produced.move_to_end(_digest(text))
            while len(self._produced) > PRODUCED_MAX:
                self._produced.popitem(last=False)
        fresh = self._book.take_fresh()
        if fresh and self._keep is not None:
            self._keep(fresh)
        return changed

    def restore(self, value: Any, action: Action) -> Any:
        """Return a value that comes back from an action, with the originals of this scope put back."""
        if not len(self._book) or not isinstance(action, _ANSWERING):
            return value
        return restore_tree(value, self._view)

    def stream(self, *, escape: str = "none") -> StreamRestorer:
        """Return a restorer for one stream that comes back (`json` for partial arguments of a tool call)."""
        return StreamRestorer(self._view, escape="json" if escape == "json" else "none")

    async def aclose(self) -> None:
        """Wait until every pseudonym that was issued is stored; the session ends."""
        if self._kept is not None:
            await self._kept()

    def _is_produced(self, text: str) -> bool:
        return _digest(text) in self._produced


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
