"""`Labeled` as a program uses it: parts with their own labels, rows to choose among, and the example of docs/flow.md."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

import pytest

from agent_os.core.errors import ActionError
from agent_os.core.label import TRUSTED, UNTRUSTED, Integrity, Labeled
from agent_os.guards.flow.select import argmin

ROWS = Labeled(
    [{"name": "a/b", "price": 3, "tags": ["x"]}, {"name": "c", "price": 2, "tags": []}],
    UNTRUSTED,
    (("/0/price", TRUSTED), ("/1/price", TRUSTED)),
)
PAGE = Path(__file__).resolve().parents[3] / "docs" / "flow.md"


def test_a_part_has_the_join_of_what_is_in_it() -> None:
    """A trusted leaf is trusted, a record with an untrusted leaf is not, an empty part has the label of the whole."""
    assert ROWS.at("/0/price").trusted
    assert ROWS.at("/0/price").value == 3
    assert ROWS.at("/0").label.integrity is Integrity.UNTRUSTED
    assert ROWS.at("/0").at("/price").trusted
    assert not ROWS.at("/1/tags").trusted
    assert ROWS.at("").value is ROWS.value


@pytest.mark.parametrize("pointer", ["/2", "/0/none", "/0/price/x", "/x"])
def test_a_part_that_is_not_there_is_an_error(pointer: str) -> None:
    """It never comes back as nothing with a label."""
    with pytest.raises(ActionError, match="no part"):
        ROWS.at(pointer)


def test_rows_carry_their_labels_into_a_choice() -> None:
    """By a trusted field the runtime chooses; by an untrusted one it refuses; what is no list of records has no rows."""
    assert argmin(ROWS.rows(), by="price")["name"].value == "c"
    with pytest.raises(ActionError):
        argmin(ROWS.rows(), by="name")
    with pytest.raises(ActionError, match="records"):
        Labeled("text").rows()


def test_keys_are_escaped_as_pointers_are() -> None:
    """A key with a slash or a tilde is reached as RFC 6901 spells it."""
    odd = Labeled([{"a/b": 1, "c~d": 2}], UNTRUSTED, (("/0/a~1b", TRUSTED),))
    assert odd.at("/0/a~1b").trusted
    assert [cell.trusted for cell in odd.rows()[0].values()] == [True, False]


def test_the_example_of_the_page_prints_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/flow.md, *In a program*: run as it stands, under the policy of the page."""
    text = PAGE.read_text(encoding="utf-8")
    policy = re.search(r"## The policy section\n```yaml\n(.*?)```", text, re.S)
    code = re.search(r"## In a program\n.*?```python\n(.*?)```\n```console\n(.*?)```", text, re.S)
    assert policy is not None
    assert code is not None
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "policy.yaml").write_text(policy[1])
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setitem(os.environ, "AGENTOS_STATE", str(tmp_path / "state"))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code[1], str(PAGE), "exec"), {"__name__": "page"})
    assert said.getvalue() == code[2]
