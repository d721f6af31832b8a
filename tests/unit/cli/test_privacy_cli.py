"""`agentos privacy` as a process: its contract on stdin and stdout, exit status, and that it never prints a value it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = "Hi, this is Maria Schmidt (maria@corp.example). She pays DE89370400440532013000.\n"


def run(*args: str, stdin: str | bytes = "", state: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "AGENTOS_STATE": str(state or "/nonexistent")}
    data = stdin.encode() if isinstance(stdin, str) else stdin
    command = [sys.executable, "-m", "agent_os", "privacy", *args]
    return subprocess.run(command, input=data, capture_output=True, env=env, timeout=60, check=False)


def test_scan_prints_the_contract() -> None:
    """One JSON object a document: type, start, end, score, by; offsets are characters."""
    result = run("scan", "--json", "--no-ner", stdin="é mail a@b.example")
    assert result.returncode == 0
    assert json.loads(result.stdout) == {
        "findings": [{"type": "EMAIL_ADDRESS", "start": 7, "end": 18, "score": 1.0, "by": "pattern"}]
    }


def test_scan_lines_answers_each_line() -> None:
    """With --lines every line is a document, an empty one too; invalid UTF-8 is read with replacement."""
    result = run("scan", "--json", "--lines", "--no-ner", stdin=b"a@b.example\n\n\xff\xfe c@d.example\n")
    rows = [json.loads(line)["findings"] for line in result.stdout.splitlines()]
    assert [len(row) for row in rows] == [1, 0, 1]


def test_redact_then_restore_over_the_vault(tmp_path: Path) -> None:
    """Pseudonyms of a named session restore in another process; after `forget` nothing does."""
    state = tmp_path / "state"
    sent = run("redact", "--session", "s", "--no-ner", stdin=TEXT, state=state)
    assert sent.returncode == 0, sent.stderr
    assert b"Maria" not in sent.stdout
    assert run("restore", "--session", "s", stdin=sent.stdout, state=state).stdout.decode() == TEXT
    vault = b"".join(path.read_bytes() for path in state.rglob("state.db*"))
    assert b"Maria" not in vault
    assert run("forget", "--session", "s", state=state).returncode == 0
    after = run("restore", "--session", "s", stdin=sent.stdout, state=state)
    assert after.returncode == 1
    assert b"no pseudonyms" in after.stderr


def test_redact_without_a_session_cuts_out() -> None:
    """Without a session there is no way back and no state is touched."""
    result = run("redact", "--no-ner", "--only", "IBAN_CODE", stdin=TEXT)
    assert result.stdout.decode() == TEXT.replace("DE89370400440532013000", "[REDACTED_IBAN_CODE]")


def test_directory_scan_and_sarif(tmp_path: Path) -> None:
    """A directory scan names file, line and column, skips binaries by name, and never follows a link."""
    (tmp_path / "a.txt").write_text("x\nmail a@b.example\n")
    (tmp_path / "b.bin").write_bytes(b"\0\1a@b.example")
    (tmp_path / "c.txt").symlink_to("/etc/passwd")
    result = run("scan", str(tmp_path), "--no-ner")
    assert f"{tmp_path}/a.txt:2:6\t7-18\tEMAIL_ADDRESS" in result.stdout.decode()
    assert b"b.bin: not scanned: binary" in result.stderr
    assert b"c.txt: not scanned" in result.stderr
    log = json.loads(run("scan", str(tmp_path), "--no-ner", "--sarif").stdout)
    assert log["version"] == "2.1.0"
    assert log["runs"][0]["results"][0]["ruleId"] == "EMAIL_ADDRESS"


@pytest.mark.parametrize("flags", [["--json", "--explain"], ["--explain"], ["--sarif"]])
def test_reports_never_hold_a_found_value(tmp_path: Path, flags: list[str]) -> None:
    """Findings, explanations and SARIF say where, what kind and why, never what."""
    file = tmp_path / "in.txt"
    file.write_text("token ghp_abcdEFGH1234abcdEFGH1234abcdEFGH1234 and maria.schmidt@corp.example and 536-22-1234")
    result = run("scan", str(file), "--no-ner", *flags)
    assert result.returncode == 0
    for value in (b"ghp_", b"maria", b"schmidt", b"536-22"):
        assert value not in result.stdout


def test_a_path_that_is_not_there_is_an_error() -> None:
    """Naming a file that cannot be read ends with status 1 and says why."""
    result = run("scan", "/nonexistent/file", "--no-ner")
    assert result.returncode == 1
    assert b"no such file" in result.stderr


def test_restore_needs_a_session() -> None:
    """A missing name is a usage error."""
    assert run("restore").returncode == 2
