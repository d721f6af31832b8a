"""Opening the state directory: keys, audit and stores wired together, or an error that says what to mend.

The only place where a state directory is chosen: `$AGENTOS_STATE`, else the XDG state directory. Operator's settings
from the environment: `AGENTOS_AUDIT_SECOND` (a directory on another disk for a second, independent audit) and
`AGENTOS_CHECKPOINTS` (a directory, best on another machine, where checkpoints are kept once more), and `AGENTOS_SHARED` (a
PostgreSQL that holds approvals, budgets and rates for every machine that names it; default: the one of `AGENTOS_TASKS`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent_os.audit.checkpoint import verifier
from agent_os.audit.digest import keyed_digest
from agent_os.core.errors import EffectError
from agent_os.core.ports import AuditSink
from agent_os.effects.audit_files import RETENTION_DAYS, WRITERS_MAX, AuditFiles, WriterBusyError
from agent_os.effects.audit_log import AuditLog
from agent_os.effects.audit_tee import TeeAudit
from agent_os.effects.stores.directory import open_directory, state_path
from agent_os.effects.stores.keys import Keys
from agent_os.effects.stores.state import StateDatabase
from agent_os.effects.stores.usage import UsageStore

WRITER: Final = "agentos"


@dataclass(slots=True)
class State:
    """An open state directory. `audit` is what the monitor writes to; `close` ends it in good order."""

    path: Path
    keys: Keys
    audit: AuditSink
    logs: tuple[AuditLog, ...]
    stores: StateDatabase
    usage: UsageStore
    keyed_digest: Callable[[str], str]
    environment: Mapping[str, str]

    def close(self) -> None:
        """Close the stores, then the audit with its last checkpoint."""
        self.stores.close()
        self.usage.close()
        for log in self.logs:
            log.close()


def state_directory(*, workspace: str | Path | None = None, environment: Mapping[str, str] | None = None) -> Path:
    """Return the checked state directory, created if missing. Raises EffectError (effects/stores/directory.py)."""
    return open_directory(state_path(os.environ if environment is None else environment), workspace=workspace)


def shared_limits(environment: Mapping[str, str]) -> str:
    """Return the URL of the PostgreSQL that holds limits for several machines, or an empty string. Raises EffectError."""
    url = environment.get("AGENTOS_SHARED", "") or environment.get("AGENTOS_TASKS", "")
    if url and not url.startswith("postgresql://"):
        raise EffectError("AGENTOS_SHARED, AGENTOS_TASKS: must be a postgresql:// URL")
    return url


def open_state(
    *,
    workspace: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    writer: str = WRITER,
    info: Mapping[str, Any] | None = None,
    retention_days: float = RETENTION_DAYS,
    payload_days: float = 0.0,
) -> State:
    """Open the state directory for a process that performs actions.

    `writer` is the audit chain's name; when another process writes it, `<writer>-2` and so on. `info` goes into the
    audit's start record (versions, policy digest). `payload_days` > 0 opens the encrypted payload store.
    Raises EffectError when anything needed is not there, IntegrityError when the log was tampered with.
    """
    env = os.environ if environment is None else environment
    path = state_directory(workspace=workspace, environment=env)
    keys = Keys.open(path / "keys", environment=env)
    digests = keys.current("digest")
    logs = _open_audit(path, keys, env, writer=writer, info=info or {}, retention_days=retention_days)
    try:
        stores = StateDatabase.open(path, keys, shared=shared_limits(env))
        if payload_days > 0:
            stores.open_payloads(path, keys, keep_days=payload_days)
    except BaseException:
        for log in logs:
            log.close()
        raise
    audit = logs[0] if len(logs) == 1 else TeeAudit(*logs)
    return State(path, keys, audit, logs, stores, UsageStore(path), keyed_digest(digests.id, digests.secret), dict(env))


def _open_audit(
    path: Path, keys: Keys, env: Mapping[str, str], *, writer: str, info: Mapping[str, Any], retention_days: float
) -> tuple[AuditLog, ...]:
    """Open the first audit and, where one is set, the second; one that cannot be opened is passed over and recorded."""
    second = env.get("AGENTOS_AUDIT_SECOND", "")
    elsewhere = _absolute(env, "AGENTOS_CHECKPOINTS")
    roots = [path, open_directory(Path(second))] if second and _absolute(env, "AGENTOS_AUDIT_SECOND") else [path]
    key = keys.current("audit")
    check = verifier(keys.public("audit"))
    logs: list[AuditLog] = []
    failures: list[str] = []
    for root in roots:
        try:
            start = {**info, **({"unavailable": list(failures)} if failures else {})}
            files = [AuditFiles(root, name, check, elsewhere, retention_days=retention_days) for name in _names(writer)]
            logs.append(_claim(files, (key.id, key.signer()), start))
        except EffectError as error:
            failures.append(str(error))
    if not logs:
        raise EffectError("; ".join(failures))
    return tuple(logs)


def _absolute(env: Mapping[str, str], name: str) -> Path | None:
    given = env.get(name, "")
    if not given:
        return None
    if not os.path.isabs(given):
        raise EffectError(f"{name}: must be an absolute path")
    return Path(given)


def _names(writer: str) -> list[str]:
    return [writer, *(f"{writer}-{number}" for number in range(2, WRITERS_MAX + 1))]


def _claim(
    candidates: list[AuditFiles], sign_with: tuple[str, Callable[[bytes], bytes]], info: Mapping[str, Any]
) -> AuditLog:
    for files in candidates:
        try:
            return AuditLog(files, sign_with).open({"pid": os.getpid(), **info})
        except WriterBusyError:
            continue
    raise EffectError(f"{WRITERS_MAX} processes write audits here already")
