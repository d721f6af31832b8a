"""Programs, models, budgets, agents, schedules, messages, memory and secrets."""

from __future__ import annotations

from typing import Any

import pytest

from agent_os.policy import Policy
from agent_os.policy.agents import AgentsSection, role_capabilities
from agent_os.policy.schedules import least_interval
from tests.unit.policy.helpers import call, judge, verdict

PROCESS = Policy.parse("""
process:
  allow:
    - python3
    - /opt/app/bin/*
    - ./scripts/*.sh
    - env
    - {binary: git, args: [push, origin, "**"]}
    - {binary: git, args: [status]}
    - {binary: sh, args: ["**"]}
    - {binary: make, args: ["**"], deny_args: ["-f*"], cwd: src, env: [CC]}
  ask: [{binary: pip, args: [install]}]
  deny: [curl, /usr/bin/nc, {binary: git, args: [push, "--force"]}]
""")


def program(*argv: str, path: str = "", **more: Any) -> dict[str, Any]:
    """Return the wire form of starting a program."""
    return {"kind": "process.exec", "argv": list(argv), **({"binary_path": path} if path else {}), **more}


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (program("python3", "x.py", path="/usr/bin/python3"), "allow"), (program("python3"), "allow"),
        (program("python3", path="/tmp/evil/python3"), "deny"), (program("x", path="/opt/app/bin/x"), "allow"),
        (program("x", path="/opt/app/bin/deep/x"), "deny"), (program("a.sh", path="/workspace/scripts/a.sh"), "allow"),
        (program("a.sh", path="/tmp/scripts/a.sh"), "deny"), (program("git", "status"), "allow"), (program("git", "status", "-s"), "deny"),
        (program("git", "push", "origin", "main"), "allow"), (program("git", "push", "evil", "main"), "deny"),
        (program("git", "push", "origin", "--force"), "deny"), (program("git", "-C", ".", "push", "--force"), "deny"),
        (program("env"), "allow"), (program("env", "A=1", "python3"), "deny"),
        (program("curl", "x"), "deny"), (program("sh", "-c", "ls; curl x"), "deny"), (program("sh", "-c", "ls|/usr/bin/curl x"), "deny"),
        (program("sh", "-c", "$(curl)"), "deny"), (program("sh", "-c", "ls"), "allow"), (program("sh", "-c", "echo `nc -l`"), "deny"),
        (program("nc", path="/usr/bin/nc"), "deny"), (program("python3", "curl.py"), "allow"),
        (program("make", cwd="src"), "allow"), (program("make", cwd="."), "deny"), (program("make"), "deny"),
        (program("make", "-fevil", cwd="src"), "deny"), (program("make", cwd="src", env={"CC": "x"}), "allow"),
        (program("make", cwd="src", env={"LD_PRELOAD": "x"}), "deny"), (program("sh", "-c", "pip install x"), "ask"),
    ],
)  # fmt: skip
def test_programs(wire: dict[str, Any], expected: str) -> None:
    """Allows are exact, denials look through wrappers and shells."""
    assert verdict(PROCESS, wire) == expected


MODELS = Policy.parse("""
models:
  providers:
    near: {kind: local, model: smollm2}
    far: {kind: openai, base_url: "https://api.example.com/v1", secret: KEY, models: [gpt-*], region: eu}
    farther: {kind: openai, base_url: "https://api.us.example", models: ["*"], region: us, price: {input: 10, output: 20}}
  routes:
    - {when: {finds: [HEALTH, SECRET]}, use: near}
    - {when: {labels: [secret]}, deny: true, reason: secret context}
    - {when: {purpose: [bulk]}, use: [far, farther], regions: [us], tier: free, max_tokens: 100}
    - {when: {who: {user: guest}}, use: far, ask: true}
    - {use: far, tier: high}
  deny: ["*-preview"]
  aliases: {best: far/gpt-9}
""")


