"""Every kind of action seen as a call of a tool with a manifest, so that one judge serves them all. Pure data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from agent_os.core.action import Action, ToolCall
from agent_os.core.manifest import Argument, ArgumentType, Effect, Result, Role, ToolSpec


def _arguments(**roles: tuple[Role, ArgumentType]) -> dict[str, Argument]:
    return {name: Argument(role=role, type=kind) for name, (role, kind) in roles.items()}


_A, _P, _S = Role.AUTHORITY, Role.PAYLOAD, Role.SELECTOR
_WRITE: Final = ("write", "create", "save", "update", "edit", "make", "add", "generate", "fix", "change", "append")
_FILE: Final = ("file", "document", "report", "code", "folder", "script", "note", "list")
_LIST: Final = {
    "$[*]": Result(),
    "$[*].size": Result(integrity="trusted"),
    "$[*].modified": Result(integrity="trusted"),
}

SPECS: Final[Mapping[str, ToolSpec]] = {
    spec.name: spec
    for spec in (
        ToolSpec(name="fs.read", effect=Effect.READ, arguments=_arguments(path=(_S, "path"))),
        ToolSpec(name="fs.list", effect=Effect.READ, arguments=_arguments(path=(_S, "path")), results=_LIST),
        ToolSpec(
            name="fs.write", effect=Effect.WRITE_OWN, verbs=_WRITE, objects=_FILE,
            arguments=_arguments(path=(_A, "path"), size=(_P, "number"), content_digest=(_P, "any")),
        ),
        ToolSpec(
            name="fs.delete", effect=Effect.WRITE_OWN, verbs=("delete", "remove", "clean"), objects=_FILE,
            arguments=_arguments(path=(_A, "path")),
        ),
        ToolSpec(
            name="net.request", effect=Effect.SEND, verbs=("send", "post", "submit", "upload", "call"),
            objects=("web", "website", "api", "url", "request"),
            arguments=_arguments(url=(_A, "url"), query=(_A, "text"), body=(_P, "text"), headers=(_P, "text")),
        ),
        ToolSpec(name="net.fetch", effect=Effect.READ, arguments=_arguments(url=(_A, "url"), query=(_A, "text"))),
        ToolSpec(name="net.connect", effect=Effect.READ, arguments=_arguments(url=(_A, "url"))),
        ToolSpec(
            name="message.send", effect=Effect.SEND, verbs=("send", "message", "tell"), objects=("message",),
            arguments=_arguments(to=(_A, "name"), channel=(_S, "name"), body=(_P, "text")),
        ),
        ToolSpec(
            name="process.exec", effect=Effect.EXECUTE, verbs=("run", "execute", "build", "test", "install"),
            objects=("command", "program", "script", "code", "test"),
            arguments=_arguments(argv=(_A, "code"), binary_path=(_S, "path"), cwd=(_S, "path"), env=(_A, "code")),
        ),
        ToolSpec(
            name="task.schedule", effect=Effect.EXECUTE, verbs=("schedule", "create", "add", "set"),
            objects=("schedule", "task", "job", "reminder"),
            arguments=_arguments(
                name=(_P, "name"), when=(_P, "date"), task=(_A, "text"), given=(_A, "any"), role=(_S, "name"),
                operation=(_S, "name"),
            ),
        ),
        ToolSpec(
            name="secret.use", effect=Effect.READ,
            arguments=_arguments(name=(_S, "name"), destination=(_A, "host")),
        ),
        ToolSpec(name="memory.read", effect=Effect.READ, arguments=_arguments(key=(_S, "name"))),
        ToolSpec(
            name="memory.write", effect=Effect.WRITE_OWN, verbs=("remember", "save", "store", "note", "write", "memorize"),
            objects=("memory",), arguments=_arguments(key=(_P, "name"), value=(_P, "text")),
        ),
        ToolSpec(
            name="agent.spawn", effect=Effect.READ,
            arguments=_arguments(
                role=(_S, "name"), task=(_P, "text"), capabilities=(_S, "any"), budgets=(_S, "number")
            ),
        ),
        ToolSpec(name="model.call", effect=Effect.READ, arguments=_arguments(messages=(_P, "text"))),
    )
}  # fmt: skip
"""Spawning and model calls carry text onwards; what becomes of it is judged in the child and on its way out."""

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def call_of(action: Action, spec_of: Callable[[str], ToolSpec]) -> tuple[str, Mapping[str, Any], ToolSpec]:
    """Return the tool name, the arguments and the semantics under which an action is judged."""
    if isinstance(action, ToolCall):
        return action.target, action.args, _of_method(spec_of(action.target), action.args)
    args = dict(action.arguments)
    kind = action.kind
    if kind in ("net.request", "net.connect"):
        host, port = str(args.get("host", "")), args.get("port", 443)
        default = {"https": 443, "http": 80}.get(str(args.get("scheme", "https")), 443)
        url = f"{args.get('scheme', 'https')}://{host}" + ("" if port == default else f":{port}")
        path = str(args.get("path", ""))
        url += path if path != "/" else ""
        safe = kind == "net.connect" or args.get("method") in _SAFE_METHODS
        kind = "net.connect" if kind == "net.connect" else "net.fetch" if safe else "net.request"
        args = {"url": url, "query": args.get("query"), "body": args.get("body"), "headers": args.get("headers")}
        if kind != "net.request":
            args = {"url": url, "query": args["query"]} if kind == "net.fetch" else {"url": url}
    if kind == "model.call":
        args = {}
    return kind, args, SPECS[kind]


def _of_method(spec: ToolSpec, args: Mapping[str, Any]) -> ToolSpec:
    """Return a request tool's semantics for the method called: fetching reads, anything else sends."""
    if spec.effect is not Effect.SEND or "method" not in spec.arguments or args.get("body"):
        return spec
    safe = str(args.get("method", "GET")).upper() in _SAFE_METHODS
    return spec.model_copy(update={"effect": Effect.READ}) if safe else spec


def source_of(tool: str, args: Mapping[str, Any]) -> str:
    """Return how the origin of a result is named: `tool:<name>`, `file:<path>`, `host:<name>`, `memory:<key>`."""
    if tool.startswith("fs."):
        return f"file:{args.get('path', '')}"
    if tool.startswith("net."):
        return "host:" + str(args.get("url", "")).split("//", 1)[-1].split("/", 1)[0]
    if tool.startswith("memory."):
        return f"memory:{args.get('key', '')}"
    return f"tool:{tool}"
