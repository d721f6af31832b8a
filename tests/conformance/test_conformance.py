"""The conformance cases as tests: nothing disagrees under openshell semantics, nothing is more open under strict."""

from __future__ import annotations

import pytest

from tests.conformance import default_folder
from tests.conformance.cases import FILES, answers, policies

FOLDER = default_folder()
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no conformance folder at {FOLDER}")


@pytest.mark.parametrize("name", FILES)
def test_openshell_semantics_agree(name: str) -> None:
    """Every case of a file agrees, or is listed with a reason of its kind."""
    found = answers(FOLDER, name)
    assert found
    assert [answer for answer in found if answer.state == "disagrees"] == []


def test_strict_semantics_are_never_more_open() -> None:
    """The same requests under strict semantics: the same answer or a stricter one, or an exempted class."""
    found = answers(FOLDER, "cases.json", strict=True)
    assert [answer for answer in found if answer.state == "disagrees"] == []


def test_real_policies_load() -> None:
    """Published policies and presets load unchanged under both semantics."""
    assert [answer for answer in policies(FOLDER) if answer.state == "disagrees"] == []
