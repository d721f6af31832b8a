"""`decide` is total over every kind of action: whatever is asked, an answer, and no section ever breaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent_os.core.action import KINDS, Action
from agent_os.core.errors import ActionError
from agent_os.core.executable import Executable
from agent_os.core.facts import DEFAULTS, BudgetLeft, Finding, FlowConcern
from agent_os.core.label import TRUSTED, UNTRUSTED
from agent_os.policy import Policy, decide
from agent_os.policy.compile import WIRING
from agent_os.policy.workbench.explain import explain
from agent_os.policy.workbench.learn import Seen, learn
from tests.unit.policy.test_schema import EXAMPLE

EXTRA = """
process: {allow: [python3, "./**", {binary: git, args: [push, "**"], cwd: ., env: [A]}], ask: [pip], deny: [curl]}
memory: {read: ["*"], write: [notes/*], ask: [team*], deny: [secret*]}
schedules: {allow: [{name: "n*", min_interval: 1h}], min_interval: 1m}
messages: {allow: [{channel: email, to: ["*@corp.example"]}], deny: [{to: ["x*"], channel: "*"}]}
secrets: {TOKEN: {destinations: ["*.corp.example"]}}
"""
POLICY = Policy.parse(EXAMPLE.replace("rego: [{path: finance.rego, package: finance}]", "") + EXTRA)
SECTIONS = {wire.key for wire in WIRING}
BOUNDED = settings(max_examples=400, deadline=None)

words = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["inbox/a", "../x", "/usr/bin/python3", "python3", "curl", "sh", "-c", "a@corp.example", "erp.corp.example", "*", "n1",
         "read_file", "send_payment", "researcher", "TOKEN", "agent", "email", "notes/a", "smollm2", "nemotron", "GET", "/invoices/1"]
    ),
)  # fmt: skip
numbers = st.one_of(st.integers(-5, 10**6), st.sampled_from([443, 80, 65536]))
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.floats(allow_nan=False), words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)
KEYS = [
    "tool", "args", "server", "path", "size", "host", "port", "method", "query", "headers", "body", "jsonrpc", "graphql", "model",
    "provider", "messages", "tools", "input_tokens", "max_tokens", "argv", "binary_path", "cwd", "env", "role", "task", "capabilities",
    "budgets", "name", "when", "operation", "destination", "to", "channel", "key", "value", "transport", "scheme", "binary", "ancestors",
]  # fmt: skip
NEEDED: dict[str, dict[str, Any]] = {
    "tool.call": {"tool": words, "args": st.dictionaries(words, plain, max_size=3)},
    "net.connect": {"host": words, "port": numbers},
    "net.request": {"host": words, "port": numbers, "method": words, "path": words},
    "model.call": {"model": words},
    "process.exec": {"argv": st.lists(words, min_size=1, max_size=4)},
    "agent.spawn": {"role": words, "capabilities": plain},
    "task.schedule": {"name": words, "when": plain},
    "secret.use": {"name": words, "destination": words},
    "message.send": {"to": st.lists(words, max_size=3), "channel": words},
    "memory.read": {"key": words},
    "memory.write": {"key": words, "value": plain},
    **{f"fs.{verb}": {"path": words} for verb in ("read", "write", "list", "delete")},
}


@st.composite
def wires(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the wire form of something like an action of any kind."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    wire = {"kind": kind, **{key: draw(value) for key, value in NEEDED[kind].items()}}
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=2)):
        wire.setdefault(key, draw(plain))
    return wire


facts = st.builds(
    lambda **changes: replace(DEFAULTS, **changes),
    now=st.one_of(st.none(), st.floats(0, 2e9)),
    executable=st.one_of(st.none(), st.builds(Executable, words)),
    resolved_ips=st.one_of(st.none(), st.just(()), st.just(("10.0.0.1",)), st.just(("93.184.215.14", "127.0.0.1"))),
    labels=st.one_of(st.none(), st.just({"": UNTRUSTED})),
    context=st.one_of(st.none(), st.sampled_from([TRUSTED, UNTRUSTED])),
    flow=st.one_of(st.none(), st.lists(st.builds(FlowConcern, words), max_size=2).map(tuple)),
    findings=st.one_of(st.none(), st.lists(st.builds(Finding, words, st.just(0), st.just(1)), max_size=2).map(tuple)),
    budgets=st.one_of(st.none(), st.just(()), st.just((BudgetLeft("user/year", {"tokens": 5.0}),))),
    rates=st.one_of(st.none(), st.just({})),
    depth=st.integers(0, 5),
    children=st.integers(0, 20),
)


@BOUNDED
@given(wires(), facts)
def test_every_action_has_a_decision_and_no_section_breaks(wire: dict[str, Any], given_facts: Any) -> None:
    """A section that raises would show as an errored rule of the section's bare name; none does."""
    try:
        action = Action.parse(wire)
    except ActionError:
        return
    decision = decide(POLICY, action, given_facts)
    assert not set(decision.errored) & SECTIONS, decision
    assert decision == decide(POLICY, action, given_facts)
    assert decision.reason


@settings(max_examples=120, deadline=None)
@given(wires(), facts)
def test_every_decision_can_be_explained_and_learnt_from(wire: dict[str, Any], given_facts: Any) -> None:
    """The workbench is total too, and what it proposes never turns a standing denial around."""
    try:
        action = Action.parse(wire)
    except ActionError:
        return
    explanation = explain(POLICY, action, given_facts)
    assert explanation.decision == decide(POLICY, action, given_facts)
    assert explanation.enforced
    learnt = learn(POLICY, [Seen(wire, "e", facts=given_facts)])
    if explanation.decision.rules:
        assert learnt.proposals == [] or explanation.decision.verdict.value != "deny"
