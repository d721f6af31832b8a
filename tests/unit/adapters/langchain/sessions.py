"""Open sessions of the real runtime for tests of the adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent_os import AgentOS, Policy
from agent_os.runtime.audit import open_audit

MODELS = "models: {providers: {scripted: {kind: scripted, models: ['*']}}}\n"


def policy(tools: str, more: str = MODELS) -> Policy:
    """Return a policy of a tools section (YAML flow text) and what else is given."""
    return Policy.parse(
        f"version: 1\nfilesystem_policy: {{include_workdir: true}}\n{more}\ntools: {tools}\n",
    )


@contextmanager
def session(folder: Path, tools: str, more: str = MODELS, **options: Any) -> Iterator[AgentOS]:
    """Open a session in a folder of its own."""
    workspace = folder / "ws"
    workspace.mkdir(parents=True, exist_ok=True)
    with AgentOS.open(
        policy(tools, more), principal="ana@corp.example", workspace=workspace, state=folder / "state", **options
    ) as os:
        yield os


def records(folder: Path, kind: str = "tool.call") -> list[Mapping[str, Any]]:
    """Return the audit's records about actions of one kind."""
    reader = open_audit(environment={"AGENTOS_STATE": str(folder / "state")})
    return [
        record
        for record in reader.records()
        if isinstance(record.get("action"), Mapping) and record["action"].get("kind") == kind
    ]
