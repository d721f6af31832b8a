"""The README is true: its policy loads, its Python runs, its commands print what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.S | re.M)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the README's policy and the files its examples name; state outside of it."""
    work = tmp_path / "work"
    (work / "inbox").mkdir(parents=True)
    (work / "inbox" / "a.txt").write_text("an invoice")
    (work / "payroll.csv").write_text("secret")
    (work / "policy.yaml").write_text(blocks("yaml")[0])
    monkeypatch.chdir(work)
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    return work


def test_the_agent_example_runs(folder: Path) -> None:
    """The three-line agent reads the inbox through governed tools."""
    from langchain_core.messages import AIMessage

    from agent_os.adapters.langchain import ScriptedModel

    calls = [
        AIMessage("", tool_calls=[{"name": "list_files", "args": {"path": "inbox"}, "id": "c1"}]),
        AIMessage("", tool_calls=[{"name": "read_file", "args": {"path": "payroll.csv"}, "id": "c2"}]),
        AIMessage("done"),
    ]
    code = blocks("python")[0]
    policy = (folder / "policy.yaml").read_text().replace("{openai: {kind: openai", "{scripted: {kind: scripted")
    (folder / "policy.yaml").write_text(policy.replace("gpt-*", "*"))
    scope: dict[str, Any] = {"scripted": ScriptedModel(script=calls)}
    code = code.replace('"openai:gpt-5"', "scripted").replace("agent.invoke(", "result = agent.invoke(")
    exec(compile(code, "README.md", "exec"), scope)
    said = [message.content for message in scope["result"]["messages"] if message.type == "tool"]
    assert "a.txt" in str(said[0])
    assert "denied" in str(said[1])


def test_the_door_example_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`perform` returns the file and says what would be allowed instead of the payroll."""
    exec(compile(blocks("python")[1], "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "an invoice" in out
    assert "deny - " in out
    assert "inbox/" in out


def test_the_commands_print_what_they_say(folder: Path) -> None:
    """Every `$ ` line of a console block exits 0, and every line shown under it stands in what it prints."""
    bin_dir = folder.parent / "bin"
    bin_dir.mkdir()
    wrapper = bin_dir / "agentos"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agent_os "$@"\n')
    wrapper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for block in blocks("console"):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
            done = subprocess.run(
                ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
            for line in shown.splitlines():
                pattern = ".*".join(re.escape(part) for part in line.split("..."))
                assert re.search(pattern, done.stdout), f"{command}: nothing like {line!r} in {done.stdout}"


def test_every_document_it_names_is_there() -> None:
    """No link of the README leads nowhere."""
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), f"README.md names {target}"
