"""`agentos policy` on policies with Rego layers: the engines are asked as a session would ask them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_os.cli.policy import app

pytest.importorskip("regorus", reason="the extra [rego] is not installed")

POLICY = """
version: 1
tools: {pay: {allow: true}}
rego: [{package: p, path: rules, name: fin, timeout: 1s}]
"""
MODULE = "package p\nimport rego.v1\ndefault allow := false\nallow if input.args.amount < 10\n"
TESTS = """
policy: policy.yaml
tests:
  - {name: small, action: {kind: tool.call, tool: pay, args: {amount: 5}}, expect: allow}
  - {name: big, action: {kind: tool.call, tool: pay, args: {amount: 50}}, expect: deny, rules: [rego:fin.allow]}
"""
RUN = CliRunner()


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Return a policy file with a folder of one module beside it."""
    folder = tmp_path / "policy"
    (folder / "rules").mkdir(parents=True)
    (folder / "rules" / "a.rego").write_text(MODULE)
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "pay_test.yaml").write_text(TESTS)
    return folder / "policy.yaml"


def line(amount: int, **more: object) -> str:
    """Return one action of a stream."""
    return json.dumps({"kind": "tool.call", "tool": "pay", "args": {"amount": amount}, **more}) + "\n"


def test_decide_asks_the_engine(policy: Path) -> None:
    """Unless a line says itself what an engine answered."""
    said = {"verdicts": [{"engine": "rego:fin", "verdict": "allow"}]}
    found = RUN.invoke(app, ["decide", str(policy)], input=line(5) + line(50) + line(50, facts=said))
    assert [json.loads(answer)["verdict"] for answer in found.output.splitlines()] == ["allow", "deny", "allow"]


def test_explain_and_replay_ask_the_engine(policy: Path) -> None:
    """Both name the engine's rule."""
    found = RUN.invoke(app, ["explain", str(policy), "--action", line(50)])
    assert found.exit_code == 3
    assert "rego:fin.allow" in found.output
    trace = {"id": "t", "calls": [{"tool": "pay", "args": {"amount": amount}} for amount in (5, 50)]}
    found = RUN.invoke(app, ["replay", str(policy), "--json"], input=json.dumps(trace))
    assert [call["verdict"] for call in json.loads(found.output)["decisions"]] == ["allow", "deny"]


def test_tests_ask_the_engine_and_count_it_as_covered(policy: Path) -> None:
    """`policy test` needs no facts for Rego."""
    found = RUN.invoke(app, ["test", str(policy.parent)])
    assert found.exit_code == 0, found.output
    assert "100 %" in found.output


@pytest.mark.parametrize(("module", "word"), [("allow if http.send({})", "http.send"), ("allow if", "b.rego")])
def test_check_refuses_modules(policy: Path, module: str, word: str) -> None:
    """With their place; a good module is no finding."""
    assert RUN.invoke(app, ["check", str(policy)]).exit_code == 0
    (policy.parent / "rules" / "b.rego").write_text(f"package p\nimport rego.v1\n{module}\n")
    found = RUN.invoke(app, ["check", str(policy)])
    assert found.exit_code == 4
    assert word in found.output


def test_bundles_carry_modules(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is signed and installed is the policy with its modules."""
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    made = tmp_path / "p.tar.gz"
    found = RUN.invoke(app, ["bundle", str(policy), "-o", str(made), "--revision", "1"])
    assert found.exit_code == 0, found.output
    found = RUN.invoke(app, ["bundle", "--install", str(made)])
    assert found.exit_code == 0, found.output
    found = RUN.invoke(app, ["decide", "installed:"], input=line(5) + line(50))
    assert [json.loads(answer)["verdict"] for answer in found.output.splitlines()] == ["allow", "deny"]
