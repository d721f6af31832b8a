"""Every line of the tour in docs/sandbox.md does what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel
PAGE = Path(__file__).parents[3] / "docs" / "sandbox.md"


def commands() -> list[tuple[str, str]]:
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            found.append((command, expected))
    return found


def test_the_tour(tmp_path: Path) -> None:
    """Each command prints exactly what stands below it (numbers of the filter aside, which may grow)."""
    ws, tools = tmp_path / "ws", tmp_path / "bin"
    ws.mkdir()
    tools.mkdir()
    (tools / "agentos").write_text(f'#!/bin/sh\nexec {sys.executable} -m agent_os "$@"\n')
    (tools / "agentos").chmod(0o755)
    (ws / ".env").write_text("TOKEN=secret\n")
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "AGENTOS_STATE": str(tmp_path / "state"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    subprocess.run(["git", "init", "-q", str(ws)], check=True, env=environment)
    assert len(commands()) > 25
    for command, expected in commands():
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=ws,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        said = re.sub(r"\d+ instructions, \d+ rules", "N instructions, M rules", done.stdout)
        said = said.replace(str(tmp_path), "/home/ana")
        wanted = re.sub(r"\d+ instructions, \d+ rules", "N instructions, M rules", expected)
        assert [line.rstrip() for line in said.strip().splitlines()] == [
            line.rstrip() for line in wanted.strip().splitlines()
        ], command
