"""LangChain under the monitor: tools, chat models and middleware whose every effect is an Action.

The boundary is in the wrapped objects (`GovernedTool`, `GovernedModel`): a middleware alone is none, because
sub-agents, bare `tool.invoke`, retries, streams and callbacks pass beside it (measured, see docs/adr). The middleware
adds what only it can: it hides forbidden tools, puts tools that nobody wrapped through the door, and asks people.

Imports LangChain on first use. May not import the runtime: a session is handed in (`session.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_os.adapters.langchain.deep import govern_subagents as govern_subagents
    from agent_os.adapters.langchain.deep import governed_deep_agent as governed_deep_agent
    from agent_os.adapters.langchain.delegating import DelegateTool as DelegateTool
    from agent_os.adapters.langchain.middleware import AgentOSMiddleware as AgentOSMiddleware
    from agent_os.adapters.langchain.model import GovernedModel as GovernedModel
    from agent_os.adapters.langchain.model import govern_model as govern_model
    from agent_os.adapters.langchain.scripted import ScriptedModel as ScriptedModel
    from agent_os.adapters.langchain.tools import GovernedTool as GovernedTool
    from agent_os.adapters.langchain.tools import builtin_tools as builtin_tools
    from agent_os.adapters.langchain.tools import wrap_tools as wrap_tools

_LAZY = {
    "AgentOSMiddleware": "middleware",
    "DelegateTool": "delegating",
    "GovernedModel": "model",
    "GovernedTool": "tools",
    "ScriptedModel": "scripted",
    "builtin_tools": "tools",
    "govern_model": "model",
    "govern_subagents": "deep",
    "governed_deep_agent": "deep",
    "wrap_tools": "tools",
}
__all__ = sorted(_LAZY)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'agent_os.adapters.langchain' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(f"agent_os.adapters.langchain.{module}"), name)
