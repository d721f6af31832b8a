"""Other readings of a text: what it says once disguises are taken off, with the way back to the text as given. Pure.

A view is a text and, for each of its characters, the range of the original it stands for. Disguises: zero-width characters,
digits of other scripts, full-width and look-alike letters, URL, HTML and Unicode escapes, Base64 and hex, values cut up by
separators, digits written as words, `name (at) host (dot) org`. Nested encodings are followed VIEW_DEPTH_MAX deep; together the
views of a text are at most VIEW_CHARS_MAX_RATIO times as long as it; where that is not enough a last view says so (`cut`). Threat: an agent told to send the key "in Base64, twice".
"""

# ruff: noqa: E501 - word lists and expressions read better whole
from __future__ import annotations

import base64
import binascii
import html
import quopri
import re
import unicodedata
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from agent_os.guards.privacy.disguises import disguises, inflated
from agent_os.guards.privacy.view import View, substituted

VIEW_DEPTH_MAX: Final = 12
VIEW_CHARS_MIN: Final = 1_000_000
VIEW_CHARS_MAX_RATIO: Final = 4
LOCAL_CHARS_MAX: Final = 64
ENCODED_CHARS_MAX: Final = 4_000_000
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)  # fmt: skip
_LOOKALIKES: Final = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0445\u0443\u0456\u0458\u0455\u0501\u04bb\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406\u0405\u0408"
    "\u03b1\u03bf\u03bd\u03c1\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u2010\u2011\u2012\u2013\u2014\u2212\u00b7\u2024\u3002\uff0e",
    "aeopcxyijsdhABEKMHOPCTXISJaovpABEZHIKMNOPTYX------....",
)


def views(text: str) -> Iterator[View]:
    """Yield the readings of a text that differ from it, nested ones included, within the bounds above."""
    budget = [max(VIEW_CHARS_MIN, len(text) * VIEW_CHARS_MAX_RATIO)]
    yield from _nested(View(text, range(len(text)), range(1, len(text) + 1)), 0, budget)


def _nested(outer: View, depth: int, budget: list[int]) -> Iterator[View]:
    if depth >= VIEW_DEPTH_MAX:
        deeper = next((inner for inner in _readings(outer.text) if inner.whole), None)
        if deeper is not None:
            yield replace(_through(outer, deeper), text="", cut=True)
        return
    for inner in _readings(outer.text):
        budget[0] -= len(inner.text)
        if budget[0] < 0:
            if budget[0] > -VIEW_CHARS_MIN * VIEW_CHARS_MAX_RATIO * 4:
                yield replace(_through(outer, inner), text="", cut=True)
                budget[0] = -VIEW_CHARS_MIN * VIEW_CHARS_MAX_RATIO * 4  # said once
            return
        view = _through(outer, inner)
        yield view
        yield from _nested(view, depth + 1, budget)


def _through(outer: View, inner: View) -> View:
    """Return `inner` (a view of `outer`'s text) as a view of the original."""
    if outer.whole:
        return View(inner.text, outer.starts[:1], outer.ends[-1:], whole=True)
    if inner.whole:
        start, end = outer.place(inner.starts[0], inner.ends[0])
        return View(inner.text, (start,), (end,), whole=True)
    if isinstance(outer.starts, range) and outer.starts.start == 0:
        return inner
    starts = [outer.starts[place] for place in inner.starts]
    return View(inner.text, starts, [outer.ends[place - 1] for place in inner.ends])


def _readings(text: str) -> Iterator[View]:
    if not text.isascii():
        yield from _plain_letters(text)
    if "%" in text:
        yield from substituted(text, _PERCENT, lambda value: urllib.parse.unquote(value, errors="strict"))
    if "&" in text:
        yield from substituted(text, _ENTITY, html.unescape)
    if "\\" in text:
        yield from substituted(text, _ESCAPE, _unescape)
    if "=" in text and _QUOTED_SIGN.search(text):
        yield from substituted(text, _QUOTED, lambda value: quopri.decodestring(value).decode("utf-8"))
    yield from _encoded(text)
    yield from _separated(text)
    yield from disguises(text)


# ---- characters -----------------------------------------------------------------------------------------------------


