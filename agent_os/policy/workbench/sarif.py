"""Findings and test results as SARIF 2.1.0, for code review tools. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.errors import Place

if TYPE_CHECKING:
    from agent_os.policy.policy import Policy
    from agent_os.policy.workbench.check import Finding
    from agent_os.policy.workbench.testing import Report

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Final = {"error": "error", "warning": "warning", "note": "note"}


def _log(results: list[dict[str, Any]], rules: Iterable[tuple[str, str]]) -> dict[str, Any]:
    driver = {
        "name": "agentos policy",
        "rules": [{"id": name, "shortDescription": {"text": text}} for name, text in sorted(set(rules))],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _result(rule: str, level: str, text: str, place: Place) -> dict[str, Any]:
    region = {"startLine": max(place.line, 1), "startColumn": max(place.column, 1)}
    location = {"artifactLocation": {"uri": place.file.replace("\\", "/")}, "region": region}
    return {
        "ruleId": rule,
        "level": _LEVELS.get(level, "warning"),
        "message": {"text": text},
        "locations": [{"physicalLocation": location}],
    }


def of_findings(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return findings of `policy check` as a SARIF log."""
    results = [
        _result(item.id, item.severity, item.message + (f" ({item.fix})" if item.fix else ""), item.place)
        for item in findings
    ]
    return _log(results, [(item.id, item.id.replace("-", " ")) for item in findings])


def of_tests(reports: Sequence[Report], covered: Sequence[tuple[Policy, set[str], list[str]]]) -> dict[str, Any]:
    """Return failed tests and rules without a test as a SARIF log."""
    results = [
        _result("policy-test-failed", "error", f"{result.name}: {result.failure}", result.place)
        for report in reports
        for result in report.failures
    ]
    results.extend(
        _result("rule-not-tested", "warning", f"no test ever matched the rule {rule}", policy.origins[rule].place)
        for policy, _, never in covered
        for rule in never
    )
    names = [("policy-test-failed", "a policy test failed"), ("rule-not-tested", "a rule no test ever matched")]
    return _log(results, names)
