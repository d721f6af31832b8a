"""The `agentos` command itself: its help, and verbs that do not exist."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from agent_os.cli.main import VERBS, app


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("polcy", "did you mean policy"),
        ("schedul", "did you mean schedule"),
        ("zzzz", "`agentos --help` lists the verbs"),
    ],
)
def test_a_verb_that_is_none_is_answered_with_the_nearest(typed: str, said: str) -> None:
    """Usage (status 2), what was typed, and what may have been meant."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [typed, "check"])
    assert done.exit_code == 2
    assert f"there is no verb '{typed}'" in done.output and said in done.output


def test_help_says_whole_sentences() -> None:
    """Every verb stands under a heading of `agentos --help`, and no group's help cuts a verb's sentence."""
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["--help"]).output
    assert all(re.search(rf"^  {name} +\S", shown, re.M) for name in VERBS)
    cut = {
        verb: line
        for verb in VERBS
        for line in CliRunner(env={"COLUMNS": "80"}).invoke(app, [verb, "--help"]).output.splitlines()
        if line.endswith("...") and not line.startswith("Usage:")
    }
    assert not cut
