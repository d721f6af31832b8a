"""Network policy: compiled matchers over connections and requests, and the readers of what they match. Pure.

`compile_network(policies, semantics=…)` gives the section that `decide` asks; `check_network` gives the findings of a
file. Readers of bodies (JSON-RPC, MCP, GraphQL) live here because rules need them; `guards.egress` offers them to
whoever holds bytes.
"""

from agent_os.policy.network.checks import Finding, check_network
from agent_os.policy.network.section import NetworkSection, compile_network

__all__ = ["Finding", "NetworkSection", "check_network", "compile_network"]
