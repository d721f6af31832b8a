"""Explanations and differences as text for a terminal."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import typer

from agent_os.cli.quoting import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent_os.policy.workbench.diff import Difference
    from agent_os.policy.workbench.explain import Explanation

PROMPT_CHARS: Final = 200
"""Of a prompt that a replayed trace is told with."""


def _say(text: str) -> None:
    """Print a line; what agents wrote into it does nothing to the terminal."""
    typer.echo(escaped(text, keep="\n"))


def print_explanation(explanation: Explanation) -> None:
    """Print a decision, the rules considered, where it is enforced and the least change."""
    decision = explanation.decision
    _say(f"{decision.verdict.value}: {decision.reason}")
    if decision.advice:
        _say(f"  advice: {decision.advice}")
    if explanation.considered:
        _say("rules considered:")
    for (matched, effect, base, why), alike in groupby(explanation.considered, _kind_of):
        rules = list(alike)
        more = f" and {len(rules) - 1} more of {base}" if len(rules) > 1 else ""
        _say(f"  {matched:<7} {effect or 'rule':<5} {rules[0].rule}{more}  ({rules[0].place})\n          {why}")
    for obligation in decision.obligations:
        _say(f"obligation: {obligation.kind} {json.dumps(dict(obligation.params))} by {obligation.rule}")
    _say(f"enforced in {explanation.enforced}")
    _say(f"to allow it: {explanation.change_note}")
    if explanation.change is not None:
        from agent_os.policy.workbench.writing import dumped  # noqa: PLC0415

        for line in dumped(explanation.change).splitlines():
            _say(f"  {line}")


def _kind_of(item: Any) -> tuple[str, str, str, str]:
    """Return what rules have in common that are told in one line: the entries of one list of which the same is said."""
    base, bracket, _ = item.rule.rpartition("[")
    return item.matched, item.effect, base if bracket and item.rule.endswith("]") else item.rule, item.why


def print_difference(found: Difference) -> None:
    """Print the actions whose verdict changes, then the totals."""
    for change in found.changes:
        mark = "LOOSER  " if change.looser else "stricter"
        _say(f"{mark} {change.before.verdict.value:>5} -> {change.after.verdict.value:<5} {change.name}")
        _say(f"         {change.after.reason}")
    for change in found.regrounded:
        rules = [" + ".join(each.rules) or "no rule" for each in (change.before, change.after)]
        _say(f"the same {change.after.verdict.value:>5} by other rules: {change.name}")
        _say(f"         {rules[0]} -> {rules[1]}")
    for rule in found.rules_added:
        _say(f"rule added:   {rule}")
    for rule in found.rules_changed:
        _say(f"rule changed: {rule}")
    for rule in found.rules_removed:
        _say(f"rule removed: {rule}")
    total = sum(found.counts.values())
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(found.counts.items())) or "none"
    _say(f"{total} of {found.actions} actions change verdict: {kinds}")
    if found.unknown:
        _say(f"{found.unknown} recorded actions are not evaluable (policy: audit.payloads)")


def replayed_lines(result: Mapping[str, Any], prompt: Any) -> Iterator[str]:
    """Yield what a replayed trace is told as: nothing where every call is allowed, else its prompt and its calls, each that is
    not allowed with its rules and, where the flow guard spoke, each value with what speaks against it.
    """
    from agent_os.cli.approvals_show import concern_lines, printable, told_once  # noqa: PLC0415 - only traces that ask

    decisions = result["decisions"]
    if not result.get("error") and all(each["verdict"] == "allow" for each in decisions):
        return
    said = f"  “{' '.join(prompt.split())[:PROMPT_CHARS]}”" if isinstance(prompt, str) and prompt.strip() else ""
    yield printable(f"{result['id']}{said}")
    if result.get("error"):
        yield printable(f"  {result['error']}")
    for number, decision in enumerate(decisions, 1):
        rules = f"  by {' '.join(decision['rules'])}" if decision["verdict"] != "allow" and decision["rules"] else ""
        yield printable(f"  call {number}  {decision['verdict']:<5} {decision['tool']}{rules}")
        concerns = told_once(decision.get("concerns", ()))
        if not concerns and decision["verdict"] != "allow":
            yield printable(f"          {decision['reason']}")
        for concern in concerns:
            value = f"{concern['argument']} = {concern['detail']}" if concern["argument"] else ""
            if value:
                yield printable(f"          {value}")
            for line, _ in concern_lines(concern, ""):
                yield printable(f"          {line.strip().removeprefix('! ')}")
