"""`agentos policy`: check, test, explain, decide, diff, replay, learn, schema, packs, bundle, rollback.

Arguments and output only; the work is in `policy/workbench` (pure) and `runtime/workbench.py` (files).
Exit status: 0 done, 2 usage, 3 an action was denied (`explain`), 4 a policy is invalid or a test failed, 1 else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from agent_os.policy import Policy
    from agent_os.policy.workbench.check import Finding

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Check, test, explain, decide, diff, replay and learn policies."
)
JSON = typer.Option(False, "--json", help="Print JSON.")
SEMANTICS = typer.Option(None, "--semantics", help="strict or openshell; wins over the file's.")
WORKSPACE = typer.Option("/workspace", "--workspace", help="What relative paths are taken against.")
TOOLS = typer.Option(None, "--tools", help="Folder with tool manifests (tool.yaml).")
POLICIES = typer.Argument(..., help="A policy file or pack:NAME; several are layers.", metavar="POLICY")
FILES = typer.Argument(..., help="Policy files or pack:NAME, each checked by itself.", metavar="POLICY")
TEST_PATHS = typer.Argument(default_factory=lambda: ["."], help="Test files or folders.", metavar="PATH")
FLUSH_LINES: Final = 256
INVALID: Final = 4
DENIED: Final = 3


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
    from agent_os.runtime.workbench import judging, lines_of, open_policy, read_manifests  # noqa: PLC0415

    manifests = read_manifests(tools) if tools else ()
    policy = open_policy(policies, semantics=semantics)
    out = sys.stdout.buffer
    waiting = 0
    with judging(policy) as judge:
        decider = Decider(policy, workspace=_workspace(workspace), manifests=manifests, judge=judge)
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
    from agent_os.cli.policy_report import replayed_lines  # noqa: PLC0415
    from agent_os.policy.workbench.replay import replay_trace, summarise  # noqa: PLC0415
    from agent_os.runtime.workbench import judging, open_policy, traces_of, watchers  # noqa: PLC0415

    policy = open_policy(policies)
    make_watcher = watchers(policy, tools)
    results = []
    root = _workspace(workspace)
    with judging(policy) as judge:
        for given in traces_of(trace, sys.stdin.buffer):
            result = replay_trace(
                policy, given, make_watcher=make_watcher, workspace=root, judge=judge, concerns=not as_json
            )
            if as_json:
                _print(result)
                continue
            results.append(result)
            for line in replayed_lines(result, given.get("prompt") if isinstance(given, dict) else None):
                typer.echo(line)
    if not as_json:
        counts = summarise(results)
        typer.echo(
            f"{counts['traces']} traces, {counts['calls']} calls: "
            f"{counts['allow']} allowed, {counts['ask']} ask, {counts['deny']} denied"
            + (f", {counts['not-evaluable']} not evaluable" if counts["not-evaluable"] else "")
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

    packs = list(listed())
    if as_json:
        _print(packs)
        return
    for pack in packs:
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
    policies: list[str] = FILES,
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
    from agent_os.runtime.workbench import known_tools, open_policy  # noqa: PLC0415

    severities = ("error", "warning", "note")
    if fatal not in severities:
        raise typer.BadParameter("error, warning or note", param_hint="--fail-on")
    rules, findings = 0, []
    for name in dict.fromkeys(policies):
        try:
            policy = open_policy([name], semantics=semantics)
        except PolicyError as error:
            findings += from_error(error)
        else:
            findings += [*_rego_findings(policy), *_entity_findings(policy), *check_policy(policy, known_tools())]
            rules += len(policy.rules)
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


def _rego_findings(policy: Policy) -> list[Finding]:
    """Return what refuses the Rego modules of a policy, each at the section that brings them."""
    if not policy.engines:
        return []
    from agent_os.policy.workbench.check import Finding as Found  # noqa: PLC0415
    from agent_os.runtime.rego import check_rego  # noqa: PLC0415

    place = next(unit.document.place("rego") for _, _, unit in policy.sections("rego"))
    return [
        Found(problem.code, "error", place, "rego", problem.message, problem.hint) for problem in check_rego(policy)
    ]


def _entity_findings(policy: Policy) -> list[Finding]:
    """Return the entities that rules name and nothing finds."""
    from agent_os.policy.workbench.check import Finding as Found  # noqa: PLC0415
    from agent_os.runtime.privacy import unknown_entities  # noqa: PLC0415

    return [
        Found("unknown-entity", "error", unit.document.place(path), path, f"nothing finds {name!r}", hint)
        for unit, path, name, hint in unknown_entities(policy)
    ]


@app.command()
def explain(
    policies: list[str] = POLICIES,
    action: str = typer.Option("-", "--action", help="The action as JSON; - reads it from standard input."),
    workspace: str = WORKSPACE,
    as_json: bool = JSON,
) -> None:
    """Explain one decision: every rule considered, where it is enforced, the least change. Status 3 for a denial."""
    from agent_os.cli.policy_report import print_explanation  # noqa: PLC0415
    from agent_os.policy.workbench.explain import explain as explained  # noqa: PLC0415
    from agent_os.policy.workbench.facts import judged  # noqa: PLC0415
    from agent_os.policy.workbench.stream import parse_line  # noqa: PLC0415
    from agent_os.runtime.workbench import judging, open_policy  # noqa: PLC0415

    text = sys.stdin.buffer.read() if action == "-" else action.encode()
    parsed, facts = parse_line(text, workspace=_workspace(workspace))
    policy = open_policy(policies)
    with judging(policy) as judge:
        explanation = explained(policy, parsed, judged(facts, parsed, judge))
    if as_json:
        _print(explanation.to_json())
    else:
        print_explanation(explanation)
    if explanation.decision.verdict.value == "deny":
        raise typer.Exit(DENIED)


@app.command()
def diff(
    old: str = typer.Argument(..., help="The policy in force."),
    new: str = typer.Argument(..., help="The candidate."),
    tests: list[str] = typer.Option([], "--tests", help="Test files or folders whose actions are compared."),
    trace: list[str] = typer.Option([], "--trace", help="JSONL of recorded traces."),
    actions: list[str] = typer.Option([], "--actions", help="JSONL of actions in wire form."),
    audit: bool = typer.Option(False, "--audit", help="Every action of this machine's audit."),
    root: str | None = typer.Option(None, "--root", help="Another directory with an audit."),
    workspace: str = WORKSPACE,
    as_json: bool = JSON,
) -> None:
    """Compare two policies by behaviour: which actions change verdict. Without a source: the tests beside them."""
    from agent_os.cli.policy_report import print_difference  # noqa: PLC0415
    from agent_os.policy.workbench.diff import diff as compared  # noqa: PLC0415
    from agent_os.runtime.workbench import open_policy  # noqa: PLC0415

    chosen = list(tests) or ([] if trace or actions or audit else _tests_beside(old, new))
    kinds = frozenset({"intent", "denied", "asked"})
    seen = _seen(chosen, trace, actions, (root, kinds) if audit or root else None)
    found = compared(open_policy([old]), open_policy([new]), seen, workspace=_workspace(workspace))
    if as_json:
        _print(found.to_json())
    else:
        print_difference(found)


@app.command()
def learn(
    policies: list[str] = POLICIES,
    trace: list[str] = typer.Option([], "--trace", help="JSONL of recorded traces."),
    actions: list[str] = typer.Option([], "--actions", help="JSONL of actions in wire form."),
    observed: bool = typer.Option(False, "--observed", help="What `agentos run --observe` kept on this machine."),
    root: str | None = typer.Option(None, "--root", help="Another directory with an audit."),
    output: str | None = typer.Option(None, "--output", "-o", help="Write the overlay here instead of printing it."),
    whole: bool = typer.Option(False, "--whole", help="Let the written file extend POLICY: it can be run as it is."),
    workspace: str = WORKSPACE,
    as_json: bool = JSON,
) -> None:
    """Propose the smallest rules that would allow what was denied; never past a standing deny, never applied."""
    from agent_os.policy.workbench.learn import learn as learnt  # noqa: PLC0415
    from agent_os.policy.workbench.learn import to_json, to_yaml  # noqa: PLC0415
    from agent_os.runtime.workbench import open_policy  # noqa: PLC0415

    policy = open_policy(policies)
    if observed:
        from agent_os.runtime.recorded import observed_file  # noqa: PLC0415

        actions = [*actions, str(observed_file())]
    source = None if trace or actions else (root, frozenset({"denied"}))
    found = learnt(policy, _seen([], trace, actions, source), workspace=_workspace(workspace))
    if whole and (output is None or len(policies) != 1):
        raise typer.BadParameter("needs one policy and --output FILE", param_hint="--whole")
    base = policies[0] if whole else ""
    if base and not base.startswith("pack:"):
        base = os.path.relpath(base, Path(str(output)).resolve().parent)
    text = to_yaml(found, policy, extends=base)
    if output is not None:
        Path(output).write_text(text, encoding="utf-8")
    if as_json:
        _print(to_json(found))
    elif output is None:
        typer.echo(text, nl=False)
    else:
        typer.echo(f"{len(found.proposals)} proposals in {output}: read them, then merge what you mean")


def _seen(tests: list[str], trace: list[str], actions: list[str], audit: Any) -> Any:
    """Chain the recorded actions of every source named."""
    from itertools import chain  # noqa: PLC0415

    from agent_os.runtime import recorded  # noqa: PLC0415

    sources = [recorded.from_traces(path, sys.stdin.buffer) for path in trace]
    sources += [recorded.from_actions(path, sys.stdin.buffer) for path in actions]
    if tests:
        sources.append(recorded.from_tests(tests))
    if audit is not None:
        sources.append(recorded.from_audit(audit[0], kinds=audit[1]))
    return chain.from_iterable(sources)


def _tests_beside(*policies: str) -> list[str]:
    found: list[str] = []
    for name in policies:
        folder = Path(name).parent
        if not name.startswith("pack:") and any(folder.glob("*_test.yaml")):
            found.extend(str(path) for path in sorted(folder.glob("*_test.yaml")))
    if not found:
        raise typer.BadParameter("name the actions to compare: --tests, --trace, --actions or --audit")
    return list(dict.fromkeys(found))


@app.command()
def bundle(
    source: str | None = typer.Argument(None, help="The policy file to bundle.", metavar="POLICY"),
    output: str = typer.Option("policy.tar.gz", "--output", "-o", help="Where the bundle is written."),
    revision: int | None = typer.Option(None, "--revision", min=0, help="Wins over the file's `revision`."),
    install: str | None = typer.Option(None, "--install", help="Verify a bundle and put it in force here."),
    trust: list[str] = typer.Option([], "--trust", help="A public key (hex) that may sign, beside our own."),
    as_json: bool = JSON,
) -> None:
    """Sign a policy with everything it names into one file; install one; without arguments, list what is installed."""
    from agent_os.cli import policy_bundle  # noqa: PLC0415

    if source is not None and install is not None:
        raise typer.BadParameter("either make a bundle or install one", param_hint="--install")
    if install is not None:
        policy_bundle.install(install, trust, as_json)
    elif source is not None:
        policy_bundle.make(source, output, revision, as_json)
    else:
        policy_bundle.show(as_json)


@app.command()
def rollback(
    to: str | None = typer.Option(None, "--to", help="A version that `policy bundle` lists; default: the one before."),
    as_json: bool = JSON,
) -> None:
    """Put the policy that was in force before back in force."""
    from agent_os.cli import policy_bundle  # noqa: PLC0415

    policy_bundle.roll_back(to, as_json)
