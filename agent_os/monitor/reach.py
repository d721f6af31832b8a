"""What a tool server's call reaches for, held against the rights of the sub-agent that makes it. Pure.

A sub-agent holds the tool; that says nothing about the file or host it names in the arguments. The server's sandbox has no
more than the agent holds; here the call is denied before anything starts, with the argument named. Threat: a sub-agent that
reaches through a server what it may not reach itself (law 11), and an agent that writes the rules it runs under, in its own
workspace, for the next run or reload.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.action import Action, FsDelete, FsWrite, ToolCall
from agent_os.core.errors import ActionError
from agent_os.core.manifest import ToolSpec
from agent_os.core.principal import Capability

FILES: Final = ("fs.read", "fs.list", "fs.write", "fs.delete")
NETWORK: Final = ("net.connect",)


def beyond(spec: ToolSpec, action: ToolCall, held: Sequence[Capability] | None, workspace: str) -> str:
    """Return the first argument of a tool server's call that names a path or host its caller holds no right to.

    Empty where there is none, for the session itself (`held` None), and for tools of this process: their inner effects go
    through the caller's own door.
    """
    if held is None or not spec.sandboxed:
        return ""
    for name, argument in spec.arguments.items():
        for value in _leaves(action.args.get(name)):
            if argument.type == "path" and not _opens(held, value, workspace):
                return name
            if argument.type in ("url", "host") and not _reaches(held, value, argument.type):
                return name
    return ""


def changes_rules(action: Action, files: Collection[str]) -> bool:
    """Whether an action writes or removes what the policy in force was read from (a file, or what lies in a folder of it)."""
    if not isinstance(action, FsWrite | FsDelete) or not files:
        return False
    return action.path in files or any(action.path.startswith(file + "/") for file in files)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)


def _holds(held: Sequence[Capability], verbs: Sequence[str], target: str) -> bool:
    return any(one.covers(verb, target) for one in held for verb in verbs)


def _opens(held: Sequence[Capability], value: str, workspace: str) -> bool:
    try:
        path = canonical.path(value, root=workspace)
    except ActionError:
        return False  # what cannot be read is not held
    return _holds(held, FILES, path)


def _reaches(held: Sequence[Capability], value: str, kind: str) -> bool:
    try:
        if kind == "url":
            parts = canonical.url(value)
            return _holds(held, NETWORK, f"{parts.host}:{parts.port}")
        host, port = canonical.split_authority(value, field="host")
    except ActionError:
        return False
    if port:
        return _holds(held, NETWORK, f"{host}:{port}")
    return any(_any_port(one, host) for one in held)


def _any_port(one: Capability, host: str) -> bool:
    """A host without a port is reached at a port the server chooses: the guard judges that one."""
    if one.verb not in ("*", *NETWORK):
        return False
    return one.scope is None or any(entry.rpartition(":")[0] == host for entry in one.scope)