def model(name: str = "gpt-5", **more: Any) -> dict[str, Any]:
    """Return the wire form of a model call."""
    return {"kind": "model.call", "model": name, **more}


def test_routes_choose_by_content_label_purpose_and_principal() -> None:
    """The first route that matches wins; a call already aimed there passes without a rewrite."""
    decision = judge(MODELS, model())
    assert decision.rules == ("models.routes[4]",)
    assert decision.obligations[0].params == {"use": ["far"], "model": "gpt-5", "tier": "high"}
    assert judge(MODELS, model(provider="far")).obligations == ()
    assert judge(MODELS, model(provider="farther")).obligations[0].params["use"] == ["far"]
    health = judge(MODELS, model(provider="far"), {"findings": ["HEALTH"]})
    assert health.obligations[0].params == {"use": ["near"], "model": "smollm2"}
    assert judge(MODELS, model(), {"findings": ["SECRET_AWS"]}).rules == ("models.routes[0]",)
    assert judge(MODELS, model(), {"findings": None}).rules == ("models.routes[0]",)
    assert verdict(MODELS, model(), {"context": {"confidentiality": "secret"}}) == "deny"
    assert verdict(MODELS, model(), {"labels": None}) == "deny"
    bulk = judge(MODELS, model(purpose="bulk"))
    assert bulk.obligations[0].params["use"] == ["farther"]
    assert bulk.obligations[1].params == {"max_tokens": 100}
    assert [
        item.kind for item in judge(MODELS, model(purpose="bulk", provider="farther", max_tokens=50)).obligations
    ] == []
    assert verdict(MODELS, model(principal={"user": "guest"})) == "ask"
    assert verdict(MODELS, model("x-preview")) == "deny"


def test_a_route_leads_only_to_models_its_provider_has() -> None:
    """A provider's `models` hold on a route too; one with a default model answers with that."""
    assert verdict(MODELS, model("claude-9", provider="far")) == "deny"
    assert verdict(MODELS, model("claude-9")) == "deny"
    text = "models: {providers: {far: {kind: openai, model: gpt-1}}, routes: [{use: far}]}"
    decision = judge(text, model("claude-9", provider="far"))
    assert decision.obligations[0].params == {"use": ["far"], "model": "gpt-1"}
    assert judge(text, model("gpt-1", provider="far")).obligations == ()
    assert judge(text, model("far", provider="far")).obligations == ()


def test_without_routes_a_provider_must_serve_the_model() -> None:
    """Aliases are resolved, unknown models denied."""
    text = "models: {providers: {near: {kind: local, model: smollm2}, far: {kind: openai, models: [gpt-*]}}, aliases: {best: far/gpt-9}}"
    assert verdict(text, model("smollm2")) == "allow"
    assert verdict(text, model("best")) == "allow"
    assert verdict(text, model("claude")) == "deny"
    assert verdict(text, model("near/gpt-1")) == "deny"
    assert verdict("models: {providers: {any: {kind: scripted}}, allow: [a-*]}", model("a-1")) == "allow"
    assert verdict("models: {providers: {any: {kind: scripted}}, allow: [a-*]}", model("b-1")) == "deny"


