"""`policy test`: actions with the verdicts they must get, beside the policy, and coverage of every rule. Pure.

A test file (`*_test.yaml`) names its policy and lists tests. `each: [...]` repeats a test with `$each` put in its place.
A rule is covered when it matched in some test, whatever came of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from agent_os.core.action import Action
from agent_os.core.errors import ActionError, Place, PolicyError, Problem
from agent_os.core.facts import DEFAULTS
from agent_os.policy.engine import considered, decide
from agent_os.policy.policy import Policy
from agent_os.policy.problems import from_validation
from agent_os.policy.reader import Document, read
from agent_os.policy.schema.base import Part, Text
from agent_os.policy.workbench.facts import Judge, judged, parse_facts

MAX_CASES: Final = 100_000
EACH: Final = "$each"


class Case(Part):
    """One test: an action (wire form), facts, and what must come of it."""

    name: Text = Field(description="What the test shows.")
    action: dict[str, Any] = Field(description="The action in its wire form; facts may stand beside its arguments.")
    facts: dict[str, Any] = Field(default_factory=dict, description="Facts that differ from the defaults.")
    each: list[Any] | None = Field(default=None, min_length=1, description="Repeat with $each replaced by each value.")
    expect: Literal["allow", "ask", "deny"] = Field(description="The verdict.")
    rules: list[Text] | None = Field(default=None, description="The rule ids that must be among the deciding ones.")
    obligations: list[Text] | None = Field(default=None, description="Kinds of obligations there must be.")
    reason: Text | None = Field(default=None, description="A text the reason must contain.")


class TestFile(Part):
    """A `*_test.yaml` file."""

    policy: list[Text] | Text | None = Field(
        default=None, description="Policy file beside this one, pack:NAME, or several as layers; absent: policy.yaml."
    )
    workspace: Text = Field(default="/workspace", description="What relative paths are taken against.")
    tests: list[Case] = Field(min_length=1, description="The tests.")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one test; `failure` is empty if it passed."""

    name: str
    place: Place
    verdict: str
    rules: tuple[str, ...]
    failure: str = ""


@dataclass(slots=True)
class Report:
    """Results of one test file and which rules matched."""

    file: str
    policy: Policy
    results: list[Result] = field(default_factory=list)
    matched: set[str] = field(default_factory=set)

    @property
    def failures(self) -> list[Result]:
        """The tests that failed."""
        return [result for result in self.results if result.failure]


def parse_tests(text: str, *, file: str) -> tuple[TestFile, Document]:
    """Return the tests in a text. Raises PolicyError with places."""
    document = read(text, file=file)
    if not isinstance(document.value, dict):
        raise PolicyError(Problem("a test file must be a mapping", Place(file, 1, 1), "start with `tests:`"))
    try:
        return TestFile.model_validate(document.value), document
    except ValidationError as error:
        raise PolicyError(from_validation(error, document, TestFile)) from None


def run_tests(tests: TestFile, document: Document, policy: Policy, judge: Judge | None = None) -> Report:
    """Run the tests of a file against a policy."""
    report = Report(document.file, policy)
    for index, case in enumerate(tests.tests):
        place = document.place(f"tests[{index}]")
        for name, wire, facts in expand(case):
            if len(report.results) >= MAX_CASES:
                raise PolicyError(Problem(f"has more than {MAX_CASES} tests", place))
            report.results.append(_run(case, name, wire, facts, place, tests.workspace, report, judge))
    return report


def expand(case: Case) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield (name, action, facts) of a test, once for each value of `each`."""
    if case.each is None:
        yield case.name, case.action, case.facts
        return
    for value in case.each:
        yield f"{case.name} [{value}]", _put(case.action, value), _put(case.facts, value)


def _put(template: Any, value: Any) -> Any:
    if template == EACH:
        return value
    if isinstance(template, str):
        return template.replace(EACH, str(value))
    if isinstance(template, dict):
        return {key: _put(item, value) for key, item in template.items()}
    return [_put(item, value) for item in template] if isinstance(template, list) else template


def _run(
    case: Case,
    name: str,
    wire: dict[str, Any],
    given: dict[str, Any],
    place: Place,
    workspace: str,
    report: Report,
    judge: Judge | None,
) -> Result:
    try:
        action = Action.parse(wire, workspace=workspace)
        facts = parse_facts({"workspace": workspace, **given}, DEFAULTS).with_stated(action.stated)
        facts = judged(facts, action, judge)
    except ActionError as error:
        failed = case.expect != "deny" or case.rules
        return Result(name, place, "deny", (), f"the action is malformed: {error}" if failed else "")
    decision = decide(report.policy, action, facts)
    report.matched.update(match.rule for _, _, match in considered(report.policy, action, facts))
    report.matched.update(decision.rules)
    report.matched.update(verdict.engine for verdict in facts.verdicts if not verdict.error)
    report.matched.update(item.rule for item in decision.obligations)
    problems = []
    if decision.verdict.value != case.expect:
        problems.append(f"expected {case.expect}, got {decision.verdict.value} ({decision.reason})")
    missing = [rule for rule in case.rules or () if rule not in decision.rules]
    if missing:
        problems.append(f"expected by {', '.join(missing)}, got {', '.join(decision.rules) or 'no rule'}")
    kinds = {item.kind for item in decision.obligations}
    lacking = [kind for kind in case.obligations or () if kind not in kinds]
    if lacking:
        problems.append(f"expected the obligations {', '.join(lacking)}, got {', '.join(sorted(kinds)) or 'none'}")
    if case.reason is not None and case.reason not in decision.reason:
        problems.append(f"expected a reason with {case.reason!r}, got {decision.reason!r}")
    return Result(name, place, decision.verdict.value, decision.rules, "; ".join(problems))


def coverage(reports: Iterable[Report]) -> list[tuple[Policy, set[str], list[str]]]:
    """Return for each policy tested: the rules that matched in some test, and those that never did, in file order.

    Rules of packs it extends are not counted: they are tested where they stand.
    """
    found: dict[str, tuple[Policy, set[str]]] = {}
    for report in reports:
        _, matched = found.setdefault(report.policy.digest, (report.policy, set()))
        matched |= report.matched
    result = []
    for policy, matched in found.values():
        own = own_rules(policy)
        result.append((policy, matched & set(own), [rule for rule in own if rule not in matched]))
    return result


def own_rules(policy: Policy) -> list[str]:
    """Return the rules that do not come from a pack."""
    return [rule for rule, origin in policy.origins.items() if not origin.pack.startswith("pack:")]


def junit(reports: Sequence[Report]) -> str:
    """Return the results as JUnit XML."""
    from xml.sax.saxutils import quoteattr  # noqa: PLC0415

    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for report in reports:
        failed = len(report.failures)
        lines.append(
            f'  <testsuite name={quoteattr(report.file)} tests="{len(report.results)}" failures="{failed}" errors="0">'
        )
        for result in report.results:
            head = f"    <testcase classname={quoteattr(report.file)} name={quoteattr(_plain(result.name))}"
            if result.failure:
                lines.append(head + f"><failure message={quoteattr(_plain(result.failure))}/></testcase>")
            else:
                lines.append(head + "/>")
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>"]) + "\n"


def _plain(text: str) -> str:
    """Return text without characters that XML 1.0 cannot hold."""
    return "".join(char if char.isprintable() or char in "\t\n" else "\N{REPLACEMENT CHARACTER}" for char in text)
