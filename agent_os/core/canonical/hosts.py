"""Host names: one spelling for each, or refused. Pure: nothing is resolved here.

Threat: two spellings of one host where a check sees the one and the network the other: case, a trailing dot, IPv4 in
decimal, octal, hexadecimal or short form, full-width digits, IDNA mappings, brackets, zone ids, percent-encoding, NUL;
and hosts that only look like another one (letters of several scripts in one label, or a label that consists of
look-alikes alone). Sources: RFC 3986 3.2.2, RFC 5891, UTS #46 and #39, the WHATWG URL standard's IPv4 parser.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any, Final

import idna

from agent_os.core.canonical.addresses import parse_ip, unmapped
from agent_os.core.canonical.texts import INVISIBLE
from agent_os.core.errors import ActionError

MAX_HOST_CHARS: Final = 253
MAX_LABEL_CHARS: Final = 63
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
_SCRIPTS_TOGETHER: Final = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)
"""What UTS #39 calls highly restrictive: the scripts that one label may mix."""
_LATIN_LOOKALIKES: Final = frozenset(
    "аеорсухіјѕԁһԛԝӏѵвкмнтгпԍ" "αορυνικτχγωεη" "օսոհցյզւ" "ა"  # Cyrillic, Greek, Armenian, Georgian
)  # fmt: skip
_LATIN_WITH_MARKS: Final = frozenset("ıɑɡʟɩɪɴʏꞌʻʼˈ")
"""Latin letters and modifiers that are drawn like ASCII ones; a label that uses them beside ASCII is refused."""


def host(value: Any, *, field: str = "host") -> str:
    """Return a host name in lower-case A-label form without trailing dot, or a canonical IP literal without brackets.

    IPv4 in every form that `inet_aton` takes becomes dotted decimal, IPv4-mapped IPv6 becomes IPv4. Raises ActionError
    for anything that is no single host (wildcards, ports, userinfo, percent-encoding, zone ids, control characters) and
    for labels that mix scripts or imitate Latin ones.
    """
    if not isinstance(value, str):
        raise ActionError("must be a string", field=field)
    try:
        return _host(value)
    except _NotAHostError as error:
        raise ActionError(error.reason, field=field, hint=error.hint) from None


class _NotAHostError(Exception):
    def __init__(self, reason: str, hint: str = "") -> None:
        self.reason, self.hint = reason, hint
        super().__init__(reason)


@lru_cache(maxsize=4096)
def _host(raw: str) -> str:
    if not raw or len(raw) > 4 * MAX_HOST_CHARS:
        raise _NotAHostError("must be a host name")
    if raw[0] == "[" or raw[-1] == "]":
        return _bracketed(raw)
    for char in raw:
        if char <= " " or char == "\x7f" or (char > "\x7f" and _hidden(char)):
            raise _NotAHostError("holds a control, space or invisible character")
    if ":" in raw:
        return _bracketed(f"[{raw}]")
    bad = next((char for char in raw if char in "%*?/\\@#{}[]!$&'()+,;=\"<>^`|~"), "")
    if bad:
        hint = {"%": "write the decoded name", "*": "wildcards belong into a policy"}
        raise _NotAHostError(f"holds {bad!r}", hint.get(bad, "a name or an IP address, without port or user"))
    name = raw if raw.isascii() else _mapped(raw)
    name = name.lower()
    if name.endswith("."):
        name = name[:-1]
    labels = name.split(".")
    if any(not label for label in labels):
        raise _NotAHostError("has an empty label")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(labels)
    if len(name) > MAX_HOST_CHARS:
        raise _NotAHostError(f"is longer than {MAX_HOST_CHARS} characters")
    for label in labels:
        _check_label(label, labels[-1])
    return name


def _hidden(char: str) -> bool:
    return char in INVISIBLE or unicodedata.category(char) in ("Cc", "Cs", "Cf", "Zs", "Zl", "Zp", "Co", "Cn")


def _bracketed(raw: str) -> str:
    inner = raw[1:-1]
    if not (raw.startswith("[") and raw.endswith("]")):
        raise _NotAHostError("has an unbalanced bracket")
    if "%" in inner:
        raise _NotAHostError("has a zone id", "link-local addresses cannot be reached")
    address = parse_ip(inner)
    if address is None or ":" not in inner:
        raise _NotAHostError("is not an IPv6 address", "brackets hold an IPv6 address and nothing else")
    return str(unmapped(address))


def _mapped(raw: str) -> str:
    """Return the A-label form of a name with characters beyond ASCII (UTS #46, non-transitional)."""
    try:
        plain = idna.uts46_remap(raw, std3_rules=True, transitional=False)
        if plain.isascii():
            return plain
        return idna.encode(plain).decode()
    except (idna.IDNAError, UnicodeError, IndexError):
        raise _NotAHostError("is not a valid internationalised host name") from None


def _ipv4(labels: list[str]) -> str:
    """Return dotted decimal for the forms of `inet_aton`: 1 to 4 numbers, the last filling what is left."""
    if len(labels) > 4:
        raise _NotAHostError("ends in a number but is no IPv4 address")
    numbers = []
    for label in labels:
        if not _NUMBER.fullmatch(label):
            raise _NotAHostError("ends in a number but is no IPv4 address")
        try:
            if label[:2] in ("0x", "0X"):
                numbers.append(int(label[2:] or "0", 16))
            elif len(label) > 1 and label[0] == "0":
                numbers.append(int(label, 8))
            else:
                numbers.append(int(label))
        except ValueError:
            raise _NotAHostError("ends in a number but is no IPv4 address") from None
    *head, last = numbers
    if any(number > 255 for number in head) or last >= 256 ** (5 - len(numbers)):
        raise _NotAHostError("is an IPv4 address out of range")
    value = last
    for index, number in enumerate(head):
        value += number << (8 * (3 - index))
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))


def _check_label(label: str, top: str) -> None:
    if len(label) > MAX_LABEL_CHARS or not _LABEL.fullmatch(label):
        raise _NotAHostError("has a malformed label")
    if not label.startswith("xn--"):
        return
    try:
        shown = idna.decode(label)
        if idna.encode(shown).decode() != label:
            raise _NotAHostError("is not a canonical internationalised label")
    except (idna.IDNAError, UnicodeError, IndexError):
        raise _NotAHostError("is not a valid internationalised host name") from None
    scripts = {_script(char) for char in shown} - {""}
    if len(scripts) > 1 and not any(scripts <= together for together in _SCRIPTS_TOGETHER):
        raise _NotAHostError("mixes scripts in one label", "a look-alike of another host")
    letters = [char for char in shown if char.isalpha()]
    if any(char in _LATIN_WITH_MARKS for char in shown):
        raise _NotAHostError("holds a look-alike of a Latin letter")
    looks = all(char in _LATIN_LOOKALIKES for char in letters) or scripts == {"CHEROKEE"}
    if letters and looks and not top.startswith("xn--"):
        raise _NotAHostError("consists of look-alikes of Latin letters")


@lru_cache(maxsize=2048)
def _script(char: str) -> str:
    """Return the script of a letter by its Unicode name, or "" for digits, marks and punctuation."""
    if not char.isalpha():
        return ""
    first = unicodedata.name(char, "UNKNOWN").split(" ", 1)[0].split("-", 1)[0]
    return first if first not in ("MODIFIER", "FULLWIDTH", "IDEOGRAPHIC") else "LATIN" if first == "FULLWIDTH" else ""
