"""Explanations and differences as text for a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from agent_os.policy.workbench.diff import Difference
    from agent_os.policy.workbench.explain import Explanation


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
