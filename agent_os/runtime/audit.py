"""The audit for reading: what `agentos audit` stands on. Opens nothing for writing and makes no key."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_os.audit.checkpoint import Checkpoint, Verify, verifier
from agent_os.audit.verify import Report
from agent_os.core.errors import EffectError
from agent_os.effects import audit_read
from agent_os.effects.stores.database import Database
from agent_os.effects.stores.directory import state_path
from agent_os.effects.stores.keys import Keys, Sealer
from agent_os.effects.stores.payloads import SCHEMA, SqlitePayloads

Follower = audit_read.Follower


@dataclass(frozen=True, slots=True)
class AuditReader:
    """The logs under one directory, checked with the keys of one installation."""

    path: Path
    keys: Keys
    check: Verify
    elsewhere: Path | None

    def writers(self) -> list[str]:
        """Return the names of the writers."""
        return audit_read.writers(self.path)

    def report(self, writer: str, against: Sequence[Path] = ()) -> Report:
        """Verify one writer's log, against checkpoints kept in further files too."""
        return audit_read.report(self.path, writer, self.check, self.elsewhere, against)

    def records(self, writer: str | None = None) -> Iterator[Mapping[str, Any]]:
        """Yield records, those of several writers merged by time."""
        return audit_read.records(self.path, writer)

    def tail(self, count: int, writer: str | None = None) -> list[Mapping[str, Any]]:
        """Return the last records."""
        return audit_read.tail(self.path, writer, count)

    def follow(self, writer: str | None = None) -> Follower:
        """Return a follower that starts now."""
        return Follower(self.path, writer)

    def latest(self, writer: str) -> Checkpoint | None:
        """Return the latest stored checkpoint."""
        return max(audit_read.checkpoints(self.path, writer), key=lambda each: each.seq, default=None)

    def payloads(self) -> SqlitePayloads | None:
        """Return the payload store, or None when there is none here."""
        file = self.path / "payloads.db"
        if not file.exists():
            return None
        return SqlitePayloads(Database(file, SCHEMA), Sealer(self.keys, "payload"))


def open_audit(root: Path | None = None, *, environment: Mapping[str, str] | None = None) -> AuditReader:
    """Return the reader of the state directory's audit, or of a second audit at `root` under the same keys.

    Raises EffectError when there is no audit there.
    """
    env = os.environ if environment is None else environment
    state = state_path(env)
    path = root or state
    if not (path / "audit").is_dir():
        raise EffectError(f"no audit here yet: {path} (set AGENTOS_STATE, or let an agent act first)")
    keys = Keys.open(state / "keys", environment=env)
    elsewhere = env.get("AGENTOS_CHECKPOINTS", "")
    return AuditReader(path, keys, verifier(keys.public("audit")), Path(elsewhere) if elsewhere else None)
