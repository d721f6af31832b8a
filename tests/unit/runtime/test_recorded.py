"""Learning and comparing from a real audit: what was denied is proposed, what was recorded is judged again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS, Policy
from agent_os.core.errors import DeniedError
from agent_os.core.manifest import Argument, Role, ToolSpec
from agent_os.policy.workbench.diff import diff
from agent_os.policy.workbench.learn import learn, with_overlay
from agent_os.runtime.recorded import from_audit
from tests.unit.policy.helpers import call, verdict

POLICY = "tools: {send: {allow: {to: ana}, deny: {to: mallory}}}\n"


async def act(tmp_path: Path, policy: str) -> None:
    """Let an agent send three messages: one allowed, one that no rule allows, one that a rule denies."""

    async def run(_args: Mapping[str, Any]) -> Any:
        return {"done": True}

    (tmp_path / "work").mkdir()
    system = AgentOS.open(
        Policy.parse(policy), workspace=tmp_path / "work", state=tmp_path / "state", principal="kim@corp.example"
    )
    async with system:
        spec = ToolSpec(name="send", arguments={"to": Argument(role=Role.AUTHORITY)})
        system.toolbox.register(spec, run, code=b"send")
        await system.monitor.perform(call("send", to="ana"))
        for other in ("bo", "mallory"):
            with pytest.raises(DeniedError):
                await system.monitor.perform(call("send", to=other))


async def test_learning_from_the_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With payloads kept: the rule that was missing is proposed, with the record as evidence; the deny stands."""
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    await act(tmp_path, POLICY + "audit: {payloads: encrypted}")
    policy = Policy.parse(POLICY)
    learnt = learn(policy, from_audit(None, kinds=frozenset({"denied"})))
    assert learnt.overlay() == {"tools": {"send": {"allow": {"to": "bo"}}}}
    assert learnt.forbidden == {"tools.send.deny": 1}
    assert learnt.proposals[0].evidence[0].startswith("act_")
    widened = with_overlay(policy, learnt.overlay())
    assert verdict(widened, call("send", to="bo")) == "allow"
    assert verdict(widened, call("send", to="mallory")) == "deny"

    every = frozenset({"intent", "denied", "asked"})
    found = diff(policy, Policy.parse("tools: {send: {allow: {to: bo}}}"), from_audit(None, kinds=every))
    assert (found.actions, found.counts) == (3, {"allow -> deny": 1, "deny -> allow": 1})


async def test_without_payloads_nothing_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit alone holds names of arguments, not their values: such calls are not evaluable."""
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    await act(tmp_path, POLICY)
    learnt = learn(Policy.parse(POLICY), from_audit(None, kinds=frozenset({"denied"})))
    assert learnt.proposals == []
    assert learnt.unknown == {"arguments were not recorded (policy: audit.payloads)": 2}
