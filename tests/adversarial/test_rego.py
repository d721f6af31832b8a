"""Attacks through Rego layers, each beside the harmless twin that must keep working.

The attacker writes the input (arguments of a tool call), or a module, or stands where the engine should answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS, Policy
from agent_os.core.action import Action
from agent_os.core.decision import Verdict
from agent_os.core.errors import AgentOSError, PolicyError
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec
from agent_os.policy import decide
from agent_os.runtime.policies import load_policy
from agent_os.runtime.rego import check_rego

pytest.importorskip("regorus", reason="the extra [rego] is not installed")

POLICY = """
version: 1
tools: {pay: {allow: true}}
data: {suppliers: [ana, bo]}
rego:
  - name: finance
    package: finance
    timeout: 500ms
    data: [suppliers]
    inline: |
      package finance
      import rego.v1
      default allow := false
      allow if input.args.to in data.suppliers
      deny contains {"id": "limit", "reason": "too much"} if input.args.amount > 1000
      deny contains {"id": "spin"} if {
        input.args.note == "spin"
        count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a * b == -1]) > 0
      }
"""
Open = Callable[[str], Awaitable[AgentOS]]


@pytest.fixture
async def open_session(tmp_path: Path) -> AsyncIterator[tuple[Open, list[dict[str, Any]]]]:
    """Return a function that opens a real session with one tool, and what the tool was called with."""
    opened: list[AgentOS] = []
    calls: list[dict[str, Any]] = []

    async def run(args: Mapping[str, Any]) -> Any:
        calls.append(dict(args))
        return "paid"

    async def open_one(policy: str) -> AgentOS:
        (tmp_path / "work").mkdir(exist_ok=True)
        system = AgentOS.open(
            Policy.parse(policy), workspace=tmp_path / "work", state=tmp_path / "state", principal="ana@corp.example"
        )
        await system.__aenter__()
        opened.append(system)
        names = ("to", "amount", "note")
        spec = ToolSpec(name="pay", effect=Effect.PAY, arguments={name: Argument(role=Role.PAYLOAD) for name in names})
        system.toolbox.register(spec, run, code=b"pay")
        return system

    yield open_one, calls
    for system in opened:
        await system.__aexit__(None, None, None)


async def pay(system: AgentOS, **args: Any) -> Any:
    """Perform the tool call."""
    return await system.monitor.perform({"kind": "tool.call", "tool": "pay", "args": args})


@pytest.mark.parametrize(
    "attack",
    [
        {"to": "eve", "amount": 1},
        {"to": "ana", "amount": 1001},
        {"to": "ana", "amount": 2**53 + 2},
        {"to": ["ana"], "amount": 1},
        {"to": {"ana": True}, "amount": 1},
        {"to": "Ana", "amount": 1},
        {"to": "ana\u200b", "amount": 1},
        {"to": None, "amount": 1},
        {"amount": 1},
        {"to": "ana", "amount": "9999"},  # text is more than any number to Rego: `>` holds
    ],
)
async def test_a_session_performs_what_the_layer_allows_and_nothing_else(
    open_session: tuple[Open, list[dict[str, Any]]], attack: dict[str, Any]
) -> None:
    """The benign twin goes through in the same session, before and after."""
    open_one, calls = open_session
    system = await open_one(POLICY)
    await pay(system, to="ana", amount=10)
    with pytest.raises(AgentOSError):
        await pay(system, **attack)
    await pay(system, to="bo", amount=1000)
    assert [call["to"] for call in calls] == ["ana", "bo"]


async def test_an_input_that_makes_a_module_run_away_is_denied_and_hurts_nobody_else(
    open_session: tuple[Open, list[dict[str, Any]]],
) -> None:
    """Nothing of the attack runs; the next action is judged as usual."""
    open_one, calls = open_session
    system = await open_one(POLICY)
    await pay(system, to="ana", amount=1)
    attacks = [pay(system, to="ana", amount=1, note="spin") for _ in range(2)]
    found = await asyncio.gather(*attacks, return_exceptions=True)
    assert all(isinstance(item, AgentOSError) for item in found)
    await pay(system, to="bo", amount=2)
    assert [call["amount"] for call in calls] == [1, 2]


@pytest.mark.parametrize(
    "module",
    [
        "package finance\nimport rego.v1\nallow if http.send({`method`: `get`, `url`: `http://127.0.0.1/`})",
        "package finance\nimport rego.v1\nallow if not no_such_check(input.args)",
        "package finance\nimport rego.v1\nallow if f(100000)\nf(x) if f(x - 1)",
        "package finance\nimport rego.v1\nallow if opa.runtime().env",
        "package other\nallow := true",
        "package finance\nallow = ",
        "package finance\nallow := {`verdict`: `allow`}",
        "package finance\nallow := `true`",
        "package finance\nallow := 1",
    ],
)
async def test_a_session_with_a_module_that_cannot_be_trusted_denies(
    open_session: tuple[Open, list[dict[str, Any]]], module: str
) -> None:
    """Refused modules deny; they never fall back to the YAML beside them, which allows."""
    open_one, calls = open_session
    inline = json.dumps(module)
    policy = f"version: 1\ntools: {{pay: {{allow: true}}}}\nrego: [{{package: finance, inline: {inline}}}]\n"
    system = await open_one(policy)
    with pytest.raises(AgentOSError):
        await pay(system, to="ana", amount=1)
    assert calls == []


async def test_rego_never_widens(open_session: tuple[Open, list[dict[str, Any]]]) -> None:
    """A layer that allows everything leaves a denial of the YAML as it is."""
    open_one, calls = open_session
    module = json.dumps("package finance\nallow := true")
    layers = f"rego: [{{package: finance, inline: {module}}}]"
    system = await open_one(f"version: 1\ntools: {{look: {{allow: true}}}}\n{layers}\n")
    with pytest.raises(AgentOSError):
        await pay(system, to="ana", amount=1)
    assert calls == []


def test_without_an_engine_a_policy_with_rego_denies() -> None:
    """`decide` with no verdict among the facts denies; without `rego:` it allows."""
    action = Action.parse({"kind": "tool.call", "tool": "pay", "args": {"to": "ana"}})
    plain = Policy.parse("version: 1\ntools: {pay: {allow: true}}")
    assert decide(Policy.parse(POLICY), action).verdict is Verdict.DENY
    assert decide(plain, action).verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    "path", ["../outside.rego", "/etc/passwd", "~/x.rego", "rules/../../outside.rego", "link.rego", "rules"]
)
def test_module_paths_stay_beside_the_policy(tmp_path: Path, path: str) -> None:
    """Absolute paths, dots and links out of the folder are refused when the policy is loaded."""
    (tmp_path / "outside.rego").write_text("package p\nallow := true\n")
    folder = tmp_path / "policy"
    (folder / "rules").mkdir(parents=True)
    for link in ("link.rego", "rules/link.rego"):
        (folder / link).symlink_to(tmp_path / "outside.rego")
    (folder / "policy.yaml").write_text(f"version: 1\nrego: [{{package: p, path: '{path}'}}]\n")
    with pytest.raises(PolicyError):
        load_policy(folder / "policy.yaml")


def test_a_changed_module_is_another_policy(tmp_path: Path) -> None:
    """The digest that approvals and grants name covers the text of modules; the twin keeps its digest."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "policy.yaml").write_text("version: 1\nrego: [{package: p, path: rules}]\n")
    (tmp_path / "rules" / "a.rego").write_text("package p\nallow := false\n")
    first = load_policy(tmp_path / "policy.yaml")
    assert load_policy(tmp_path / "policy.yaml").digest == first.digest
    assert check_rego(first) == []
    (tmp_path / "rules" / "a.rego").write_text("package p\nallow := true\n")
    assert load_policy(tmp_path / "policy.yaml").digest != first.digest
