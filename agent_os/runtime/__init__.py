"""The composition root: the only floor that imports effects; reads policy files, opens the state, wires the monitor."""

from agent_os.runtime.policies import load_policy
from agent_os.runtime.sdk import AgentOS

__all__ = ["AgentOS", "load_policy"]
