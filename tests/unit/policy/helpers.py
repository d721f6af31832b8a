"""Short forms for tests of policies: a policy from text, a decision from a wire form."""

from __future__ import annotations

from typing import Any

from agent_os.core.action import Action
from agent_os.core.decision import Decision
from agent_os.core.facts import DEFAULTS
from agent_os.policy import Policy, decide
from agent_os.policy.workbench.facts import parse_facts


def judge(policy: Policy | str, action: dict[str, Any], facts: dict[str, Any] | None = None) -> Decision:
    """Return the decision on a wire form under a policy or policy text, with facts as tests write them."""
    if isinstance(policy, str):
        policy = Policy.parse(policy)
    parsed = Action.parse(action)
    return decide(policy, parsed, parse_facts(facts or {}, DEFAULTS).with_stated(parsed.stated))


def verdict(policy: Policy | str, action: dict[str, Any], facts: dict[str, Any] | None = None) -> str:
    """Return the verdict alone."""
    return judge(policy, action, facts).verdict.value


def call(tool: str, server: str = "", **args: Any) -> dict[str, Any]:
    """Return the wire form of a tool call."""
    wire: dict[str, Any] = {"kind": "tool.call", "tool": tool, "args": args}
    return {**wire, "server": server} if server else wire
