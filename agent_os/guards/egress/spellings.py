"""Characters spelt otherwise: as URLs, JSON, HTML and programs spell them, one within the other too. Pure.

Threat: a word that is looked for in the form it is written in, and read by the other side in the form it means.
"""

from __future__ import annotations

import html
import re
from typing import Final

ESCAPE: Final = re.compile(
    rb"%(?:25)*([0-9A-Fa-f]{2})"
    rb"|\\+(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|u\{0*([0-9A-Fa-f]{1,6})\}|([!-/:-@\[\]^_`{-~])|)"
    rb"|&(?:amp;)*(#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});?"
)
"""One character in another spelling; `meant_by` says which."""
_OF_WORDS: Final = re.compile(
    rb"%(?:25){0,4}(?:[46][1-9A-Fa-f]|[57][0-9Aa]|2[Dd]|3[Aa])|\\(?:u00|u\{|x)[2-7]|&(?:amp;){0,4}(?:#|col|hyp|das)"
)
"""A letter, hyphen or colon in another spelling: texts that hold none of these hide no word."""


def meant_by(escape: re.Match[bytes]) -> bytes | None:
    """Return what a spelling stands for, or None where it is none."""
    byte, unit, code, point, mark, entity = escape.groups()
    if byte or code:
        number = int(byte or code, 16)
        return bytes((number,)) if byte or number < 0x80 else chr(number).encode()
    if unit or point:
        number = int(unit or point, 16)
        return chr(number).encode("utf-8", "surrogatepass") if number <= 0x10FFFF else None
    if entity:
        named = b"&" + entity + b";"
        meant = html.unescape(named.decode()).encode()
        return None if meant == named else meant
    return mark or b"\\"


def decoded(data: bytes) -> bytes:
    """Return bytes with every spelling resolved; the same object where no letter is spelt otherwise."""
    if not any(sign in data for sign in (b"%", b"\\", b"&")) or _OF_WORDS.search(data) is None:
        return data
    return ESCAPE.sub(lambda escape: escape[0] if (meant := meant_by(escape)) is None else meant, data)
