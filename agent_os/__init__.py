"""Agent OS: an operating system for AI agents inside an enterprise.

One policy document, one reference monitor (`Monitor.perform`), enforced in process, at the wire and in the kernel.
Names are imported on first use, so that `import agent_os` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "Action": "agent_os.core.action",
    "ActionError": "agent_os.core.errors",
    "AgentOS": "agent_os.runtime",
    "AgentOSError": "agent_os.core.errors",
    "Answer": "agent_os.core.approval",
    "Decision": "agent_os.core.decision",
    "DeniedError": "agent_os.core.errors",
    "EffectError": "agent_os.core.errors",
    "EnforcementError": "agent_os.core.errors",
    "Facts": "agent_os.core.facts",
    "IntegrityError": "agent_os.core.errors",
    "Label": "agent_os.core.label",
    "Labeled": "agent_os.core.label",
    "MissingPartError": "agent_os.core.errors",
    "Outcome": "agent_os.core.ports",
    "Pending": "agent_os.core.ports",
    "Policy": "agent_os.policy",
    "PolicyError": "agent_os.core.errors",
    "Principal": "agent_os.core.principal",
    "ToolSpec": "agent_os.core.manifest",
    "Verdict": "agent_os.core.decision",
    "decide": "agent_os.policy",
    "load_policy": "agent_os.runtime",
}
__all__ = ["__version__", *sorted(_LAZY)]  # noqa: PLE0604

if TYPE_CHECKING:
    from agent_os.core.action import Action as Action
    from agent_os.core.approval import Answer as Answer
    from agent_os.core.decision import Decision as Decision
    from agent_os.core.decision import Verdict as Verdict
    from agent_os.core.errors import ActionError as ActionError
    from agent_os.core.errors import AgentOSError as AgentOSError
    from agent_os.core.errors import DeniedError as DeniedError
    from agent_os.core.errors import EffectError as EffectError
    from agent_os.core.errors import EnforcementError as EnforcementError
    from agent_os.core.errors import IntegrityError as IntegrityError
    from agent_os.core.errors import MissingPartError as MissingPartError
    from agent_os.core.errors import PolicyError as PolicyError
    from agent_os.core.facts import Facts as Facts
    from agent_os.core.label import Label as Label
    from agent_os.core.label import Labeled as Labeled
    from agent_os.core.manifest import ToolSpec as ToolSpec
    from agent_os.core.ports import Outcome as Outcome
    from agent_os.core.ports import Pending as Pending
    from agent_os.core.principal import Principal as Principal
    from agent_os.policy import Policy as Policy
    from agent_os.policy import decide as decide
    from agent_os.runtime import AgentOS as AgentOS
    from agent_os.runtime import load_policy as load_policy


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'agent_os' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value
