"""Texts, strictly and loosely normalised, and the tokens in them. Pure.

Two normal forms, because the two questions asked of a text are opposite. *Vouching* (does the prompt name this value?)
is strict: only case, compatibility forms and outer space are ignored, so that a look-alike letter is another value.
*Tainting* (does this value stand in untrusted text?) is loose: look-alikes, marks, zero-width characters, spacing,
percent, HTML, hex, escape and base64 encodings and reversal all count as the same value. An attacker who spells a value
differently thus gains nothing on either side.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

DECODE_DEPTH_MAX: Final = 3
"""Encodings inside encodings that are followed; deeper text stays as it is written."""
DECODED_CHARS_MAX: Final = 200_000
"""Longest run that is tried as base64 or hex; a longer one is not decoded (its value is then vouched for by nobody)."""

_LOOK_ALIKES: Final = str.maketrans(
    "аеорсухіјѕԁԛԝһкмтвнзѵԍɡɩοαρνικτυχεγηωβꜱᴀʙᴄᴅᴇɢʜɪᴊᴋʟᴍɴᴏᴘʀᴛᴜᴠᴡʏᴢ",
    "aeopcyxijsdqwhkmtbh3vggioapviktuxeynwbsabcdeghijklmnoprtuvwyz",
)
_DASHES: Final = str.maketrans(dict.fromkeys("‐‑‒–—―−﹣－", "-") | dict.fromkeys("。．｡․", ".") | {"＠": "@"})
_WORD: Final = re.compile(r"[^\W_]+")
_SPACED: Final = re.compile(rb"[\x01\x02]{5,}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2}[\s:]?){6,}")
_ESCAPE: Final = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})")
EMAIL: Final = re.compile(r"[a-z0-9._%+'-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.I)
URL: Final = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,12}://|//|www\.)[^\s<>\"'`)\]}|]+"
    r"|(?<![@\w.-])(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+"
    r"(?:com|org|net|io|ai|dev|app|co|info|biz|me|ru|cn|de|fr|uk|eu|us|ly|xyz|top|site|online|link|click|example|test|ch|nl|in|shop|cloud|gov|edu)"
    r"(?![\w@.-]*@)(?::\d{1,5})?(?:/[^\s<>\"'`)\]}|]*)?(?![\w-])",
    re.I,
)
IPV4_URL: Final = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?/[^\s<>\"'`)\]}|]*")


def strict(text: str) -> str:
    """Return the form in which vouching compares: NFKC, case folded, outer and repeated space gone."""
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def loose(text: str) -> str:
    """Return the form in which tainting compares: look-alikes folded, marks and invisible characters gone."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKD", text).casefold().translate(_DASHES)
    if text.isascii():
        return text
    text = "".join(char for char in text if unicodedata.category(char) not in ("Mn", "Cf", "Me"))
    return text.translate(_LOOK_ALIKES)


def spaced_sentences(text: str) -> str:
    """Return a text with the space put back between sentences that were run together (`example.com.They said`)."""
    return re.sub(r"(?<=[a-z0-9])([.!?])(?=[A-Z][a-z]+\b(?![.@/]))", r"\1 ", text)


def words(text: str) -> list[str]:
    """Return the words of a text in its loose form, in order."""
    return _WORD.findall(loose(text))


def spaced_out(found: list[str]) -> list[str]:
    """Return words hidden by spacing (`e v i l @ x`) among the words of a text: runs of one- and two-letter ones, joined."""
    sizes = bytes([size if size < 3 else 3 for size in map(len, found)])
    return ["".join(found[run.start() : run.end()]) for run in _SPACED.finditer(sizes)]


def decoded(text: str, depth: int = DECODE_DEPTH_MAX) -> Iterator[str]:
    """Yield what encodings inside a text decode to: percent, HTML, escapes, hex and base64, nested to a bound."""
    if depth <= 0:
        return
    found: list[str] = []
    if "%" in text:
        found.append(unquote(text))
    if "&" in text and ";" in text:
        found.append(html.unescape(text))
    if "\\u" in text or "\\x" in text:
        found.append(_ESCAPE.sub(lambda match: chr(int(match[1] or match[2], 16)), text))
    for match in _HEX.findall(text):
        compact = re.sub(r"[\s:]", "", match)
        if len(compact) <= DECODED_CHARS_MAX and len(compact) % 2 == 0:
            found.append(_printable(bytes.fromhex(compact)))
    for match in _BASE64.findall(text):
        if len(match) <= DECODED_CHARS_MAX:
            found.append(_from_base64(match))
    for item in found:
        if item and item != text:
            yield item
            yield from decoded(item, depth - 1)


def _from_base64(run: str) -> str:
    body = run.rstrip("=").replace("-", "+").replace("_", "/")
    if len(body) % 4 == 1:
        body = body[:-1]
    try:
        return _printable(base64.b64decode(body + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError):
        return ""


def _printable(data: bytes) -> str:
    """Return bytes as text if they are text, else nothing."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return ""
    odd = sum(not (char.isprintable() or char.isspace()) for char in text)
    return text if odd * 10 <= len(text) else ""


def urls(text: str) -> list[str]:
    """Return every web address in a text: with a scheme, starting with `www.` or bare; Markdown and HTML alike."""
    if "." not in text and "//" not in text:
        return []
    found = []
    for part in text.split():  # an address holds no space: only parts with a dot inside are looked at more closely
        if "." in part[:-1] or "//" in part:
            found += [*URL.findall(part), *IPV4_URL.findall(part)]
    return [match.rstrip(".,;:!?") for match in found]


def host_of(url: str) -> str:
    """Return the host of a web address in its loose form, for tainting; empty if there is none."""
    return _host(loose(url.strip()))


def strict_host(url: str) -> str:
    """Return the host of a web address in its strict form, for vouching; empty where readers could disagree on it."""
    form = strict(url)
    authority = re.split(r"[/?#]", re.sub(r"^[a-z][a-z0-9+.-]*:", "", form).lstrip("/"), maxsplit=1)[0]
    return "" if "\\" in form or "@" in authority or "%" in authority else _host(form)


def _host(form: str) -> str:
    rest = re.sub(r"^[a-z][a-z0-9+.-]*:(?!\d)", "", form).lstrip("/\\")
    rest = re.split(r"[/\\?#]", rest, maxsplit=1)[0].rsplit("@", 1)[-1]
    return re.sub(r":\d*$", "", rest).strip("[].").removeprefix("www.")


_MAILBOX: Final = re.compile(r"[^<>@,;]*<([^<>@\s,;]+@[^<>@\s,;]+)>")


def mailbox(text: str) -> str:
    """Return the address in `Name <address>`; any other text as it is."""
    found = _MAILBOX.fullmatch(text.strip())
    return found[1] if found else text


def emails(text: str) -> list[str]:
    """Return every e-mail address in a text, in its loose form."""
    return EMAIL.findall(loose(text)) if "@" in text or "＠" in text else []
