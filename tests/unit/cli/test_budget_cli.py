"""`agentos budget usage` and the chart of `agentos budget show`."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_os.cli.budget import app
from agent_os.effects.stores.usage import UsageStore
from agent_os.runtime.state import open_state

RUN = CliRunner()
TODAY = datetime.now(UTC).strftime("%Y-%m-%d")


@pytest.fixture
def used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory in which two users called two models."""
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    open_state(environment={"AGENTOS_STATE": str(tmp_path / "state")}).close()
    store = UsageStore(tmp_path / "state")
    for user, model, tokens in (("ana", "big", 900), ("=HYPERLINK(1)", "small", 100)):
        keys = {"day": TODAY, "tenant": "t", "user": user, "model": model}
        store.add(keys, {"calls": 1, "input": tokens, "output": tokens // 3, "micro_usd": 1500})
    store.close()
    return tmp_path


def test_usage_as_a_chart_as_json_and_as_csv(used: Path) -> None:
    """The same sums for people and for programs; a spreadsheet does not run a name as a formula."""
    shown = RUN.invoke(app, ["usage", "--by", "model", "--per", "day"]).stdout
    assert "big" in shown and "█" in shown and "900" in shown
    rows = json.loads(
        RUN.invoke(app, ["usage", "--by", "user", "--per", "year", "--only", "model=big", "--json"]).stdout
    )
    assert [(row["user"], row["tokens"], row["usd"]) for row in rows] == [("ana", 1200, 0.0015)]
    table = list(csv.DictReader(io.StringIO(RUN.invoke(app, ["usage", "--by", "user", "--csv"]).stdout)))
    assert {row["user"] for row in table} == {"ana", "'=HYPERLINK(1)"}
    assert "last 14 days" in RUN.invoke(app, ["show"]).stdout


@pytest.mark.parametrize(
    "bad", [["--by", "nobody"], ["--per", "week"], ["--since", "yesterday"], ["--only", "user"], ["--only", "x=y"]]
)
def test_bad_options_are_usage_errors(used: Path, bad: list[str]) -> None:
    """A wrong name says which ones there are; exit status 2."""
    assert RUN.invoke(app, ["usage", *bad]).exit_code == 2


def test_nothing_counted_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty state says so."""
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "none"))
    assert "nothing was counted yet" in RUN.invoke(app, ["usage"]).stdout
