"""The examples run as they are, with no key and no network, and print what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = {
    "asgi_service.py": (
        "acme /ask 200",
        "this tool is allowed when path is under notes",
        "umbra /do 202",
        "umbra /do 400",
    ),
    "task_family.py": ("next run:", "result: 200 units", "done agent.spawn reader"),
    "delegating.py": (
        "worker: failed FileNotFoundError",
        "reviewer: done",
        "summary: write north read / south read, one call denied",
    ),
    "planner_worker.py": ("south: read its report. calls denied: 1", "east: failed", "summary: written"),
    "scheduled_report.py": ("scheduled: report-daily", "daily report: 245 units", "asked report: 245 units"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name: str, tmp_path: Path) -> None:
    """The example exits 0 and its promised lines stand in what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AGENTOS_STATE": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in EXPECTED[name]:
        assert line in done.stdout


def test_each_example_says_what_it_shows() -> None:
    """examples/README.md has a row for each program and folder there, and for nothing else."""
    rows = set(re.findall(r"^\| \[[^]]+\]\(([^)]+)\)", (ROOT / "examples/README.md").read_text(encoding="utf-8"), re.M))
    there = {path.name + "/" * path.is_dir() for path in (ROOT / "examples").iterdir() if path.name[0] not in "_."}
    assert rows == there - {"README.md"}
