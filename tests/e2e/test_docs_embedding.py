"""The Python in docs/embedding.md runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "embedding.md"
TEXT = PAGE.read_text(encoding="utf-8")
FENCED = re.findall(r"^```python\n(.*?)^```", TEXT, re.S | re.M)
BLOCKS = [block for block in FENCED if "def test_" not in block]
TESTS = [block for block in FENCED if "def test_" in block]
POLICY = """
version: 1
filesystem_policy: {include_workdir: true}
tools: {read_file: {allow: true}, pay: {allow: {amount: {max: 1000}}}}
models: {providers: {scripted: {kind: scripted, models: ["*"]}}}
"""
PRINTED = ["an invoice", "paid 20\n() this tool is allowed when amount is at most 1000", "True \nFalse "]


@pytest.mark.parametrize("number", range(len(PRINTED)))
def test_block(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each block prints what it is there to show."""
    assert len(BLOCKS) == len(PRINTED)
    work = tmp_path / "work"
    (work / "inbox").mkdir(parents=True)
    (work / "inbox" / "a.txt").write_text("an invoice")
    (work / "policy.yaml").write_text(POLICY)
    monkeypatch.chdir(work)
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    exec(compile(BLOCKS[number], "embedding.md", "exec"), {})
    assert PRINTED[number] in capsys.readouterr().out


def test_the_tests_it_shows_pass(tmp_path: Path) -> None:
    """They run under pytest as they stand, beside a policy."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "test_shown.py").write_text("\n".join(TESTS))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n0", "--basetemp=tmp", "test_shown.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_every_name_and_variable_is_said() -> None:
    """What `agent_os` gives and what the environment may set stand on the page; nothing else claims to."""
    import agent_os

    names = TEXT.partition("## Names")[2]
    assert {name for name in agent_os.__all__ if f"`{name}`" not in names} == {"__version__"}
    read = set()
    for path in (ROOT / "agent_os").rglob("*.py"):
        read |= set(re.findall(r"AGENTOS_[A-Z]+(?:_[A-Z]+)*", path.read_text(encoding="utf-8")))
    said = set(re.findall(r"AGENTOS_[A-Z]+(?:_[A-Z]+)*", TEXT.partition("## Environment")[2]))
    assert {name for name in read if not name.startswith("AGENTOS_KEY")} == said - {"AGENTOS_KEY"}
