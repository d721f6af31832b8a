"""File paths. Pure: links are resolved through a function the caller hands in.

Threat: another spelling of a protected file (`..`, `//`, decomposed Unicode, a magic link such as `/proc/self/root/etc`
that is no symbolic link but reaches anywhere), or a name that reads differently from what it is.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

from agent_os.core.canonical.texts import INVISIBLE
from agent_os.core.errors import ActionError

MAX_PATH_BYTES: Final = 4096
"""PATH_MAX of Linux."""
_MAGIC: Final = re.compile(
    r"/proc/(?:self|thread-self|[0-9]+)(?:/task/[0-9]+)?/(?:root|cwd|exe|fd|map_files|ns)(?:/.*)?"
    r"|/dev/(?:fd(?:/.*)?|stdin|stdout|stderr)"
)
"""What proc(5) calls magic links: they reach open files and other roots past every check on names."""


def path(value: Any, *, root: str, field: str = "path") -> str:
    """Return an absolute path without `.`, `..`, doubled or trailing slashes, in NFC.

    A relative path is taken against `root` (absolute). `..` never climbs above `/`; whether the result lies in the
    workspace is for the policy to say. Raises ActionError for NUL, control and bidirectional characters, lone
    surrogates, lengths over MAX_PATH_BYTES, magic links, and `~` at the start (nobody expands it).
    """
    if not isinstance(value, str) or not value:
        raise ActionError("must be a non-empty string", field=field)
    if not value.isprintable() and any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in value):
        raise ActionError("holds a control character", field=field)
    if not value.isascii():
        if any(char in INVISIBLE for char in value):
            raise ActionError("holds an invisible or bidirectional control character", field=field)
        value = unicodedata.normalize("NFC", value)
    if value.startswith("~"):
        raise ActionError("starts with '~'", field=field, hint="write the whole path, or ./~name")
    full = value if value.startswith("/") else f"{root}/{value}"
    if "//" not in full and "/." not in full and not full.endswith("/"):
        result = full
    else:
        parts: list[str] = []
        for part in full.split("/"):
            if part == "..":
                if parts:
                    parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        result = "/" + "/".join(parts)
    if len(result.encode()) >= MAX_PATH_BYTES:
        raise ActionError(f"longer than {MAX_PATH_BYTES} bytes", field=field)
    if result.startswith(("/proc/", "/dev/")) and is_magic_link(result):
        raise ActionError("passes through a magic link", field=field, hint="name the file itself")
    return result


def is_magic_link(canonical: str) -> bool:
    """Whether a canonical path names, or passes through, a magic link of proc(5)."""
    return _MAGIC.fullmatch(canonical) is not None
