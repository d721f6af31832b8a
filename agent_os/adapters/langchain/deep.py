"""deepagents under the monitor: its sub-agents are governed, and what cannot be governed is refused.

deepagents builds sub-agents of its own, and the one it adds by itself (`general-purpose`) and any spec without a
`middleware` run their tools past the middleware of the agent that started them (measured). So every spec gets tools, a model
and a middleware of a session narrowed to the role of its name (`agents.roles`), the automatic one is replaced by such a spec,
and a compiled or remote sub-agent, into which nothing can be put, is refused, as are backends that reach the host. In a
durable task a sub-agent is a task of its own: the middleware starts it in the place of deepagents' own, and the same program
builds, in the child, the agent of its spec. Threat: a sub-agent that does what its role may not, because its parent may (law 11).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from agent_os.adapters.langchain.deep_tools import delegation_of
from agent_os.adapters.langchain.middleware import AgentOSMiddleware
from agent_os.adapters.langchain.model import GovernedModel, govern_model
from agent_os.adapters.langchain.session import Session
from agent_os.adapters.langchain.tools import GovernedTool, builtin_tools, wrap_tools
from agent_os.core.errors import ActionError, MissingPartError
from agent_os.core.manifest import ToolSpec

GENERAL_PURPOSE: Final = "general-purpose"
_IN_MEMORY: Final = ("StateBackend", "StoreBackend")
"""Backends that keep files inside the graph's own state: nothing of the host is reached."""


def govern_subagents(
    session: Session, subagents: Iterable[Mapping[str, Any]], *, tools: Sequence[Any], model: Any = None
) -> list[dict[str, Any]]:
    """Return sub-agent specs of deepagents, each governed with the rights of the role of its name in the policy's `agents:`.

    `tools` are the (governed) tools of a spec that names none; a `general-purpose` spec is added where none is given. Tools
    that a role does not hold are left out; in a durable task they are given by the child's own run. Raises ActionError for
    compiled and remote sub-agents, into which no guard can be put.
    """
    specs = [_refused_unless_open(dict(given)) for given in subagents]
    if not any(spec["name"] == GENERAL_PURPOSE for spec in specs):
        specs.append(
            {
                "name": GENERAL_PURPOSE,
                "description": "An agent for tasks of several steps, with a part of the same tools.",
                "system_prompt": "Carry out the task you are given with your tools and report what you found.",
            }
        )
    return [_governed(session, spec, tools, model) for spec in specs]


def _refused_unless_open(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a spec into which a guard can be put. Raises ActionError."""
    name = spec.get("name")
    if not isinstance(name, str) or not name:
        raise ActionError("needs a name, which is its role in the policy", field="subagents.name")
    if "runnable" in spec or "graph_id" in spec or "url" in spec:
        raise ActionError(
            "is compiled or remote, so its tools would run past the guard",
            field=f"subagents.{name}",
            hint="give its name, description, system_prompt and tools instead",
        )
    if spec.get("mode") == "fork":
        raise ActionError("forks its parent's conversation", field=f"subagents.{name}.mode")
    return spec


def _governed(session: Session, spec: dict[str, Any], tools: Sequence[Any], model: Any) -> dict[str, Any]:
    """Return a spec whose tools, model and middleware go through the door of a session narrowed to its role."""
    roles: Any = getattr(session, "roles", None)
    if roles is None and delegation_of(session) is not None:  # named to the model; the middleware starts a task instead
        return {**spec, "tools": [], "model": model, "middleware": [AgentOSMiddleware(session, prompt=False)]}
    if roles is None:
        raise ActionError(
            "cannot be narrowed to its role in this session",
            field=f"subagents.{spec['name']}",
            hint="start sub-agents with the session's spawn, or the tool `delegate`",
        )
    child: Session = roles.of(spec["name"])
    own = spec.get("tools")
    bare = [_bare(tool) for tool in (tools if own is None else own)]
    named = [tool for tool in bare if isinstance(tool, str)]
    offered = wrap_tools(child, [tool for tool in bare if not isinstance(tool, str)])
    offered += builtin_tools(child, named) if named else []
    spec["tools"] = [tool for tool in offered if isinstance(tool, dict) or _holds(child, tool.name)]
    chosen = spec.get("model") or model
    if chosen is not None:
        governed = isinstance(chosen, GovernedModel)
        spec["model"] = chosen.model_copy(update={"session": child}) if governed else govern_model(child, chosen)
    spec["middleware"] = [*spec.get("middleware", []), AgentOSMiddleware(child, prompt=False)]
    return spec


def _bare(tool: Any) -> Any:
    """Return what a session governs anew: the tool inside a governed one; the session's own tools by their name."""
    if isinstance(tool, GovernedTool):
        return tool.name if tool.inner is None else tool.inner
    return tool


def _holds(session: Session, name: str) -> bool:
    held = session.monitor.session.capabilities
    return held is None or any(each.covers("tool.call", name) for each in held)


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

    In a durable task the program that calls this runs for its sub-agents too: where the task has the role of one of
    `subagents`, the agent is that spec's. Invoke it with `ainvoke`. Raises MissingPartError without deepagents, ActionError
    for a backend that reaches the host's files or shell (the session's own tools do that) and for sub-agents that cannot be
    governed.
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
    subagents, role = [dict(each) for each in subagents], getattr(session, "role", "")
    mine = next((spec for spec in subagents if role and spec.get("name") == role), None)
    if mine is not None:
        model, options["system_prompt"] = mine.get("model") or model, mine.get("system_prompt", "")
        tools, middleware = mine.get("tools", tools), [*mine.get("middleware", ()), *middleware]
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
