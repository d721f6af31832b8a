"""What exactly is judged: the canonical action, acting for the session, with its tool's identity and real paths.

Asks the registry and the links only. Threats: an action that names its own principal or its own tool digest, a path whose
symbolic link leads elsewhere than its spelling says, two spellings of one path among a tool's arguments (law 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent_os.core import canonical
from agent_os.core.action import Action, FsDelete, FsList, FsRead, FsWrite, ToolCall
from agent_os.core.decision import Decision
from agent_os.core.ports import Links
from agent_os.monitor.gather import Session
from agent_os.monitor.judging import refusal
from agent_os.monitor.wiring import Ports
from agent_os.policy import Policy


def canonical_action(given: Action | Mapping[str, Any], session: Session, links: Links | None) -> Action:
    """Return the action as it is judged; raises ActionError for a malformed one."""
    if not isinstance(given, Action):
        given = Action.parse(given, workspace=session.workspace, principal=session.principal)
    elif given.principal != session.principal:
        given = given.rewritten(principal=session.principal)  # who acts is the session's to say, never the action's
    if session.flow is not None:
        given = session.flow.resolve(given)
    if links is not None and isinstance(given, FsRead | FsWrite | FsList | FsDelete):
        resolved = links.resolve(given.path)
        if resolved != given.path:
            given = given.rewritten(path=resolved)
    return given


def unknown(action: Action, ports: Ports, policy: Policy) -> Decision:
    """Return the denial of a call that names no tool of the registry; of a server whose tools were taken out, with the reason."""
    denial = refusal(policy, "runtime.tool-not-registered", "the registry knows no tool of this name")
    told = getattr(ports.registry, "absent", None)
    why, advice = told(action.server) if told is not None and isinstance(action, ToolCall) else ("", "")
    return replace(denial, reason=why, advice=advice) if why else denial


def identified(action: Action, session: Session, ports: Ports) -> Action | None:
    """Give a tool call its digest from the registry and resolve its path arguments; None: no such tool."""
    if not isinstance(action, ToolCall):
        return action.rewritten(tool_digest="") if action.tool_digest else action
    tool = ports.registry.find(action.tool, action.server)
    if tool is None:
        return None
    args: dict[str, Any] | None = None
    for name, argument in tool.spec.arguments.items():
        if argument.type == "path" and action.args.get(name):
            places = _places(action.args[name], f"args.{name}", session, ports.links)
            if places is not action.args[name]:
                args = {**(args or action.args), name: places}
    if args is None and action.tool_digest == tool.digest:
        return action
    return ToolCall(
        principal=action.principal,
        tool_digest=tool.digest,
        call_id=action.call_id,
        stated=action.stated,
        tool=action.tool,
        args=action.args if args is None else args,
        server=action.server,
    )


def _places(value: Any, field: str, session: Session, links: Links | None) -> Any:
    """Return the path, or every path of a list, in canonical form and where its links lead; what is none stays as it is."""
    if isinstance(value, list):
        return [_places(item, field, session, links) for item in value]
    if not isinstance(value, str) or not value:
        return value
    path = canonical.path(value, root=session.workspace, field=field)
    return path if links is None else links.resolve(path)
