"""Options of verbs that cannot mean what was written: usage, said before anything begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_os.cli.main import app

WRONG = {
    "run --timeout -1 -- true": "--timeout",
    "run --max-output -1 -- true": "--max-output",
    "run --json -- true": "--status-file writes how a run ended",
    "run --tty -- true": "no terminal",
    "run --env =x -- true": "needs a name",
    "run --snapshot a --copy -- true": "choose one of",
    "agent --model openai:gpt-5 ": "is empty",
    "serve --port 99999": "--port",
    "demo --folder FILE": "is no empty folder",
}


@pytest.mark.parametrize("typed", WRONG)
def test_a_slip_is_usage(typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 2 and what is wrong, where it was taken for no limit, for nothing or for another port, or ended in a traceback."""
    (tmp_path / "FILE").write_text("")
    monkeypatch.chdir(tmp_path)
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, typed.split(" "))
    assert done.exit_code == 2 and WRONG[typed] in done.output, done.output


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("run --cwd nope -- true", "the working directory is no folder: nope"),
        ("run --allow-missing landlok -- true", "'landlok' is no layer"),
        ("run --status-file . -- true", "the status file cannot be written: Is a directory"),
    ],
)
def test_a_run_that_cannot_begin_says_why(
    typed: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 125, before the program has run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["run", "--workspace", "work", *typed.split(" ")[1:]])
    assert done.exit_code == 125 and said in done.output, done.output
