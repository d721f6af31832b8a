"""The shipped packs: their tests pass, every rule is matched by one, and `check` finds no error or warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_os.policy.workbench.check import check_policy
from agent_os.policy.workbench.testing import coverage
from agent_os.runtime.workbench import open_policy, packs, run_test_files

POLICIES = Path(__file__).parents[3] / "policies"
NAMES = sorted(path.parent.name for path in POLICIES.glob("*/policy.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_pack_passes_its_tests_at_full_coverage(name: str) -> None:
    """100 % of the rules of a pack (and of what it extends) are matched by its tests; it has a README."""
    reports = run_test_files([str(POLICIES / name)])
    assert [result for report in reports for result in report.failures] == []
    assert [never for _, _, never in coverage(reports) if never] == []
    assert (POLICIES / name / "README.md").read_text().startswith(f"# {name}\n")


@pytest.mark.parametrize("name", NAMES)
def test_a_pack_has_no_warnings(name: str) -> None:
    """A pack is no wider than its name says: `check` has nothing but notes."""
    findings = [item for item in check_policy(open_policy([f"pack:{name}"])) if item.severity != "note"]
    assert findings == []


def test_packs_are_listed_with_a_description() -> None:
    """`agentos policy packs` names every pack and what it is for."""
    listed = {item["name"]: item for item in packs()}
    assert sorted(listed) == NAMES
    assert all(item["description"] for item in listed.values())