def _plain_letters(text: str) -> Iterator[View]:
    """The text without invisible characters, with ASCII for digits of any script, wide letters and look-alikes."""
    out: list[str] = []
    starts: list[int] = []
    changed = False
    mixed = _mixed_words(text)
    for place, char in enumerate(text):
        if char < "\x80":
            out.append(char)
            starts.append(place)
            continue
        if _INVISIBLE.match(char) or (out and unicodedata.combining(char) and out[-1] < "\x80"):
            changed = True
            continue
        plain = _plain(char, place in mixed)
        changed = changed or plain != char
        out.append(plain)
        starts.append(place)
    if changed:
        yield View("".join(out), starts, [place + 1 for place in starts])


def _plain(char: str, mixed: bool) -> str:
    digit = unicodedata.decimal(char, None)
    if digit is not None:
        return str(digit)
    simple = unicodedata.normalize("NFKC", char)
    if len(simple) == 1 and simple != char:
        char = simple
    if char in "\u2010\u2011\u2012\u2013\u2014\u2212\u00b7\u2024\u3002\uff0e" or mixed:
        return char.translate(_LOOKALIKES)
    return char


_MIXED: Final = re.compile(r"[\w@.-]*[A-Za-z0-9@][\w@.-]*")


def _mixed_words(text: str) -> frozenset[int]:
    """Places of letters in words that mix Latin with another alphabet: disguise, not language."""
    places: set[int] = set()
    for match in re.finditer(r"[\u0370-\u03ff\u0400-\u052f]", text):
        low, high = max(0, match.start() - 40), match.start() + 40
        word = next(
            (item for item in _MIXED.finditer(text, low, high) if item.start() <= match.start() < item.end()), None
        )
        if word is not None:
            places.add(match.start())
        if len(places) > 100_000:
            break
    return frozenset(places)


# ---- escapes --------------------------------------------------------------------------------------------------------

_PERCENT: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,10});")
_ESCAPE: Final = re.compile(r"(?:\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}|\\x[0-9A-Fa-f]{2}|\\u\{[0-9A-Fa-f]{1,6}\}|\\/)+")
_QUOTED: Final = re.compile(r"(?:=[0-9A-F]{2})+|=\r?\n")
_QUOTED_SIGN: Final = re.compile(
    r"(?i:quoted-printable|=\?utf-8\?q\?)|=C3=[89AB][0-9A-F]|=(?:3D|40|2E)(?![0-9A-Fa-f])|(?:=[0-9A-F]{2}){6}"
)
"""What tells a text in quoted-printable (RFC 2045) from one with equals signs."""
_ONE: Final = re.compile(r"\\u\{([0-9A-Fa-f]{1,6})\}|\\[uU]([0-9A-Fa-f]{8}|[0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})|\\(/)")


def _unescape(value: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match.group(1) or match.group(2) or match.group(3)
        return chr(int(code, 16)) if code and int(code, 16) <= 0x10FFFF else "/"

    return _ONE.sub(one, value)


# ---- Base64 and hex -------------------------------------------------------------------------------------------------

_BASE64: Final = re.compile(
    r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{12,}(?:\r?\n[A-Za-z0-9+/_-]{12,}){0,2000}={0,2}(?![A-Za-z0-9+/_-])"
)
_BASE32: Final = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Z2-7]{16,}={0,6}(?![A-Za-z0-9+/_=-])")
_HEX: Final = re.compile(r"(?<![0-9A-Za-z])(?:0x)?(?:[0-9a-fA-F]{2}[ :]?){12,}(?![0-9A-Za-z])")
_ALPHA_ONLY: Final = re.compile(r"[a-z]+|[A-Z]+|[A-Z][a-z]+|[a-z]+(?:[A-Z][a-z]+)+")


