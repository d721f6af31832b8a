"""deepagents' own tools, told by their code and never by their name alone. Pure.

Threat: a tool of somebody else that takes such a name, to be started as a sub-agent or to be run a second time.
"""

from __future__ import annotations

from typing import Any, Final

from agent_os.adapters.langchain.session import Session

_STATE: Final = ("deepagents.middleware.filesystem", "langchain.agents.middleware.todo")
"""Modules whose tools change the graph's own state: its files, and its list of things to do."""


def delegation_of(session: Session) -> Any:
    """Return what starts sub-agents as tasks, in a session that is a run of one; None elsewhere."""
    return getattr(session, "delegation", None)


def starts_agent(tool: Any) -> bool:
    """Return whether this is the tool that starts a sub-agent."""
    return tool.name == "task" and _module(tool).startswith("deepagents.")


def keeps_state(tool: Any) -> bool:
    """Return whether a tool changes the graph's state and nothing else, so that running it again does no effect again.

    `governed_deep_agent` takes no backend that reaches the host's files; `execute` would be a program of that backend.
    """
    return getattr(tool, "name", "") != "execute" and _module(tool).startswith(_STATE)


def _module(tool: Any) -> str:
    code = getattr(tool, "func", None) or getattr(tool, "coroutine", None)
    return str(getattr(code, "__module__", ""))
