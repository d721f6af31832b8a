"""Files that the runtime writes for its operator, where a program may have been before; and who may read them."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_os import AgentOS, Policy
from agent_os.cli.main import app
from agent_os.cli.status_file import StatusFile

RUN = 'ln -s "$1" ".status.json.$$"; exec "$2" -m agent_os run --status-file status.json -- true'


def test_a_link_under_the_name_the_status_is_written_to(tmp_path: Path) -> None:
    """ATTACK: a program plants a link under the name the next supervisor writes to first; what it leads to stays as it was."""
    victim, workspace = tmp_path / "victim", tmp_path / "ws"
    victim.write_text("mine\n")
    workspace.mkdir()
    done = subprocess.run(
        ["sh", "-c", RUN, "sh", str(victim), sys.executable],
        cwd=workspace,
        env={**os.environ, "AGENTOS_STATE": str(tmp_path / "state"), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert victim.read_text() == "mine\n"
    assert not (workspace / "status.json").is_symlink()
    said = json.loads((workspace / "status.json").read_text())
    assert said["status"] == done.returncode, done.stderr


def test_the_folder_of_the_status_file_is_taken_away_meanwhile(tmp_path: Path) -> None:
    """ATTACK: the folder becomes a link while the program runs: nothing is written where it leads; the file is in the folder."""
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    file = StatusFile(str(tmp_path / "out" / "status.json"))
    (tmp_path / "out").rename(tmp_path / "moved")
    (tmp_path / "out").symlink_to("elsewhere")
    file.write({"status": 0})
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert [each.name for each in (tmp_path / "moved").iterdir()] == ["status.json"]
    file.write({"status": 1})
    assert json.loads((tmp_path / "moved" / "status.json").read_text()) == {"status": 1}
    StatusFile("").write({"status": 2})


def test_what_was_stored_encrypted_is_not_exported_for_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export holds arguments and results: whoever else has a login here cannot read it, whatever the umask says."""
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    (tmp_path / "ws").mkdir()
    policy = Policy.parse(
        "filesystem_policy: {include_workdir: true}\ntools: {list_files: {allow: true}}\naudit: {payloads: encrypted}\n"
    )
    with AgentOS.open(policy, workspace=tmp_path / "ws", principal="ana") as system:
        system.perform({"kind": "tool.call", "tool": "list_files", "args": {"path": "."}})
    before = os.umask(0)
    try:
        for form in ("jsonl", "trace"):
            ran = CliRunner().invoke(app, ["audit", "export", "--format", form, "-o", str(tmp_path / form)])
            assert ran.exit_code == 0, ran.output
            assert stat.S_IMODE((tmp_path / form).stat().st_mode) == 0o600
    finally:
        os.umask(before)


CRASH = """
import os, sys
import agent_os.cli.main as cli
cli.app = lambda **_: os.abort()
cli.main() if sys.argv[1] == "ours" else os.abort()
"""


def test_a_crash_leaves_no_memory_in_the_workspace(tmp_path: Path) -> None:
    """ATTACK: a native crash of the runtime, where core files are on: no image of its memory lies in the folder it was run in.

    Another program's does, where this machine writes core files at all.
    """
    left = {}
    for whose in ("theirs", "ours"):
        folder = tmp_path / whose
        folder.mkdir()
        wanted = 'ulimit -c "$(ulimit -H -c)"; exec "$@"'
        done = subprocess.run(
            ["sh", "-c", wanted, "sh", sys.executable, "-c", CRASH, whose],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == -signal.SIGABRT
        left[whose] = [each.name for each in folder.iterdir()]
    assert left["ours"] == []
    writes = Path("/proc/sys/kernel/core_pattern").read_text().strip() == "core"
    if writes and resource.getrlimit(resource.RLIMIT_CORE)[1] != 0:
        assert left["theirs"] != []
