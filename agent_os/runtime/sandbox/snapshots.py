"""Snapshots of a workspace as `agentos diff`, `commit` and `discard` use them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence

from agent_os.core.errors import EffectError
from agent_os.effects.sandbox.snapshot import Change, Snapshot, snapshots_of
from agent_os.effects.sandbox.undo import UndoLog
from agent_os.runtime.state import state_directory

__all__ = ["Change", "Snapshot", "open_snapshot", "patch_of", "undo_commit"]


def open_snapshot(workspace: str, name: str = "") -> Snapshot:
    """Return a workspace's snapshot; without a name the only one there is. Raises EffectError."""
    real = os.path.realpath(workspace)
    state = state_directory(workspace=real)
    names = snapshots_of(state, real)
    if not name:
        if len(names) != 1:
            said = f"name one of: {', '.join(names)}" if names else "run something with --snapshot NAME first"
            raise EffectError(f"this workspace has {len(names)} snapshots: {said}")
        name = names[0]
    found = Snapshot(state, real, name)
    if not found.exists:
        raise EffectError(f"no snapshot {name!r} of this workspace" + (f": {', '.join(names)}" if names else ""))
    return found


def undo_commit(workspace: str, *, force: bool = False) -> tuple[str, ...]:
    """Put back what the last commit into a workspace replaced; return the paths. Raises EffectError."""
    real = os.path.realpath(workspace)
    return UndoLog(state_directory(workspace=real), real).undo(force=force)


def patch_of(snapshot: Snapshot, changes: Sequence[Change], quoted: Callable[[str], str] = str) -> str:
    """Return a unified diff of the text files among some changes; `quoted` writes a file's name on one line."""
    lines: list[str] = []
    for change in changes:
        if change.type != "file" or change.withheld == "a special file":
            continue
        texts = snapshot.texts(change.path)
        if texts is None:
            lines.append(f"Binary or large file {quoted(change.path)} ({change.change})\n")
            continue
        before, after = (text.splitlines(keepends=True) for text in texts)
        if change.change == "deleted":
            after = []
        lines += difflib.unified_diff(before, after, quoted(f"a/{change.path}"), quoted(f"b/{change.path}"))
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)
