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


def test_redact_and_restore_in_one_pipe(tmp_path: Path) -> None:
    """`redact --session NEW | restore --session NEW` works though both start at once; bytes that are no text come through."""
    given = b"mail ada@corp.example \xff\xfe caf\xe9\n"
    env = {**os.environ, "AGENTOS_STATE": str(tmp_path / "state")}
    command = [sys.executable, "-m", "agent_os", "privacy"]
    first = subprocess.Popen(
        [*command, "redact", "--session", "new", "--no-ner"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    )
    second = subprocess.Popen(
        [*command, "restore", "--session", "new"], stdin=first.stdout, stdout=subprocess.PIPE, env=env
    )
    assert first.stdin is not None
    assert first.stdout is not None
    first.stdout.close()
    first.stdin.write(given)
    first.stdin.close()
    shown, _ = second.communicate(timeout=120)
    assert (first.wait(60), second.returncode, shown) == (0, 0, given)


def test_an_entity_that_does_not_exist_is_a_usage_error() -> None:
    """A misspelt `--only` would find nothing for ever: it says what is meant; globs and SECRET are names."""
    wrong = run("scan", "--only", "EMIAL_ADDRESS", "--no-ner", stdin="x")
    assert wrong.returncode == 2
    assert b"EMAIL_ADDRESS" in wrong.stderr
    for right in ("SECRET", "US_*", "SECRET_GITHUB_TOKEN"):
        assert run("scan", "--only", right, "--no-ner", stdin="x").returncode == 0


def test_sarif_is_what_readers_of_it_need(tmp_path: Path) -> None:
    """SARIF 2.1.0: rules that results name, URI references, places from 1, a column kind, a message; no found value."""
    folder = tmp_path / "my docs"
    folder.mkdir()
    (folder / "\u00e4 #1.txt").write_text("ok\ncard 4111 1111 1111 1111\n", encoding="utf-8")
    log = json.loads(run("scan", str(folder), "--sarif", "--no-ner").stdout)
    assert (log["version"], log["$schema"].endswith("sarif-2.1.0.json"), len(log["runs"])) == ("2.1.0", True, 1)
    (done,) = log["runs"][0]["results"]
    assert done["ruleId"] in {rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]}
    place = done["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"].startswith("file:///")
    assert place["artifactLocation"]["uri"].endswith("/my%20docs/%C3%A4%20%231.txt")
    assert place["region"] == {"startLine": 2, "startColumn": 6, "endLine": 2, "endColumn": 25}
    assert done["message"]["text"]
    assert done["level"] in ("none", "note", "warning", "error")
    assert log["runs"][0]["columnKind"] == "unicodeCodePoints"
    assert "4111" not in json.dumps(log)
