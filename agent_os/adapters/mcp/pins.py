"""What a person accepted of a tool server, and whether it is still the same. Pure.

The threat: a server that is accepted and then changes (code, a description that speaks to the model, a schema with a new
argument, an added tool). Everything a person saw is pinned by digest; any difference quarantines until a person accepts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent_os.adapters.mcp.protocol import ServerTool
from agent_os.core import canonical

NEAR_CHARS: Final = 40
"""What is shown of an unchanged text before and after a change."""
CHANGE_CHARS_MAX: Final = 2_000


def pin(tool: ServerTool) -> str:
    """Return the digest of a tool's description and schemas."""
    return canonical.json_digest(tool.to_json())


def differences(
    accepted: Sequence[Mapping[str, Any]], now: Sequence[ServerTool], code: tuple[str, str] = ("", "")
) -> list[str]:
    """Return lines that say how a server differs from what was accepted; empty: it is the same.

    `accepted` are entries with `shown` (the form of ServerTool) and `pin`; `code` is (accepted digest, digest now).
    """
    lines = []
    if code[0] != code[1]:
        lines.append(f"code changed: {code[0][:23]} -> {code[1][:23]}")
    before = {str(entry["shown"]["name"]): entry for entry in accepted}
    after = {tool.name: tool for tool in now}
    if len(after) != len(now):
        lines.append("two tools share one name")
    for name in sorted(before.keys() - after.keys()):
        lines.append(f"- {name}: gone")
    for name in sorted(after.keys() - before.keys()):
        lines.append(f"+ {name}: new: {after[name].description[:200]!r}")
    for name in sorted(before.keys() & after.keys()):
        if before[name]["pin"] == pin(after[name]):
            continue
        was, form = before[name]["shown"], after[name].to_json()
        for part in ("description", "input_schema", "output_schema", "hints"):
            if was.get(part) != form.get(part):
                lines.append(f"~ {name}.{part}:")
                before_, now_ = _around(_text(was.get(part)), _text(form.get(part)))
                lines += [f"    was {before_}", f"    now {now_}"]
    return lines


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical.json_bytes(value).decode()


def _around(was: str, now: str) -> tuple[str, str]:
    """Return two texts that differ from a little before their first difference to a little after their last.

    A text that is only shown from its beginning hides a change behind as many words as are shown.
    """
    first = next(
        (place for place, pair in enumerate(zip(was, now, strict=False)) if pair[0] != pair[1]), min(len(was), len(now))
    )
    same = 0
    while same < min(len(was), len(now)) - first and was[-1 - same] == now[-1 - same]:
        same += 1
    begin, after = max(0, first - NEAR_CHARS), max(0, same - NEAR_CHARS)
    return _shown(was, begin, len(was) - after), _shown(now, begin, len(now) - after)


def _shown(text: str, begin: int, end: int) -> str:
    part = "".join(char if char.isprintable() else "\ufffd" for char in text[begin:end])
    cut = len(part) - CHANGE_CHARS_MAX
    more = f"\u2026 {cut} more characters (inspect --json has all)" if cut > 0 else "\u2026" if end < len(text) else ""
    return ("\u2026" if begin else "") + part[:CHANGE_CHARS_MAX] + more
