"""deepagents under the monitor: its sub-agents are governed, and what cannot be governed is refused.

deepagents builds sub-agents of its own, and the one it adds by itself (`general-purpose`) and any spec without a
`middleware` run their tools past the middleware of the agent that started them (measured). So every spec gets governed
tools, a governed model and the session's middleware, the automatic one is replaced by a governed spec of the same
name, and a compiled or remote sub-agent, into which nothing can be put, is refused, as are backends that reach the
host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from agent_os.adapters.langchain.middleware import AgentOSMiddleware
from agent_os.adapters.langchain.model import govern_model
from agent_os.adapters.langchain.session import Session
from agent_os.adapters.langchain.tools import wrap_tools
from agent_os.core.errors import ActionError, MissingPartError
from agent_os.core.manifest import ToolSpec

GENERAL_PURPOSE: Final = "general-purpose"
_IN_MEMORY: Final = ("StateBackend", "StoreBackend")
"""Backends that keep files inside the graph's own state: nothing of the host is reached."""


def govern_subagents(
    session: Session, subagents: Iterable[Mapping[str, Any]], *, tools: Sequence[Any], model: Any = None
) -> list[dict[str, Any]]:
    """Return sub-agent specs of deepagents with governed tools, models and middleware.

    `tools` are the (governed) tools of a spec that names none; a `general-purpose` spec is added where none is given.
    Raises ActionError for compiled and remote sub-agents, into which no guard can be put.
    """
    governed = []
    for given in subagents:
        spec = dict(given)
        name = str(spec.get("name", ""))
        if "runnable" in spec or "graph_id" in spec or "url" in spec:
            raise ActionError(
                "is compiled or remote, so its tools would run past the guard",
                field=f"subagents.{name}",
                hint="give its name, description, system_prompt and tools instead",
            )
        if spec.get("mode") == "fork":
            raise ActionError("forks its parent's conversation", field=f"subagents.{name}.mode")
        own = spec.get("tools")
        spec["tools"] = list(tools) if own is None else wrap_tools(session, own)
        if spec.get("model") is not None or model is not None:
            spec["model"] = govern_model(session, spec.get("model") or model)
        spec["middleware"] = [*spec.get("middleware", []), AgentOSMiddleware(session, prompt=False)]
        governed.append(spec)
    if not any(spec["name"] == GENERAL_PURPOSE for spec in governed):
        spec = {
            "name": GENERAL_PURPOSE,
            "description": "An agent for tasks of several steps, with the same tools and the same policy.",
            "system_prompt": "Carry out the task you are given with your tools and report what you found.",
            "tools": list(tools),
            "middleware": [AgentOSMiddleware(session, prompt=False)],
        }
        if model is not None:
            spec["model"] = govern_model(session, model)
        governed.append(spec)
    return governed


def governed_deep_agent(
    session: Session,
    model: Any,
    tools: Iterable[Any] = (),
    *,
    subagents: Iterable[Mapping[str, Any]] = (),
    manifests: Iterable[ToolSpec] = (),
    middleware: Sequence[Any] = (),
    backend: Any = None,
    **options: Any,
) -> Any:
    """Return a deep agent whose model, tools and sub-agents all go through the session's door.

    Raises MissingPartError without deepagents, ActionError for a backend that reaches the host's files or shell (the
    session's own tools do that) and for sub-agents that cannot be governed.
    """
    try:
        from deepagents import create_deep_agent  # noqa: PLC0415
    except ImportError:
        raise MissingPartError("deepagents", "deepagents") from None
    if backend is not None and type(backend).__name__ not in _IN_MEMORY:
        raise ActionError(
            "reaches files or programs of the host past the guard",
            field="backend",
            hint="leave it out and pass os.tools(), which are judged call by call",
        )
    inner = govern_model(session, model)
    governed = wrap_tools(session, tools, manifests)
    create: Any = create_deep_agent
    return create(
        model=inner,
        tools=governed,
        subagents=govern_subagents(session, subagents, tools=governed, model=inner),
        middleware=[*middleware, AgentOSMiddleware(session)],
        backend=backend,
        **options,
    )
