"""Names and texts that a program nobody trusts wrote, as a person may see them.

Pure. Threats: control sequences that drive the terminal, a line break in a file's name that fakes a line of ours, characters that
reorder what stands around them.
"""

from __future__ import annotations

from typing import Any


def quoted(name: str) -> str:
    """Return a name as it is, or in double quotes with escapes where it holds what does not print on one line."""
    if name.isprintable() and not name.startswith('"'):
        return name
    return '"' + escaped(name.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def escaped(text: str, keep: str = "") -> str:
    """Return text whose control, format and undecodable characters are written as escapes; `keep` stay as they are."""
    return "".join(char if char.isprintable() or char in keep else _escape(char) for char in text)


def _escape(char: str) -> str:
    byte = ord(char) - 0xDC00 if "\udc80" <= char <= "\udcff" else None  # a byte of a name that is no UTF-8
    return f"\\x{byte:02x}" if byte is not None else char.encode("unicode_escape", "surrogatepass").decode()


def spreadsheet(value: Any) -> Any:
    """Return a value for a spreadsheet: a text that it would take for a formula is marked as text."""
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
