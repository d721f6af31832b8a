"""What the audit's tests share: logs in a directory, with real keys and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent_os.audit.checkpoint import verifier
from agent_os.audit.verify import Report
from agent_os.effects import audit_read
from agent_os.effects.audit_files import AuditFiles, segments_of
from agent_os.effects.audit_log import AuditLog
from agent_os.effects.stores.keys import Keys

INTENT = {"type": "intent", "time": 1763721000.5, "ref": "act_1", "verdict": "allow", "rules": ["tools.x"]}


def open_log(
    root: Path, writer: str = "main", *, timeout: float = 5.0, keys: Keys | None = None, **files: Any
) -> AuditLog:
    """Open a log under `root` with keys under `root/keys`."""
    keys = keys or Keys.open(root / "keys", environment={})
    key = keys.current("audit")
    made = AuditFiles(root, writer, verifier(keys.public("audit")), **files)
    return AuditLog(made, (key.id, key.signer()), timeout=timeout).open()


def check(root: Path, writer: str = "main", keys: Keys | None = None) -> Report:
    """Verify a log under `root`."""
    keys = keys or Keys.open(root / "keys", environment={})
    return audit_read.report(root, writer, verifier(keys.public("audit")))


def types(root: Path, writer: str = "main") -> list[str]:
    """Return the record types of a log in order."""
    return [str(record["type"]) for record in audit_read.records(root, writer)]


def segment(root: Path, writer: str = "main") -> Path:
    """Return the last segment file."""
    return segments_of(root / "audit" / writer)[-1]


Clock = Callable[[], float]
