"""Where `policy/network/` meets the wiring: the network sections of every file of a layer as one. Pure.

All files are seen together, because deny rules hold across entries and one inspected entry makes all traffic to its
host and port inspected. A pack's entry `pypi` is called `pack:NAME/pypi`, so both are kept where names collide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_os.core.action import Action
from agent_os.core.decision import Verdict
from agent_os.core.errors import Problem
from agent_os.core.facts import Facts
from agent_os.policy.network import NetworkSection, check_network
from agent_os.policy.network.section import compile_network
from agent_os.policy.rule import Context, Match, Section

if TYPE_CHECKING:
    from agent_os.policy.schema.network import NetworkPolicies


def compile_netsection(parts: Sequence[tuple[NetworkPolicies, Context]]) -> Section:
    """Return the compiled section; findings of severity `error` are recorded as problems."""
    merged: NetworkPolicies = {}
    layer = parts[0][1].prefix
    if parts[0][1].pack:
        layer = layer.removesuffix(parts[0][1].pack + "/")
    for policies, context in parts:
        semantics = context.semantics
        for finding in check_network(policies, context.file.network_middlewares, semantics=semantics):
            if finding.severity == "error":
                said, place = f"{finding.path}: {finding.message}", context.document.place(finding.path)
                context.problems.append(Problem(said, place, finding.hint, finding.code))
        front = context.pack + "/" if context.pack else ""
        for name, policy in policies.items():
            merged[front + name] = policy
            for number, endpoint in enumerate(policy.endpoints):
                path = f"network_policies.{name}.endpoints[{number}]"
                rule = f"{layer}network_policies.{front}{name}.endpoints[{number}]"
                context.declare(rule, path, Verdict.ALLOW)
                if endpoint.rate is not None:
                    context.declare(f"{rule}.rate", f"{path}.rate")
                if endpoint.deny_rules:
                    context.declare(f"{rule}.deny_rules", f"{path}.deny_rules", Verdict.DENY)
    if parts[0][1].problems:
        merged = {}  # what is malformed is not compiled: loading fails with every problem
    section = compile_network(merged, semantics=parts[0][1].semantics)
    section.layer = layer
    return PrefixedSection(section, layer) if layer else section


class PrefixedSection:
    """A network section of one of several layers: its rule ids carry the layer's name."""

    def __init__(self, inner: NetworkSection, prefix: str) -> None:
        self.inner, self._prefix = inner, prefix
        self.name, self.kinds = inner.name, inner.kinds

    def judge(self, action: Action, facts: Facts) -> Sequence[Match]:
        prefix = self._prefix
        return [replace(match, rule=prefix + match.rule) for match in self.inner.judge(action, facts)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
