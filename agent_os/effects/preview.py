"""What an approver is shown of a change to a file: the lines that would differ from what is there now.

Implements `core.ports.Preview` for writes whose content is at hand (a `fs.write` in flight, a tool call with `path` and
`content`). It opens what the file effector may open and nothing else. Threats: a preview that reads beyond the policy's
folders, a file without end, a link swapped in (the effector's own reading: no links, bounded).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final

from agent_os.core.action import Action, FsWrite, ToolCall
from agent_os.core.carried import Carried
from agent_os.core.errors import AgentOSError

TEXT_BYTES_MAX: Final = 256 * 1024
LINES_MAX: Final = 2_000

Read = Callable[[str], bytes]
"""Returns the bytes of a file that may be read; raises EffectError."""


class FilePreview:
    """Shows the difference a write would make."""

    def __init__(self, read: Read, carried: Carried) -> None:
        self._read, self._carried = read, carried

    async def show(self, action: Action) -> Mapping[str, Any]:
        """Return `{"difference": lines}`, or {} for an action that writes no text. Raises EffectError."""
        written = self._written(action)
        if written is None:
            return {}
        path, content = written
        if len(content) > TEXT_BYTES_MAX:
            return {"difference": f"{len(content)} bytes are written: too many to show"}
        now = "now"
        try:
            before = self._read(path)
        except (AgentOSError, OSError):  # nothing there, or nothing that may be read
            before, now = b"", "nothing to be read there now"
        try:
            old, new = before.decode(), content.decode()
        except UnicodeDecodeError:
            return {"difference": f"binary: {len(before)} bytes now, {len(content)} bytes then"}
        name = path.rpartition("/")[2]
        lines = difflib.unified_diff(_lines(old), _lines(new), f"{name} ({now})", f"{name} (then)", lineterm="")
        shown = list(islice(lines, LINES_MAX + 1))
        if len(shown) > LINES_MAX:
            shown[LINES_MAX:] = [f"\u2026 more than {LINES_MAX} lines differ: the rest stands in the arguments"]
        if not shown and old != new:
            return {"difference": "only the line feed at the end changes"}
        return {"difference": shown or "nothing changes"}

    def _written(self, action: Action) -> tuple[str, bytes] | None:
        if isinstance(action, FsWrite):
            return action.path, self._carried.bytes_for(action.content_digest)
        if isinstance(action, ToolCall):
            path, text = action.args.get("path"), action.args.get("content")
            if isinstance(path, str) and path.startswith("/") and isinstance(text, str):
                return path, text.encode()
        return None


def _lines(text: str) -> list[str]:
    """Return the lines of a text: only a line feed ends one, as for what reads the file. Other breaks show, in their line."""
    return text.removesuffix("\n").split("\n") if text else []
