"""The built-in tools that reach beyond files: HTTP requests and programs.

Pure but for the door. Threats: a redirect to a host nobody allowed (each hop is a `net.request` of its own, judged
before it is sent); credentials that follow a redirect to another origin; a program started through a shell (there is
none: argv only, and only where the sandbox carries out `process.exec`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urljoin, urlsplit

from agent_os.agents.tool_door import BuiltinTool, ToolDoor, performed
from agent_os.core import canonical
from agent_os.core.carried import content_digest
from agent_os.core.errors import ActionError, EffectError
from agent_os.core.manifest import Argument, Effect, Result, Role, ToolSpec

REDIRECTS_MAX: Final = 5
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_PORTS: Final = {"http": 80, "https": 443}
_SENSITIVE: Final = frozenset({"authorization", "cookie", "x-api-key", "api-key", "proxy-authorization"})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


def parse_url(url: str, *, field: str = "url") -> dict[str, Any]:
    """Return the parts of an http(s) URL as arguments of a `net.request`: scheme, host, port, path and query.

    Raises ActionError for other schemes, for user information, for control characters and backslashes (browsers and
    servers read them differently; WHATWG URL, section 4.4).
    """
    if any(char <= " " or char in "\\\x7f" for char in url):
        raise ActionError("holds a space, a control character or a backslash", field=field, hint="percent-encode it")
    parts = urlsplit(url)
    if parts.scheme.lower() not in _PORTS:
        raise ActionError("must begin with https:// or http://", field=field)
    if "@" in parts.netloc:
        raise ActionError("holds user information", field=field, hint="use a secret bound to the host")
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ActionError("has a malformed port", field=field) from None
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        query.setdefault(name, []).append(value)
    return {
        "scheme": parts.scheme.lower(),
        "host": canonical.host(host, field=f"{field}.host"),
        "port": _PORTS[parts.scheme.lower()] if port is None else port,
        "path": parts.path or "/",
        "query": query,
    }


async def _http_request(door: ToolDoor, args: Mapping[str, Any]) -> Any:
    url, method = args["url"], args.get("method", "GET")
    headers = {str(name).lower(): value for name, value in args.get("headers", {}).items()}
    body = args.get("body")
    if body is not None and not isinstance(body, str):
        headers.setdefault("content-type", "application/json")
    hops: list[str] = []
    for _ in range(REDIRECTS_MAX + 1):
        where = parse_url(url)
        response = await _one_request(door, where, method, headers, body)
        target = response["headers"].get("location") if response["status"] in _REDIRECTS else None
        if target is None or not args.get("follow_redirects", True):
            return {**response, "redirects": hops}
        following = urljoin(url, target)
        there = parse_url(following, field="location")
        if where["scheme"] == "https" and there["scheme"] == "http":
            raise EffectError("a redirect leads from https to http: not followed")
        if any(where[part] != there[part] for part in ("scheme", "host", "port")):
            headers = {name: value for name, value in headers.items() if name not in _SENSITIVE}
        if response["status"] == 303 or (response["status"] in (301, 302) and method == "POST"):
            method, body = "HEAD" if method == "HEAD" else "GET", None
            headers = {name: value for name, value in headers.items() if not name.startswith("content-")}
        hops.append(following)
        url = following
    raise EffectError(f"more than {REDIRECTS_MAX} redirects")


async def _one_request(
    door: ToolDoor, where: Mapping[str, Any], method: str, headers: Mapping[str, str], body: Any
) -> dict[str, Any]:
    wire: dict[str, Any] = {"kind": "net.request", **where, "method": method, "headers": dict(headers)}
    if body is not None:
        content = body.encode("utf-8", "strict") if isinstance(body, str) else canonical.json_bytes(body)
        wire.update(body=body, size=len(content), body_digest=content_digest(content))
    value = await performed(door, wire)
    return _readable(value)


def _readable(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a response as plain JSON: text where it is UTF-8, parsed where it says it is JSON, else base64."""
    shown: dict[str, Any] = {
        "status": value["status"],
        "headers": value["headers"],
        "truncated": value["truncated"],
    }
    content: bytes = value["content"]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return {**shown, "base64": base64.b64encode(content).decode()}
    if "json" in value["headers"].get("content-type", "") and not value["truncated"]:
        try:
            return {**shown, "json": canonical.json_value(json.loads(text))}
        except (ValueError, RecursionError, ActionError):
            pass
    return {**shown, "text": text}


async def _run_command(door: ToolDoor, args: Mapping[str, Any]) -> Any:
    wire: dict[str, Any] = {"kind": "process.exec", "argv": args["argv"]}
    if "cwd" in args:
        wire["cwd"] = args["cwd"]
    return await performed(door, wire)


WORLD_TOOLS: Final[tuple[BuiltinTool, ...]] = (
    BuiltinTool(
        ToolSpec(
            name="http_request",
            description="Send an HTTP request. Redirects are followed, each one judged by the policy.",
            effect=Effect.SEND,
            arguments={
                "url": Argument(role=Role.AUTHORITY, type="url"),
                "method": Argument(role=Role.AUTHORITY),
                "headers": Argument(role=Role.AUTHORITY),
                "body": Argument(role=Role.PAYLOAD),
                "follow_redirects": Argument(role=Role.SELECTOR),
            },
            results={"$": Result(integrity="untrusted")},
            input_schema={
                "type": "object",
                "properties": {
                    "url": {"type": "string", "minLength": 1, "maxLength": 8192},
                    "method": {"enum": list(METHODS)},
                    "headers": {"type": "object", "additionalProperties": {"type": "string"}},
                    "body": {"description": "text, or an object that is sent as JSON"},
                    "follow_redirects": {"type": "boolean"},
                },
                "required": ["url"],
                "additionalProperties": False,
            },
            output_bytes_max=16_000_000,
        ),
        _http_request,
    ),
    BuiltinTool(
        ToolSpec(
            name="run_command",
            description="Run a program in the sandbox. `argv` is the program and its arguments; there is no shell.",
            effect=Effect.EXECUTE,
            arguments={"argv": Argument(role=Role.AUTHORITY), "cwd": Argument(role=Role.AUTHORITY, type="path")},
            results={"$": Result(integrity="untrusted")},
            input_schema={
                "type": "object",
                "properties": {
                    "argv": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    "cwd": {"type": "string", "minLength": 1},
                },
                "required": ["argv"],
                "additionalProperties": False,
            },
        ),
        _run_command,
    ),
)
"""The tools that reach beyond files."""
