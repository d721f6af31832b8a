"""docs/network.md is true: its commands run in its order and print what it says, its policies load."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent_os.policy import Policy

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "network.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.S | re.M)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The service of the page."""
    site = tmp_path / "site"
    (site / "public").mkdir(parents=True)
    (site / "public" / "a.txt").write_text("hello\n")
    (site / "private.txt").write_text("no\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_policies_load() -> None:
    """Every policy on the page loads."""
    digests = [Policy.parse(text).digest[:7] for text in blocks("yaml")]
    assert len(digests) > 1
    assert set(digests) == {"sha256:"}


@pytest.mark.kernel
def test_commands_print_what_the_page_says(tmp_path: Path, port: int) -> None:
    """Each line that the page shows after a command stands in its output."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "policy.yaml").write_text(blocks("yaml")[0].replace("8000", str(port)))
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "agentos").write_text(f'#!/bin/sh\nexec {sys.executable} -m agent_os "$@"\n')
    (tools / "agentos").chmod(0o755)
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "AGENTOS_STATE": str(tmp_path / "state"),
        "HOME": str(tmp_path),
    }  # fmt: skip
    for block in blocks("console"):
        for command, *expected in (part.splitlines() for part in re.split(r"^\$ ", block, flags=re.M)[1:]):
            lines = [command, *expected]
            done = subprocess.run(
                ["/bin/sh", "-c", lines[0].replace("8000", str(port))], env=environment, cwd=work, timeout=60,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
            if done.returncode == 5:
                pytest.skip(f"this machine cannot enforce it: {done.stdout}")
            for line in expected:
                assert line in done.stdout, f"{command}\n{done.stdout}"
