"""What a person accepted of a tool server, and whether it is still the same. Pure.

The threat: a server that is accepted and then changes (code, a description that speaks to the model, a schema with a new
argument, an added tool). Everything a person saw is pinned by digest; any difference quarantines until a person accepts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent_os.adapters.mcp.protocol import ServerTool
from agent_os.core import canonical


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
        for part in ("description", "input_schema", "output_schema"):
            if was.get(part) != form[part]:
                lines.append(f"~ {name}.{part}:")
                lines.append(f"    was {_short(was.get(part))}")
                lines.append(f"    now {_short(form[part])}")
    return lines


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else canonical.json_bytes(value).decode()
    text = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return text if len(text) <= 400 else text[:400] + "…"
