"""docs/agents.md is true: its policy loads, its Python runs, its commands print what stands below them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
SAID = [
    ["{'read': '120', 'denied': 'runtime.capability'}"],
    ["state done", "child failed", "done agent.spawn reader", "'total': 200", "EffectError"],
    ["role reader is quarantined by lea@corp.example: reads too much"],
]
"""What each Python block prints."""


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.S | re.M)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the page's policy and the files its examples name."""
    work = tmp_path / "work"
    (work / "reports").mkdir(parents=True)
    (work / "reports" / "north.txt").write_text("120")
    (work / "reports" / "south.txt").write_text("80")
    (work / "salaries.txt").write_text("secret")
    (work / "policy.yaml").write_text(blocks("yaml")[0])
    (work / "actions.jsonl").write_text('{"kind": "fs.read", "path": "reports/north.txt"}\n')
    return work


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of the page's commands, `agentos` on the path."""
    bin_dir = folder.parent / "bin"
    bin_dir.mkdir(exist_ok=True)
    (bin_dir / "agentos").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agent_os "$@"\n')
    (bin_dir / "agentos").chmod(0o755)
    path = f"{bin_dir}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "AGENTOS_STATE": str(folder.parent / "state")}


@pytest.mark.parametrize("number", range(len(SAID)))
def test_the_python_runs(folder: Path, number: int) -> None:
    """Each block runs as a program and prints what it is about."""
    done = subprocess.run(
        [sys.executable, "-c", blocks("python")[number]], cwd=folder, env=environment(folder), capture_output=True,
        text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in SAID[number]:
        assert line in done.stdout


def test_every_python_block_is_run() -> None:
    """A block that is added is run too."""
    assert len(blocks("python")) == len(SAID)


def test_the_commands_print_what_they_say(folder: Path) -> None:
    """Every `$ ` line exits 0, and what is shown under it stands in what it prints (`...` is anything)."""
    told = environment(folder)
    try:
        for block in blocks("console"):
            for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
                done = subprocess.run(
                    ["bash", "-c", command],
                    cwd=folder,
                    env=told,
                    capture_output=True,
                    text=True,
                    timeout=180,
                    check=False,
                )
                assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
                wanted = ".*".join(re.escape(part) for part in shown.strip().split("..."))
                assert re.search(wanted, done.stdout, re.S), f"{command}: {done.stdout}"
    finally:
        listed = subprocess.run(["agentos", "ps", "--json"], env=told, capture_output=True, text=True, check=False)
        for worker in json.loads(listed.stdout)["workers"]:
            os.kill(worker["pid"], 15)