def test_budgets_reserve_the_worst_case_and_deny_when_spent() -> None:
    """Amounts count every token of the answer; what nobody can read denies."""
    text = """
models: {providers: {far: {kind: openai, models: ["*"], price: {input: 1, output: 2}}}}
tools: {x: {allow: true}}
budgets:
  - {per: user, window: day, tokens: 10000, usd: 1}
  - {name: calls, per: agent, window: run, calls: 3, tool: x}
  - {per: user, window: day, bytes: 5, who: {user: nobody}}
"""
    (first,) = [
        item
        for item in judge(text, model(input_tokens=1000, max_tokens=500, provider="far")).obligations
        if item.kind == "reserve"
    ]
    assert first.params["budget"] == "user/day"
    assert first.params["amounts"] == {"tokens": 1500.0, "usd": pytest.approx(0.002)}
    assert judge(text, call("x")).obligations[0].params["amounts"] == {"calls": 1.0}
    left = {
        "user/day": {"tokens": 100000, "usd": 1},
        "calls": {"calls": 0},
        'user/day[who={"user". "nobody"}]': {"bytes": 5},
    }
    assert judge(text, call("x"), {"budgets": left}).rules == ("budgets[1]",)
    assert verdict(text, call("x"), {"budgets": None}) == "deny"
    assert verdict(text, call("x"), {"budgets": {"other": {"calls": 1}}}) == "deny"
    spent = {**left, "user/day": {"tokens": 1200, "usd": 1}}
    clamped = judge(text, model(input_tokens=1000, max_tokens=500, provider="far"), {"budgets": spent})
    assert [item.params["max_tokens"] for item in clamped.obligations if item.kind == "clamp"] == [200]
    assert verdict(text, model(input_tokens=1300, max_tokens=5, provider="far"), {"budgets": spent}) == "deny"


def test_budgets_of_a_model_a_tool_or_a_team_name_their_subject() -> None:
    """`model/day:gpt-5`: the reservation says whose account it is; a subject nobody knows denies."""
    text = """
models: {providers: {far: {kind: openai, models: ["*"], tier: high}}}
tools: {x: {allow: true}}
data: {teams: {values: {ann: red}}}
budgets: [{per: model, window: day, calls: 5}, {per: tier, window: day, calls: 5}, {per: tool, window: day, calls: 5}, {per: team, window: day, calls: 5}]
"""
    ann = {"principal": {"user": "ann"}}

    def names(wire: dict[str, Any]) -> list[str]:
        return [item.params["budget"] for item in judge(text, {**wire, **ann}).obligations if item.kind == "reserve"]

    assert names(model(provider="far")) == ["model/day:gpt-5", "tier/day:high", "team/day:red"]
    assert names(model()) == ["model/day:gpt-5", "tier/day:high", "team/day:red"]
    assert names(call("x")) == ["tool/day:x", "team/day:red"]
    assert verdict(text, call("x")) == "deny"
    assert verdict(text, {**call("x"), **ann}, {"budgets": {"other": {"calls": 1}}}) == "allow"


def test_one_budget_in_two_files_is_reserved_once() -> None:
    """The names carry no pack or layer, so that adding a file does not start a budget anew."""
    one = Policy.parse("tools: {x: {allow: true}}\nbudgets: [{per: user, window: day, calls: 5}]", file="one.yaml")
    two = Policy.parse(
        "tools: {x: {allow: true}}\nbudgets: [{per: user, window: day, calls: 3, usd: 1}]", file="two.yaml"
    )
    decision = judge(Policy.layered([one, two]), call("x"))
    assert [item.params["budget"] for item in decision.obligations] == ["user/day"]


AGENTS = Policy.parse("""
agents:
  max_depth: 2
  max_children: 3
  roles:
    researcher: {tools: [read_*], hosts: [docs.example], read: [docs], budgets: {tokens: 100}}
    writer: {tools: [write_file], ask: true, may_spawn: [researcher]}
""")


