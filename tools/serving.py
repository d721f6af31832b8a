"""The few lines every bundled tool server shares: MCP over stdio with the standard library alone.

A server is a dict of functions. `tool` describes one; `serve` answers until stdin ends. A function takes the call's arguments
by name, returns plain JSON, and raises ToolError to tell the caller what went wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

VERSION = "2025-06-18"
Function = TypeVar("Function", bound=Callable[..., Any])
TOOLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {}


class ToolError(Exception):
    """What the caller is told."""


def tool(
    description: str, properties: Mapping[str, Any], required: Sequence[str] = ()
) -> Callable[[Function], Function]:
    """Decorate a function as a tool; `properties` is its JSON Schema's."""

    def take(function: Function) -> Function:
        schema = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
        TOOLS[function.__name__] = (
            function,
            {"name": function.__name__, "description": description, "inputSchema": schema},
        )
        return function

    return take


def answer(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the answer to one message, or None for a notification."""
    number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
    if number is None:
        return None
    result: dict[str, Any]
    if method == "initialize":
        result = {
            "protocolVersion": VERSION,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "agent-os", "version": "1"},
        }
    elif method == "ping":
        result = {}
    elif method == "tools/list":
        result = {"tools": [described for _function, described in TOOLS.values()]}
    elif method == "tools/call":
        result = call(params)
    else:
        return {"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": f"no method {method}"}}
    return {"jsonrpc": "2.0", "id": number, "result": result}


def call(params: Mapping[str, Any]) -> dict[str, Any]:
    """Run one tool; every failure is a result that says so."""
    name, arguments = params.get("name"), params.get("arguments") or {}
    if name not in TOOLS:
        return failure(f"no tool {name}")
    function, described = TOOLS[name]
    unknown = set(arguments) - set(described["inputSchema"]["properties"])
    missing = set(described["inputSchema"]["required"]) - set(arguments)
    if unknown or missing:
        return failure(f"unknown arguments {sorted(unknown)}" if unknown else f"missing arguments {sorted(missing)}")
    try:
        value = function(**arguments)
    except ToolError as error:
        return failure(str(error))
    except Exception as error:
        return failure(f"{type(error).__name__}: {error}")
    if not isinstance(value, dict):
        value = {"result": value}
    return {"content": [{"type": "text", "text": json.dumps(value, ensure_ascii=False)}], "structuredContent": value}


def failure(text: str) -> dict[str, Any]:
    """Return a result that says what went wrong."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


def serve() -> None:
    """Answer line by line until stdin ends."""
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            reply = answer(json.loads(line))
        except ValueError:
            reply = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "no JSON"}}
        if reply is not None:
            out.write(json.dumps(reply, ensure_ascii=False).encode() + b"\n")
            out.flush()
