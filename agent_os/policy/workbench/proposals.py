"""The smallest fragment of a policy file that allows a group of like actions. Pure.

Values seen are listed exactly up to MAX_VALUES; past that numbers become a range and paths their common folder, if it
lies below the workspace's root; other texts are left open with a note, because a made-up pattern would be a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agent_os.core.action import (
    Action,
    AgentSpawn,
    MemoryRead,
    MessageSend,
    NetConnect,
    NetRequest,
    ProcessExec,
    SecretUse,
    TaskSchedule,
    ToolCall,
)
from agent_os.core.canonical.addresses import ip_classes
from agent_os.policy.values import kind_of

MAX_VALUES: Final = 8
MAX_PATHS: Final = 6
IDS_MIN: Final = 3
"""Paths that differ in one segment alone which looks like an id: from so many on it is left open."""
_ID: Final = re.compile(
    r"\d+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?=[a-z]*\d)[0-9a-f]{7,64}|[A-Z][A-Z0-9]{1,9}-\d+"
)
"""Numbers, UUIDs, hashes, keys of issues."""
Made = tuple[str, dict[str, Any], str]
"""Key path, fragment, note."""


def group_of(action: Action) -> tuple[str, ...]:
    """Return what actions must share to be covered by one proposal."""
    if isinstance(action, NetRequest):
        return (action.kind, action.host, str(action.port), _program(action))
    if isinstance(action, NetConnect):
        return (action.kind, action.host, str(action.port), _program(action))
    if isinstance(action, ProcessExec):
        return (action.kind, action.target)
    if isinstance(action, ToolCall):
        return (action.kind, action.target)
    if isinstance(action, SecretUse | TaskSchedule | AgentSpawn | MessageSend):
        return (action.kind, action.target)
    return ("fs.change" if action.kind in ("fs.write", "fs.delete") else action.kind,)


def covers(groups: Mapping[tuple[str, ...], Sequence[Any]], group: tuple[str, ...]) -> tuple[str, ...]:
    """Return the group whose proposal covers another one: rules for requests open their connection as well, and less."""
    requests = ("net.request", *group[1:])
    return requests if group[0] == "net.connect" and requests in groups else group


def _program(action: Action) -> str:
    executable = action.stated.get("executable")
    return executable.path if executable is not None else ""


def fragment(actions: Sequence[Action], *, workspace: str) -> Made | None:
    """Return the proposal for a group, or None for kinds that nobody should open by example."""
    make = _MAKERS.get(actions[0].kind)
    return None if make is None else make(actions, workspace)


def _tool(actions: Sequence[Action], workspace: str) -> Made:
    calls = [action for action in actions if isinstance(action, ToolCall)]
    name = _quoted(calls[0].target)
    present = [set(call.args) for call in calls]
    always, notes = set.intersection(*present), []
    conditions: dict[str, Any] = {}
    for argument in sorted(set.union(*present)):
        values = [call.args[argument] for call in calls if argument in call.args]
        condition = _condition(values, workspace)
        if condition is None:
            notes.append(f"{argument} is left open")
            condition = {"present": True}
        if argument not in always:
            condition = [condition if not isinstance(condition, list) else {"in": condition}, {"absent": True}]
        conditions[argument] = condition
    clause: Any = conditions or True
    return f"tools.{name}.allow", {"tools": {name: {"allow": clause}}}, ", ".join(notes)


def _condition(values: Sequence[Any], workspace: str) -> Any:
    """Return the narrowest condition that all values meet, or None."""
    distinct = [value for index, value in enumerate(values) if value not in values[:index]]
    kinds = {kind_of(value) for value in distinct}
    if kinds <= {"string", "number", "boolean", "null"} and len(distinct) <= MAX_VALUES:
        return distinct[0] if len(distinct) == 1 else {"in": distinct}
    if kinds == {"number"}:
        return {"min": min(distinct), "max": max(distinct)}
    if kinds == {"string"}:
        folder = _folder(distinct, workspace)
        return {"under": folder} if folder else None
    if kinds == {"array"}:
        items = [item for value in distinct for item in value]
        inner = _condition(items, workspace) if items else None
        return {"type": "array", "every": inner} if inner is not None else None
    return None


def _folder(values: Sequence[str], workspace: str) -> str:
    """Return the folder all paths share, relative to the workspace where it lies in it; empty if there is none."""
    if not all(re.fullmatch(r"[^\0\n]*[/.][^\0\n]*", value) and "://" not in value for value in values):
        return ""
    absolute = [value if value.startswith("/") else f"{workspace}/{value}" for value in values]
    parts = [path.split("/")[:-1] for path in absolute]
    shared: list[str] = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1 or column[0] == "..":
            break
        shared.append(column[0])
    folder = "/".join(shared)
    if folder.startswith(workspace + "/"):
        return folder[len(workspace) + 1 :] + "/"
    return folder + "/" if folder.count("/") >= 2 and folder != workspace else ""


def _quoted(name: str) -> str:
    """Return a tool's name as a pattern that matches it alone."""
    return re.sub(r"([*?\[{\\])", r"\\\1", name)


def _files(key: str) -> Callable[[Sequence[Action], str], Made]:
    def make(actions: Sequence[Action], workspace: str) -> Made:
        paths = sorted({action.target for action in actions})
        if len(paths) > MAX_PATHS:
            folder = _folder([*paths, paths[0]], workspace)
            if folder:
                return (
                    f"filesystem_policy.{key}",
                    {"filesystem_policy": {key: [folder.rstrip("/")]}},
                    "the folder they share",
                )
        shown = [path[len(workspace) + 1 :] if path.startswith(workspace + "/") else path for path in paths]
        return f"filesystem_policy.{key}", {"filesystem_policy": {key: shown}}, ""

    return make


