"""Explanations and differences as text for a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent_os.policy.workbench.diff import Difference
    from agent_os.policy.workbench.explain import Explanation

PROMPT_CHARS: Final = 200
"""Of a prompt that a replayed trace is told with."""


def print_explanation(explanation: Explanation) -> None:
    """Print a decision, the rules considered, where it is enforced and the least change."""
    decision = explanation.decision
    typer.echo(f"{decision.verdict.value}: {decision.reason}")
    if decision.advice:
        typer.echo(f"  advice: {decision.advice}")
    if explanation.considered:
        typer.echo("rules considered:")
    for item in explanation.considered:
        effect = item.effect or "rule"
        typer.echo(f"  {item.matched:<7} {effect:<5} {item.rule}  ({item.place})\n          {item.why}")
    for obligation in decision.obligations:
        typer.echo(f"obligation: {obligation.kind} {json.dumps(dict(obligation.params))} by {obligation.rule}")
    typer.echo(f"enforced in {explanation.enforced}")
    typer.echo(f"to allow it: {explanation.change_note}")
    if explanation.change is not None:
        import yaml  # noqa: PLC0415

        for line in yaml.safe_dump(explanation.change, sort_keys=False, allow_unicode=True).splitlines():
            typer.echo(f"  {line}")


def print_difference(found: Difference) -> None:
    """Print the actions whose verdict changes, then the totals."""
    for change in found.changes:
        mark = "LOOSER  " if change.looser else "stricter"
        typer.echo(f"{mark} {change.before.verdict.value:>5} -> {change.after.verdict.value:<5} {change.name}")
        typer.echo(f"         {change.after.reason}")
    for change in found.regrounded:
        rules = [" + ".join(each.rules) or "no rule" for each in (change.before, change.after)]
        typer.echo(f"the same {change.after.verdict.value:>5} by other rules: {change.name}")
        typer.echo(f"         {rules[0]} -> {rules[1]}")
    for rule in found.rules_added:
        typer.echo(f"rule added:   {rule}")
    for rule in found.rules_removed:
        typer.echo(f"rule removed: {rule}")
    total = sum(found.counts.values())
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(found.counts.items())) or "none"
    typer.echo(f"{total} of {found.actions} actions change verdict: {kinds}")
    if found.unknown:
        typer.echo(f"{found.unknown} recorded actions are not evaluable (policy: audit.payloads)")


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
