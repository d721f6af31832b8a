"""The composition root: the only floor that imports effects; reads policy files, opens the state, wires the monitor.

Names are imported on first use, so that a verb that needs one corner of the runtime does not pay for all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_os.runtime.policies import load_policy as load_policy
    from agent_os.runtime.sdk import AgentOS as AgentOS

__all__ = ["AgentOS", "load_policy"]


def __getattr__(name: str) -> Any:
    if name == "AgentOS":
        from agent_os.runtime.sdk import AgentOS  # noqa: PLC0415

        return AgentOS
    if name == "load_policy":
        from agent_os.runtime.policies import load_policy  # noqa: PLC0415

        return load_policy
    raise AttributeError(f"module 'agent_os.runtime' has no attribute {name!r}")