def _requests(actions: Sequence[Action], _workspace: str) -> Made:
    requests = [action for action in actions if isinstance(action, NetRequest)]
    first = requests[0]
    exact = {(request.method, request.path) for request in requests}
    pairs = sorted(_without_ids(exact))
    note = "segments that look like ids are left open" if len(pairs) < len(exact) else ""
    if len(pairs) > MAX_VALUES:
        pairs = sorted({(method, _parent(path)) for method, path in pairs})
        note = "paths are widened to their folder"
    rules = [{"allow": {"method": method, "path": path}} for method, path in pairs]
    endpoint = {"host": first.host, "port": first.port, "protocol": "rest", "enforcement": "enforce", "rules": rules}
    return _block(actions, endpoint, note)


def _without_ids(seen: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return methods and path globs: of paths that differ in an id alone, one with `*` in its place."""
    alike: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for method, path in seen:
        segments = ["*" if _ID.fullmatch(segment) else _glob_of(segment) for segment in path.split("/")]
        alike.setdefault((method, "/".join(segments)), set()).add((method, path))
    return {
        pair
        for shape, paths in alike.items()
        for pair in ([shape] if len(paths) >= IDS_MIN else [(method, _glob_of(path)) for method, path in paths])
    }


def _glob_of(path: str) -> str:
    return re.sub(r"([*?\[{\\])", r"\\\1", path)


def _parent(path: str) -> str:
    return path[: path.rfind("/") + 1] + "*"


def _connections(actions: Sequence[Action], _workspace: str) -> Made:
    first = actions[0]
    if not isinstance(first, NetConnect):
        raise TypeError(first.kind)
    return _block(actions, {"host": first.host, "port": first.port}, "every byte to this host and port")


def _addresses(actions: Sequence[Action]) -> dict[str, Any]:
    """Return what declares the addresses that a name was seen to lead to, where they are no ordinary public ones."""
    seen = sorted({address for action in actions for address in action.stated.get("resolved_ips") or ()})
    classes = {address: ip_classes(address) for address in seen}
    if not any(classes.values()):
        return {}
    if any("loopback" in found for found in classes.values()):
        return {"local": True}
    return {"allowed_ips": seen}


def _block(actions: Sequence[Action], endpoint: Mapping[str, Any], note: str) -> Made:
    action = actions[0]
    if not isinstance(action, NetConnect):
        raise TypeError(action.kind)
    name = "learnt_" + re.sub(r"[^a-z0-9]+", "_", action.host).strip("_") + f"_{action.port}"
    program = _program(action)
    block: dict[str, Any] = {"endpoints": [{**endpoint, **_addresses(actions)}]}
    if program:
        block["binaries"] = [{"path": program}]
        name += "_" + re.sub(r"[^A-Za-z0-9]+", "_", program.rpartition("/")[2])
    else:
        note = (note + "; " if note else "") + "the program was not recorded: any in the sandbox"
    return f"network_policies.{name}", {"network_policies": {name: block}}, note


def _programs(actions: Sequence[Action], _workspace: str) -> Made:
    starts = [action for action in actions if isinstance(action, ProcessExec)]
    lines = sorted({start.argv[1:] for start in starts})
    binary = starts[0].target
    note = ""
    if len(lines) > MAX_VALUES:
        heads = {line[:1] for line in lines}
        note = "arguments are widened after the first"
        entries = [{"binary": binary, "args": [*(_glob_of(item) for item in head), "**"]} for head in sorted(heads)]
    else:
        entries = [{"binary": binary, "args": [_glob_of(item) for item in line]} for line in lines]
    return "process.allow", {"process": {"allow": entries}}, note


def _secret(actions: Sequence[Action], _workspace: str) -> Made:
    uses = [action for action in actions if isinstance(action, SecretUse)]
    hosts = sorted({use.destination for use in uses if use.destination})
    return f"secrets.{uses[0].name}", {"secrets": {uses[0].name: {"destinations": hosts}}}, ""


def _memory(key: str) -> Callable[[Sequence[Action], str], Made]:
    def make(actions: Sequence[Action], _workspace: str) -> Made:
        keys = sorted({_glob_of(action.key) for action in actions if isinstance(action, MemoryRead)})
        return f"memory.{key}", {"memory": {key: keys}}, ""

    return make


def _messages(actions: Sequence[Action], _workspace: str) -> Made:
    messages = [action for action in actions if isinstance(action, MessageSend)]
    to = sorted({_glob_of(recipient) for message in messages for recipient in message.to})
    return "messages.allow", {"messages": {"allow": [{"channel": messages[0].channel, "to": to}]}}, ""


def _schedule(actions: Sequence[Action], _workspace: str) -> Made:
    schedules = [action for action in actions if isinstance(action, TaskSchedule)]
    entry: dict[str, Any] = {"name": _glob_of(schedules[0].name)}
    entry["operations"] = sorted({schedule.operation for schedule in schedules})
    roles = sorted({schedule.role for schedule in schedules if schedule.role})
    if roles:
        entry["roles"] = roles
    return "schedules.allow", {"schedules": {"allow": [entry]}}, ""


_MAKERS: Final[Mapping[str, Callable[[Sequence[Action], str], Made]]] = {
    "tool.call": _tool,
    "fs.read": _files("read_only"),
    "fs.list": _files("read_only"),
    "fs.write": _files("read_write"),
    "fs.delete": _files("read_write"),
    "net.request": _requests,
    "net.connect": _connections,
    "process.exec": _programs,
    "secret.use": _secret,
    "memory.read": _memory("read"),
    "memory.write": _memory("write"),
    "message.send": _messages,
    "task.schedule": _schedule,
}
"""Models and sub-agents are not opened by example: their price and their rights are a person's to state."""
