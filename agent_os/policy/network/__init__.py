"""Network policy: compiled matchers over connections and requests, and the readers of what they match. Pure.

`compile_network(parts)` gives the section that `decide` asks, over a file and the packs it extends (deny rules hold
across all of them); `check_network` gives the findings of a file, `network_section` a section without a file around it.
Readers of bodies (JSON-RPC, MCP, GraphQL) live here because rules need them; `guards.egress` offers them to whoever
holds bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent_os.policy.network.checks import Finding, check_network
from agent_os.policy.network.section import NetworkSection
from agent_os.policy.schema.network import NetworkPolicies

if TYPE_CHECKING:
    from agent_os.policy.rule import Context

__all__ = ["Finding", "NetworkSection", "check_network", "compile_network", "network_section"]


def compile_network(parts: Sequence[tuple[NetworkPolicies, Context]]) -> NetworkSection:
    """Return the compiled section of the files of one layer.

    Errors are recorded as problems of the file they stand in. Conflicts between endpoints and warnings are not: they
    are for `check_network` and `policy check` (a conflict has a decision all the same: the strictest inspection holds).
    """
    section = NetworkSection(semantics=parts[0][1].semantics if parts else "strict")
    for policies, context in parts:
        middlewares = getattr(context.file, "network_middlewares", None)
        for finding in check_network(policies, middlewares, semantics=context.semantics):
            if finding.severity == "error":
                context.problem(finding.path, finding.message, finding.hint, finding.code)
        section.add(policies, rule=context.rule, prefix=f"{context.pack}/" if context.pack else "")
    return section


def network_section(policies: NetworkPolicies, *, semantics: str = "strict") -> NetworkSection:
    """Return the compiled section of one mapping of policies that has been checked."""
    section = NetworkSection(semantics=semantics)
    section.add(policies)
    return section
