"""`agentos policy`: check, test, explain, decide, diff, replay, learn, schema, packs, bundle, rollback.

Arguments and output only; the work is in `policy/workbench` (pure) and `runtime/workbench.py` (files).
Exit status: 0 done, 2 usage, 3 an action was denied (`explain`), 4 a policy is invalid or a test failed, 1 else.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import typer

app = typer.Typer(no_args_is_help=True, help="Check, test, explain, decide, diff, replay and learn policies.")
JSON = typer.Option(False, "--json", help="Print JSON.")
SEMANTICS = typer.Option(None, "--semantics", help="strict or openshell; wins over the file's.")
WORKSPACE = typer.Option("/workspace", "--workspace", help="What relative paths are taken against.")
TOOLS = typer.Option(None, "--tools", help="Folder with tool manifests (tool.yaml).")
POLICIES = typer.Argument(..., help="A policy file or pack:NAME; several are layers.", metavar="POLICY...")
TEST_PATHS = typer.Argument(default_factory=lambda: ["."], help="Test files or folders.", metavar="[PATH]...")
FLUSH_LINES: Final = 256
INVALID: Final = 4


def _print(value: Any) -> None:
    import json  # noqa: PLC0415

    typer.echo(json.dumps(value, ensure_ascii=False))


def _workspace(given: str) -> str:
    from agent_os.core.canonical import path  # noqa: PLC0415

    return path(given, root=str(Path.cwd()), field="workspace")


@app.command()
def decide(
    policies: list[str] = POLICIES,
    workspace: str = WORKSPACE,
    tools: str | None = TOOLS,
    semantics: str | None = SEMANTICS,
    input_file: str | None = typer.Option(None, "--input", help="File of actions; default: standard input."),
) -> None:
    """Decide JSON actions: one a line in, one decision a line out. A malformed line is answered with a denial."""
    from agent_os.policy.workbench.stream import Decider  # noqa: PLC0415
    from agent_os.runtime.workbench import lines_of, open_policy, read_manifests  # noqa: PLC0415

    manifests = read_manifests(tools) if tools else ()
    decider = Decider(open_policy(policies, semantics=semantics), workspace=_workspace(workspace), manifests=manifests)
    out = sys.stdout.buffer
    waiting = 0
    for answer in decider.decide_lines(lines_of(input_file, sys.stdin.buffer)):
        out.write(answer)
        waiting += 1
        if waiting >= FLUSH_LINES or input_file is None:
            out.flush()
            waiting = 0
    out.flush()


@app.command()
def replay(
    policies: list[str] = POLICIES,
    trace: str = typer.Option("-", "--trace", help="JSONL of recorded traces; - is standard input."),
    tools: str | None = TOOLS,
    workspace: str = WORKSPACE,
    as_json: bool = JSON,
) -> None:
    """Judge recorded tool-call traces: each call knowing the prompt and earlier results alone."""
    from agent_os.policy.workbench.replay import replay_trace, summarise  # noqa: PLC0415
    from agent_os.runtime.workbench import open_policy, traces_of, watchers  # noqa: PLC0415

    policy = open_policy(policies)
    make_watcher = watchers(policy, tools)
    results = []
    for given in traces_of(trace, sys.stdin.buffer):
        result = replay_trace(policy, given, make_watcher=make_watcher, workspace=_workspace(workspace))
        if as_json:
            _print(result)
            continue
        results.append(result)
        for number, decision in enumerate(result["decisions"], 1):
            if decision["verdict"] != "allow":
                where = f"{result['id']} call {number}"
                typer.echo(f"{where}: {decision['verdict']} {decision['tool']}: {decision['reason']}")
        if result.get("error"):
            typer.echo(f"{result['id']}: {result['error']}")
    if not as_json:
        counts = summarise(results)
        typer.echo(
            f"{counts['traces']} traces, {counts['calls']} calls: "
            f"{counts['allow']} allowed, {counts['ask']} ask, {counts['deny']} denied"
        )


@app.command()
def schema() -> None:
    """Print the JSON Schema of a policy file, for editors."""
    import json  # noqa: PLC0415

    from agent_os.policy.schema import json_schema  # noqa: PLC0415

    typer.echo(json.dumps(json_schema(), indent=1, sort_keys=True))


@app.command()
def packs(as_json: bool = JSON) -> None:
    """List the policy packs that are shipped."""
    from agent_os.runtime.workbench import packs as listed  # noqa: PLC0415

    for pack in listed():
        if as_json:
            _print(pack)
        else:
            typer.echo(f"pack:{pack['name']:<18} {pack['rules']:>4} rules  {_first_line(pack)}")


def _first_line(pack: Mapping[str, Any]) -> str:
    return str(pack["description"]).split("\n", 1)[0]


@app.command("test")
def run_tests(
    paths: list[str] = TEST_PATHS,
    coverage_least: float = typer.Option(0.0, "--coverage", min=0, max=100, help="Least share of rules, in percent."),
    junit: str | None = typer.Option(None, "--junit", help="Write JUnit XML here."),
    sarif: str | None = typer.Option(None, "--sarif", help="Write SARIF here."),
    watch: bool = typer.Option(False, "--watch", help="Run again whenever a file changes."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Print every test and every rule never matched."),
    as_json: bool = JSON,
) -> None:
    """Run policy tests (*_test.yaml) and say which rules no test ever matched."""
    from agent_os.cli.policy_test import run, run_watching  # noqa: PLC0415

    if watch:
        run_watching(paths, coverage_least, verbose)
        return
    if not run(paths, coverage_least, verbose, junit=junit, sarif=sarif, as_json=as_json):
        raise typer.Exit(INVALID)


@app.command()
def check(
    policies: list[str] = POLICIES,
    semantics: str | None = SEMANTICS,
    sarif: str | None = typer.Option(None, "--sarif", help="Write SARIF here."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Errors and warnings only."),
    fatal: str = typer.Option("error", "--fail-on", help="Least severity that fails: error, warning or note."),
    as_json: bool = JSON,
) -> None:
    """Check policies: errors, rules that can never decide, rules too broad, secrets in clear, semantics."""
    import json  # noqa: PLC0415

    from agent_os.core.errors import PolicyError  # noqa: PLC0415
    from agent_os.policy.workbench.check import check_policy, counts, from_error  # noqa: PLC0415
    from agent_os.policy.workbench.sarif import of_findings  # noqa: PLC0415
    from agent_os.runtime.workbench import open_policy  # noqa: PLC0415

    severities = ("error", "warning", "note")
    if fatal not in severities:
        raise typer.BadParameter("error, warning or note", param_hint="--fail-on")
    rules = 0
    try:
        policy = open_policy(policies, semantics=semantics)
        findings, rules = check_policy(policy), len(policy.rules)
    except PolicyError as error:
        findings = from_error(error)
    if quiet:
        findings = [finding for finding in findings if finding.severity != "note"]
    if sarif is not None:
        Path(sarif).write_text(json.dumps(of_findings(findings), indent=1), encoding="utf-8")
    found = counts(findings)
    if as_json:
        _print({"findings": [finding.to_json() for finding in findings], "counts": found, "rules": rules})
    else:
        for finding in findings:
            typer.echo(str(finding))
        typer.echo(f"{rules} rules: {found['error']} errors, {found['warning']} warnings, {found['note']} notes")
    if any(found[severity] for severity in severities[: severities.index(fatal) + 1]):
        raise typer.Exit(INVALID)
