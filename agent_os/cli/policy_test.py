"""`agentos policy test`: the report of a test run as text, JSON, JUnit and SARIF, once or whenever a file changes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from agent_os.core.errors import AgentOSError

if TYPE_CHECKING:
    from agent_os.policy.workbench.testing import Report

WATCH_SECONDS: Final = 0.5


def run(
    paths: Sequence[str],
    coverage_least: float,
    verbose: bool,
    *,
    junit: str | None = None,
    sarif: str | None = None,
    as_json: bool = False,
) -> bool:
    """Run the tests and print their report; return whether all passed and enough rules were covered."""
    from agent_os.policy.workbench import sarif as sarif_form  # noqa: PLC0415
    from agent_os.policy.workbench.testing import coverage  # noqa: PLC0415
    from agent_os.policy.workbench.testing import junit as junit_form  # noqa: PLC0415
    from agent_os.runtime.workbench import run_test_files  # noqa: PLC0415

    reports = run_test_files(paths)
    covered = coverage(reports)
    failed = sum(len(report.failures) for report in reports)
    shares = [_share(matched, never) for _, matched, never in covered]
    enough = all(share >= coverage_least for share in shares)
    if junit is not None:
        Path(junit).write_text(junit_form(reports), encoding="utf-8")
    if sarif is not None:
        Path(sarif).write_text(json.dumps(sarif_form.of_tests(reports, covered), indent=1), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(_as_json(reports, covered), ensure_ascii=False))
    else:
        _print(reports, covered, verbose)
    return not failed and enough


def _print(reports: Sequence[Report], covered: Sequence[Any], verbose: bool) -> None:
    for report in reports:
        for result in report.results:
            if result.failure:
                typer.echo(f"FAIL {result.place}: {result.name}: {result.failure}")
            elif verbose:
                typer.echo(f"ok   {report.file}: {result.name}: {result.verdict}")
    for policy, matched, never in covered:
        total = len(matched) + len(never)
        share = _share(matched, never)
        name = policy.layers[0].units[0].document.file
        typer.echo(f"{name}: {len(matched)} of {total} rules matched by a test ({share:.0f} %)")
        for rule in never if verbose or len(never) <= 10 else never[:10]:
            typer.echo(f"  never matched by any test: {rule} ({policy.origins[rule].place})")
        if not verbose and len(never) > 10:
            typer.echo(f"  and {len(never) - 10} more (--verbose lists them)")
    total = sum(len(report.results) for report in reports)
    failed = sum(len(report.failures) for report in reports)
    typer.echo(f"{total} tests in {len(reports)} files: {total - failed} passed, {failed} failed")


def _share(matched: Sized, never: Sized) -> float:
    """Return the covered share of rules in percent; of no rules, all are covered."""
    total = len(matched) + len(never)
    return 100.0 * len(matched) / total if total else 100.0


def _as_json(reports: Sequence[Report], covered: Sequence[Any]) -> dict[str, Any]:
    return {
        "tests": sum(len(report.results) for report in reports),
        "failures": [
            {"file": report.file, "line": result.place.line, "name": result.name, "failure": result.failure}
            for report in reports
            for result in report.failures
        ],
        "coverage": [
            {
                "policy": policy.layers[0].units[0].document.file,
                "rules": len(matched) + len(never),
                "matched": len(matched),
                "never": never,
            }
            for policy, matched, never in covered
        ],
    }


def run_watching(paths: Sequence[str], coverage_least: float, verbose: bool) -> None:
    """Run the tests now and whenever a YAML or Rego file below the paths changes, until interrupted."""
    before: dict[str, float] = {}
    while True:
        now = _times(paths)
        if now != before:
            before = now
            try:
                run(paths, coverage_least, verbose)
            except AgentOSError as error:
                typer.echo(str(error))
            typer.echo("-- waiting for a change (Ctrl-C ends)")
        time.sleep(WATCH_SECONDS)


def _times(paths: Sequence[str]) -> dict[str, float]:
    found = {}
    for name in paths:
        base = Path(name)
        folder = base if base.is_dir() else base.parent
        for path in folder.rglob("*"):
            if path.suffix in (".yaml", ".yml", ".json", ".rego", ".csv"):
                try:
                    found[str(path)] = path.stat().st_mtime
                except OSError:
                    continue
    return found