@pytest.mark.parametrize(
    ("wire", "facts", "expected"),
    [
        ({"role": "researcher"}, {}, "allow"),
        ({"role": "writer"}, {}, "ask"),
        ({"role": "unknown"}, {}, "deny"),
        ({"role": "researcher"}, {"depth": 2}, "deny"),
        ({"role": "researcher", "principal": {"parents": ["a", "b"]}}, {}, "deny"),
        ({"role": "researcher"}, {"children": 3}, "deny"),
        ({"role": "researcher", "budgets": {"tokens": 100}}, {}, "allow"),
        ({"role": "researcher", "budgets": {"tokens": 101}}, {}, "deny"),
        ({"role": "researcher", "budgets": {"gold": 1}}, {}, "deny"),
        ({"role": "researcher", "budgets": {"tokens": -1}}, {}, "deny"),
        ({"role": "researcher", "capabilities": [{"verb": "tool.call", "scope": ["read_file"]}]}, {}, "allow"),
        ({"role": "researcher", "capabilities": [{"verb": "tool.call", "scope": ["send"]}]}, {}, "deny"),
        ({"role": "researcher", "capabilities": [{"verb": "tool.call"}]}, {}, "deny"),
        ({"role": "researcher", "capabilities": "all"}, {}, "deny"),
        ({"role": "researcher", "capabilities": [{"verb": "fs.read", "scope": ["docs/a"]}]}, {}, "allow"),
        ({"role": "researcher", "capabilities": [{"verb": "fs.read", "scope": ["/workspace/docs/./a/"]}]}, {}, "allow"),
        ({"role": "researcher", "capabilities": [{"verb": "fs.read", "scope": ["docs/../ledger/"]}]}, {}, "deny"),
        (
            {"role": "researcher", "capabilities": [{"verb": "fs.read", "scope": ["/workspace/docs/../../etc/"]}]},
            {},
            "deny",
        ),
        ({"role": "researcher", "capabilities": [{"verb": "fs.read", "scope": ["docs/\0a"]}]}, {}, "deny"),
        ({"role": "researcher", "capabilities": [{"verb": "fs.read", "scope": [["docs/a"]]}]}, {}, "deny"),
    ],
)
def test_sub_agents(wire: dict[str, Any], facts: dict[str, Any], expected: str) -> None:
    """Known roles, within depth, fan-out and what the role has."""
    assert verdict(AGENTS, {"kind": "agent.spawn", **wire}, facts) == expected


def test_a_role_becomes_capabilities() -> None:
    """Globs are expanded over what exists; what a role does not name is not held."""
    section = AGENTS.compiled[0].by_kind["agent.spawn"][0].section
    assert isinstance(section, AgentsSection)
    ((_, role),) = section.roles()["researcher"]
    held = role_capabilities(role, workspace="/w", tools=["read_file", "send"])

    def may(verb: str, target: str) -> bool:
        return any(capability.covers(verb, target) for capability in held)

    assert may("tool.call", "read_file")
    assert not may("tool.call", "send")
    assert may("fs.read", "/w/docs/a")
    assert not may("fs.write", "/w/docs/a")
    assert may("net.request", "docs.example:443")
    assert not may("net.request", "docs.example:80")
    assert not may("agent.spawn", "writer")


@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        ({"every": "15m"}, 900), ("*/5 * * * *", 300), ({"cron": "0 3 * * *"}, 86400), ({"cron": "0 */6 * * *"}, 21600),
        ({"cron": "0,30 * * * *"}, 1800), ({"cron": "0,50 * * * *"}, 600), ({"at": "2027-01-01"}, float("inf")), ({"event": "x"}, 0),
        ({"cron": "x * * * *"}, None), ({"cron": "99 * * * *"}, None), ({"every": "often"}, None), ({}, None), (None, None),
        ({"every": "1h", "cron": "* * * * *"}, None),
    ],
)  # fmt: skip
def test_the_pace_of_a_trigger(when: Any, seconds: float | None) -> None:
    """What cannot be told is None, which counts as too fast."""
    assert least_interval(when) == seconds


def test_schedules() -> None:
    """Names, roles, operations and pace."""
    text = """
schedules:
  allow: [{name: "report-*", roles: [writer], min_interval: 1d}, {name: tick}]
  ask: [{name: "*", operations: [remove]}]
  min_interval: 1h
"""
    schedule = {"kind": "task.schedule", "name": "report-1", "role": "writer", "when": {"every": "2d"}}
    assert verdict(text, schedule) == "allow"
    assert verdict(text, {**schedule, "when": {"every": "12h"}}) == "deny"
    assert verdict(text, {**schedule, "when": {"every": "1s"}}) == "deny"
    assert verdict(text, {**schedule, "role": "admin"}) == "deny"
    assert verdict(text, {**schedule, "operation": "remove"}) == "ask"
    assert verdict(text, {**schedule, "name": "tick", "when": "nonsense"}) == "deny"
    assert verdict("tools: {}", schedule) == "deny"