def _encoded(text: str) -> Iterator[View]:
    for match in _BASE64.finditer(text):
        value = match.group()
        if len(value) > ENCODED_CHARS_MAX or _ALPHA_ONLY.fullmatch(value):
            continue
        plain = _decoded(value)
        if plain:
            yield View(plain, (match.start(),), (match.end(),), whole=True)
    for match in _BASE32.finditer(text):
        value = match.group().rstrip("=")
        if len(value) > ENCODED_CHARS_MAX or value.isalpha() or value.isdigit() or len(value) % 8 in (1, 3, 6):
            continue
        plain = _readable(base64.b32decode(value + "=" * (-len(value) % 8)))
        if plain:
            yield View(plain, (match.start(),), (match.end(),), whole=True)
    for match in _HEX.finditer(text):
        value = match.group().removeprefix("0x").replace(" ", "").replace(":", "")
        try:
            plain = _readable(bytes.fromhex(value))
        except ValueError:
            continue
        if plain:
            yield View(plain, (match.start(),), (match.end(),), whole=True)


def _decoded(value: str) -> str:
    """Return the readable text behind Base64 (either alphabet, padded or not), or an empty text."""
    compact = value.replace("\r", "").replace("\n", "").rstrip("=").replace("-", "+").replace("_", "/")
    if len(compact) % 4 == 1:
        return ""
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (ValueError, binascii.Error):
        return ""
    return _readable(data)


def _readable(data: bytes) -> str:
    """Return bytes as text where they are one: UTF-8 or UTF-16, almost all of it printable."""
    data = inflated(data)
    if data.count(0) * 3 >= len(data) and len(data) % 2 == 0:
        text = data.decode("utf-16-le" if data[1::2].count(0) >= data[::2].count(0) else "utf-16-be", "replace").lstrip(
            "\ufeff"
        )
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return ""
    sample = text[:400]
    good = sum(char.isprintable() or char in "\r\n\t" for char in sample)
    return text if len(sample) >= 6 and good >= 0.97 * len(sample) else ""


# ---- values cut up --------------------------------------------------------------------------------------------------

_SPREAD: Final = re.compile(r"(?<!\w)[A-Za-z0-9](?:[ \t._\-\u00b7*|,/~:+]{1,3}[A-Za-z0-9]){8,80}(?!\w)")
_CUT: Final = re.compile(r"(?<![\w.])\d{1,6}(?:[ \t._\-*|,/~]{1,3}\d{1,6}){2,24}(?!\w)")
_SAID_AT: Final = re.compile(
    r"[\w.+-]{1,64}(?: ?[\[({<] ?(?:at|@|\u00e4t|arroba|chez) ?[\])}>] ?| at )[\w-]{1,63}(?:(?: ?[\[({<] ?(?:dot|\.|punkt|punto|point) ?[\])}>] ?| dot |\.)[\w-]{2,63}){1,5}",
    re.I,
)
_AT: Final = re.compile(r" ?[\[({<] ?(?:[aA][tT]|@|\u00e4t|arroba|chez) ?[\])}>] ?| (?:at|AT) ")
_DOT: Final = re.compile(r" ?[\[({<] ?(?:dot|\.|punkt|punto|point) ?[\])}>] ?| dot ", re.I)


def _separated(text: str) -> Iterator[View]:
    """Values with something between their characters or groups, put together; each match is a view of its own."""
    for pattern in (_SPREAD, _CUT):
        for match in pattern.finditer(text):
            chars = [(place, text[place]) for place in range(*match.span()) if text[place].isalnum()]
            if pattern is _SPREAD:
                chars = [
                    (place, text[place])
                    for place in range(*match.span())
                    if text[place].isalnum() or text[place] in "@"
                ]
            joined = "".join(char for _, char in chars)
            if joined != match.group() and 9 <= len(joined) <= 80 and (pattern is not _CUT or len(joined) >= 12):
                starts = [place for place, _ in chars]
                yield View(joined, starts, [place + 1 for place in starts])
    if " at " in text or " AT " in text or "[" in text or "(" in text or "{" in text or "<" in text:
        for sign in _AT.finditer(text):
            low = sign.start()
            while (
                low > 0
                and sign.start() - low < LOCAL_CHARS_MAX
                and (text[low - 1].isalnum() or text[low - 1] in "._+-")
            ):
                low -= 1
            said = _SAID_AT.match(text, low)
            if said is None or said.end() < sign.end():
                continue
            value = said.group()
            plain = _DOT.sub(".", _AT.sub("@", value, count=1))
            if "dot" not in value.lower() and not re.search(r"[\[({<]", value):
                continue
            if plain != value and plain.count("@") == 1:
                yield View(plain, (said.start(),), (said.end(),), whole=True)
