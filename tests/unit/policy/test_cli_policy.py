"""`agentos policy`: output, JSON and exit statuses, as scripts of security teams use them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

POLICY = (
    "version: 1\ntools: {read_file: {allow: {path: {under: inbox/}}}, pay: {allow: true, ask: {amount: {min: 10}}}}\n"
)


def agentos(*arguments: str, text: str | bytes = "", cwd: Path | None = None) -> tuple[int, str, str]:
    """Run the command; return status, output, errors."""
    data = text.encode() if isinstance(text, str) else text
    done = subprocess.run(
        [sys.executable, "-m", "agent_os", "policy", *arguments],
        input=data, capture_output=True, timeout=60, check=False, cwd=cwd,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A small policy file."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def test_decide_answers_each_line(policy: Path) -> None:
    """One decision a line, in order; ids come back; malformed lines are denials that say why."""
    lines = [
        json.dumps({"kind": "tool.call", "tool": "read_file", "args": {"path": "inbox/a"}, "id": 7}),
        "",
        "not json",
        "[1]",
        json.dumps(
            {"kind": "tool.call", "tool": "read_file", "args": {"path": "/workspace/inbox/a"}, "facts": {"nonsense": 1}}
        ),
        json.dumps({"kind": "tool.call", "tool": "pay", "args": {"amount": 10}}),
        "{" * 5000,
    ]
    status, out, _ = agentos("decide", str(policy), text="\n".join(lines) + "\n")
    answers = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [answer["verdict"] for answer in answers] == ["allow", "deny", "deny", "deny", "ask", "deny"]
    assert answers[0]["id"] == 7
    assert answers[0]["rules"] == ["tools.read_file.allow"]
    assert "not JSON" in answers[1]["reason"]
    assert "nonsense" in answers[3]["reason"]
    assert all(answer["policy"].startswith("sha256:") for answer in answers)


def test_decide_takes_a_workspace(policy: Path, tmp_path: Path) -> None:
    """`under:` is relative to `--workspace`."""
    line = json.dumps({"kind": "tool.call", "tool": "read_file", "args": {"path": "/srv/w/inbox/a"}})
    assert json.loads(agentos("decide", str(policy), text=line)[1])["verdict"] == "deny"
    assert json.loads(agentos("decide", str(policy), "--workspace", "/srv/w", text=line)[1])["verdict"] == "allow"


def test_an_invalid_policy_is_status_4_with_its_place(tmp_path: Path) -> None:
    """File, line, column and a hint on standard error."""
    path = tmp_path / "bad.yaml"
    path.write_text("tools:\n  x: {alow: true}\n")
    status, out, err = agentos("decide", str(path), text="{}\n")
    assert (status, out) == (4, "")
    assert f"{path}:2:7" in err
    assert "did you mean 'allow'?" in err
    assert agentos("decide", str(tmp_path / "none.yaml"))[0] == 4


def test_replay_judges_each_call_of_each_trace(policy: Path, tmp_path: Path) -> None:
    """The result line has the form scripts read; a malformed trace does not end the run."""
    traces = tmp_path / "traces.jsonl"
    trace = {
        "id": "t1", "prompt": "read my mail", "principal": {"user": "u@corp.example"},
        "calls": [{"tool": "read_file", "args": {"path": "inbox/a"}, "result": "x"}, {"tool": "pay", "args": {"amount": 50}}, {"tool": "rm"}],
    }  # fmt: skip
    traces.write_text(json.dumps(trace) + "\nbroken\n" + json.dumps({"id": "t2", "calls": 5}) + "\n")
    status, out, _ = agentos("replay", str(policy), "--trace", str(traces), "--json")
    results = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [item["verdict"] for item in results[0]["decisions"]] == ["allow", "ask", "deny"]
    assert set(results[0]["decisions"][0]) >= {"tool", "verdict", "rules", "reason"}
    assert results[1]["error"]
    assert results[2]["error"]
    status, out, _ = agentos("replay", str(policy), "--trace", str(traces))
    assert "3 calls: 1 allowed, 1 ask, 1 denied" in out


def test_schema_prints_the_committed_schema() -> None:
    """`agentos policy schema` is what editors use."""
    status, out, _ = agentos("schema")
    assert status == 0
    assert json.loads(out)["properties"]["tools"]["description"]


def test_packs_lists_the_shipped_packs() -> None:
    """Each with its number of rules, as one JSON list."""
    status, out, _ = agentos("packs", "--json")
    packs = {item["name"]: item for item in json.loads(out)}
    assert status == 0
    assert packs["baseline"]["rules"] > 50


def test_tests_report_failures_and_coverage(policy: Path, tmp_path: Path) -> None:
    """A failing test is status 4; JUnit and SARIF are written; rules without a test are named."""
    tests = tmp_path / "policy_test.yaml"
    good: dict[str, Any] = {
        "name": "reads",
        "action": {"kind": "tool.call", "tool": "read_file", "args": {"path": "inbox/a"}},
        "expect": "allow",
    }
    tests.write_text(json.dumps({"tests": [good]}))
    status, out, _ = agentos("test", str(tmp_path))
    assert status == 0
    assert "never matched by any test: tools.pay.ask" in out
    assert agentos("test", str(tmp_path), "--coverage", "100")[0] == 4
    tests.write_text(json.dumps({"tests": [good, {**good, "name": "<wrong>", "expect": "deny", "rules": ["x"]}]}))
    junit, sarif = tmp_path / "j.xml", tmp_path / "s.json"
    status, out, _ = agentos("test", str(tests), "--junit", str(junit), "--sarif", str(sarif), "--json")
    assert status == 4
    assert json.loads(out)["failures"][0]["name"] == "<wrong>"
    assert 'failures="1"' in junit.read_text()
    assert "&lt;wrong&gt;" in junit.read_text()
    assert {item["ruleId"] for item in json.loads(sarif.read_text())["runs"][0]["results"]} == {
        "policy-test-failed",
        "rule-not-tested",
    }


def test_check_finds_what_is_wrong(tmp_path: Path) -> None:
    """Findings have ids, severities, places and fixes; errors fail, `--fail-on` moves the bar."""
    path = tmp_path / "p.yaml"
    path.write_text("""version: 1
tools:
  pay: {allow: true, deny: true}
  x: {allow: {a: {min: 5, max: 1}}}
  "**": {allow: true}
process: {set_env: {API_TOKEN: sk-live-0123456789abcdefghijABCDEFGH}}
models: {providers: {a: {kind: openai, base_url: "http://api.example.com"}}}
""")
    status, out, _ = agentos("check", str(path), "--json")
    report = json.loads(out)
    found = {item["id"]: item for item in report["findings"]}
    assert status == 4
    assert found["secret-in-clear"]["severity"] == "error"
    assert "sk-live" not in out
    assert found["rule-shadowed"]["line"] == 3
    assert {"rule-empty", "over-broad-tool", "plain-http"} <= set(found)
    path.write_text(POLICY)
    assert agentos("check", str(path))[0] == 0
    assert agentos("check", str(path), "--fail-on", "note")[0] == 4
    path.write_text("tools: {x: {alow: 1}}")
    status, out, _ = agentos("check", str(path), "--json")
    assert (status, json.loads(out)["findings"][0]["id"]) == (4, "policy-invalid")