def test_messages_need_every_recipient() -> None:
    """One recipient outside is one too many; agents of a task may talk where `agents` says so."""
    text = "messages: {allow: [{channel: email, to: ['*@corp.example']}], deny: [{channel: email, to: ['ceo@*']}]}"
    mail = {"kind": "message.send", "channel": "email", "to": ["A@Corp.example"]}
    assert verdict(text, mail) == "allow"
    assert verdict(text, {**mail, "to": ["a@corp.example", "b@evil.example"]}) == "deny"
    assert verdict(text, {**mail, "to": ["ceo@corp.example"]}) == "deny"
    assert verdict(text, {**mail, "to": []}) == "deny"
    assert verdict(text, {**mail, "channel": "agent"}) == "deny"
    assert verdict(AGENTS, {"kind": "message.send", "to": ["child"]}) == "allow"
    assert verdict("agents: {messages: false}", {"kind": "message.send", "to": ["child"]}) == "deny"


def test_memory() -> None:
    """Keys by glob, words for all or nothing."""
    text = "memory: {read: ['*'], write: ['notes/*'], ask: ['notes/team*'], deny: ['**/secret*', 'secret*']}"
    assert verdict(text, {"kind": "memory.read", "key": "a/b"}) == "allow"
    assert verdict(text, {"kind": "memory.write", "key": "notes/a"}) == "allow"
    assert verdict(text, {"kind": "memory.write", "key": "a"}) == "deny"
    assert verdict(text, {"kind": "memory.write", "key": "notes/team1"}) == "ask"
    assert verdict(text, {"kind": "memory.read", "key": "x/secret"}) == "deny"
    assert verdict("memory: allow", {"kind": "memory.write", "key": "a"}) == "allow"
    assert verdict("memory: deny", {"kind": "memory.read", "key": "a"}) == "deny"


def test_secrets_are_bound_to_their_destination() -> None:
    """By the list, or by the provider that uses the secret; anything else is denied."""
    text = """
secrets: {A: {destinations: ["*.corp.example"]}, KEY: {}, B: {destinations: [b.example], ask: true}}
models: {providers: {far: {kind: openai, base_url: "https://api.example.com/v1", secret: KEY}}}
"""

    def use(name: str, destination: str) -> str:
        return verdict(text, {"kind": "secret.use", "name": name, "destination": destination})

    assert use("A", "erp.corp.example") == "allow"
    assert use("A", "https://erp.corp.example:443/x") == "allow"
    assert use("A", "corp.example.evil.example") == "deny"
    assert use("A", "https://erp.corp.example@evil.example/") == "deny"
    assert use("A", "") == "deny"
    assert use("KEY", "api.example.com") == "allow"
    assert use("KEY", "evil.example") == "deny"
    assert use("B", "b.example") == "ask"
    assert use("C", "b.example") == "deny"


@pytest.mark.parametrize("section", ["privacy", "flow"])
def test_a_guard_that_is_not_installed_denies_what_it_governs(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wiring never skips a section of a file."""
    from agent_os.policy import compile as wiring

    monkeypatch.setattr(wiring, "_compiler", lambda wire: None if wire.key == section else original(wire))
    text = {"privacy": "privacy: [{find: PERSON, do: deny}]", "flow": "flow: {}"}[section]
    decision = judge("tools: {x: {allow: true}}\n" + text, call("x"))
    assert decision.rules == (f"{section}.not-installed",)


from agent_os.policy.compile import _compiler as original  # noqa: E402
