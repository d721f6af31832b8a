"""The state directory of one installation: `$AGENTOS_STATE`, else `$XDG_STATE_HOME/agent-os`, else
`~/.local/state/agentos`.

It holds the audit, `state.db`, keys and the certificate authority, so it is 0700, owned by the user, no link, and never
inside a workspace (nor a workspace inside it). Threat: an agent that reaches its own audit, approvals or keys through
the files it may write.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent_os.core.errors import EffectError

FOLDERS: Final = ("audit", "checkpoints", "keys", "ca")


def state_path(environment: Mapping[str, str]) -> Path:
    """Return where the state directory is, absolute; nothing is created. Raises EffectError for a relative setting."""
    given = environment.get("AGENTOS_STATE", "")
    if given:
        path = Path(given)
        if not path.is_absolute():
            raise EffectError("AGENTOS_STATE: must be an absolute path")
        return path
    base = environment.get("XDG_STATE_HOME", "")
    if base and os.path.isabs(base):
        return Path(base) / "agentos"
    home = environment.get("HOME") or os.path.expanduser("~")
    return Path(home) / ".local" / "state" / "agentos"


def open_directory(path: Path, *, workspace: str | Path | None = None) -> Path:
    """Create or check the state directory and return its real path.

    Raises EffectError when it is a link, belongs to someone else, may be read by others, or lies inside the workspace.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(path)
        real = Path(os.path.realpath(path))
    except OSError as error:
        raise EffectError(f"state directory cannot be used: {error.strerror}: {path}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise EffectError(f"state directory is a link or no directory: {path}")
    if status.st_uid != os.geteuid():
        raise EffectError(f"state directory belongs to user {status.st_uid}: {path}")
    if status.st_mode & 0o077:
        raise EffectError(f"state directory may be read by others: {path} (fix: chmod 700 {path})")
    if workspace is not None:
        root = Path(os.path.realpath(workspace))
        if real == root or root in real.parents:
            raise EffectError(
                f"state directory lies inside the workspace: {path} (fix: set AGENTOS_STATE to a place outside {root})"
            )
        if real in root.parents:
            raise EffectError(f"the workspace lies inside the state directory: {root} (fix: choose another workspace)")
    for name in FOLDERS:
        _folder(real / name)
    return real


def _folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError as error:
        raise EffectError(f"state directory cannot be used: {error.strerror}: {path}") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077:
        raise EffectError(f"not a directory of its owner's alone: {path} (fix: chmod 700 {path})")
