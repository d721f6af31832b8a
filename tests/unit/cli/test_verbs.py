"""The `agentos` command itself: verbs that do not exist."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from agent_os.cli.main import app


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
