"""docs/dependencies.md names every dependency, and the licence that each package says it is under."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import agent_os

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TABLES = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/dependencies.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| package |", "| extra |"))
]
LISTED = {row[1] if row[0] in PROJECT["optional-dependencies"] else row[0]: row for row in TABLES}


def names(requirements: list[str]) -> set[str]:
    """Return the packages of some requirements."""
    return {re.match(r"[\w.-]+", each)[0] for each in requirements}  # type: ignore[index]


def test_every_dependency_is_listed_with_its_extra() -> None:
    """Nothing is installed that the page does not name, and it names nothing else."""
    extras = {name: of for name, of in PROJECT["optional-dependencies"].items() if name not in ("all", "test")}
    wanted = {("", each) for each in names(PROJECT["dependencies"])}
    wanted |= {(extra, each) for extra, of in extras.items() for each in names(of)}
    assert {(row[0], row[1]) if row[0] in extras else ("", row[0]) for row in TABLES} == wanted


def test_licences_are_those_the_packages_name() -> None:
    """Each licence of a row stands in the metadata of the installed package."""
    looked = 0
    for name, row in LISTED.items():
        try:
            said = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        looked += 1
        classifiers = said.get_all("Classifier") or []
        known = " ".join([said.get("License-Expression") or "", (said.get("License") or "")[:200], *classifiers])
        licence = row[2] if row[0] in PROJECT["optional-dependencies"] else row[1]
        for word in re.findall(
            r"[A-Z]{3,4}(?:-[\d.]+)?|Apache(?:-2\.0)?", licence.replace("AND", "").replace("OR", "")
        ):
            assert word in known or word.split("-")[0] in known, (name, word, known)
    assert looked >= len(PROJECT["dependencies"])


def test_extras_are_in_the_readme_and_all_has_what_needs_no_choice() -> None:
    """The README names every extra; `all` leaves out only what changes the desktop or the agent framework."""
    readme = (ROOT / "README.md").read_text()
    extras = set(PROJECT["optional-dependencies"]) - {"all", "test"}
    assert {extra for extra in extras if f"| `{extra}` |" not in readme} == set()
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert extras - set(re.findall(r"[\w]+", everything.split("[")[1])) == {"keyring", "deepagents"}


def test_the_version_stands_in_one_place() -> None:
    """`pyproject.toml` takes the version from the package."""
    assert "version" not in PROJECT and PROJECT["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", agent_os.__version__)
