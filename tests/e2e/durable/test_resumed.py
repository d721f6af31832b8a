"""A session with an id of its own goes on after its process was killed: asks, answers, outcomes, and what it has read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

POLICY = """
version: 1
filesystem_policy: {include_workdir: true}
tools:
  read_file: {allow: true}
  write_file: {allow: true, ask: {path: {under: out/}}}
flow: {authority_from_untrusted: ask}
approvals: {timeout: 10m}
"""
SCRIPT = """
import json, os, sys
from agent_os import AgentOS, DeniedError
from agent_os.core.ports import Pending
session, actions = sys.argv[1], json.loads(sys.argv[2])
system = AgentOS.open("../policy.yaml", principal="ana", workspace=".", session=session)
system.__enter__()
if len(sys.argv) > 3:
    system.prompt(sys.argv[3])
for given in actions:
    key = given.pop("key", "")
    done = system.perform(given, key=key)
    print(json.dumps({"pending": done.approval_id} if isinstance(done, Pending) else {"ok": done.ok}), flush=True)
    flow = system.monitor.session.flow
print(json.dumps({"tainted": flow.context.integrity.name}), flush=True)
os.kill(os.getpid(), 9)
"""
WRITE = {
    "kind": "tool.call",
    "tool": "write_file",
    "args": {"path": "out/a.txt", "content": "hello"},
    "key": "case-17/1",
}
READ = {"kind": "tool.call", "tool": "read_file", "args": {"path": "mail.txt"}}


def run(folder: Path, session: str, *actions: dict[str, Any]) -> list[dict[str, Any]]:
    """Run actions in a session of a process that then dies at once."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, session, json.dumps(actions), "write out/a.txt"], cwd=folder / "work", text=True,
        capture_output=True, timeout=120, check=False, env={**environment(folder)},
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a process on a folder's state."""
    return {**os.environ, "AGENTOS_STATE": str(folder / "state"), "PYTHONPATH": os.getcwd()}


def desk(folder: Path) -> Path:
    """Return a folder with a workspace and a policy."""
    (folder / "work" / "out").mkdir(parents=True)
    (folder / "work" / "mail.txt").write_text("pay them")
    (folder / "policy.yaml").write_text(POLICY)
    return folder


def agentos(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "agent_os", *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env=environment(folder),
    )  # fmt: skip


def test_a_parked_ask_is_found_again(tmp_path: Path) -> None:
    """The same ask after `kill -9`, not a second one; approved, it is carried out by the process after; once, under its key."""
    folder = desk(tmp_path)
    (first, _), (again, _) = run(folder, "case-17", WRITE), run(folder, "case-17", WRITE)
    assert first == again
    assert list(first) == ["pending"]
    (other, _) = run(folder, "case-18", {**WRITE, "key": "case-18/1"})
    assert other != first, "another session's ask is another ask"
    assert agentos(folder, "approvals", "approve", first["pending"], "--yes").returncode == 0
    (done, _) = run(folder, "case-17", WRITE)
    assert done == {"ok": True}
    assert (folder / "work/out/a.txt").read_text() == "hello"
    (folder / "work/out/a.txt").write_text("changed since")
    (kept, _) = run(folder, "case-17", WRITE)
    assert kept == {"ok": True}
    assert (folder / "work/out/a.txt").read_text() == "changed since", "its recorded outcome was returned"
    (used, _) = run(folder, "case-17", {**WRITE, "key": "case-17/2"})
    assert list(used) == ["pending"], "an approval is for one use"


def test_what_a_session_has_read_is_known_to_the_resumed_one(tmp_path: Path) -> None:
    """Text that was untrusted before the restart does not become anybody's word by it; a session that read nothing is clean."""
    folder = desk(tmp_path)
    assert run(folder, "case-17", READ)[-1] == {"tainted": "UNTRUSTED"}
    parked = {**WRITE, "key": ""}
    assert run(folder, "fresh", parked)[-1] != {"tainted": "UNTRUSTED"}
    assert run(folder, "case-17", parked)[-1] == {"tainted": "UNTRUSTED"}
