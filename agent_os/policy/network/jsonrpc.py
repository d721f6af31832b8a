"""JSON-RPC 2.0 and MCP messages: bytes or text to what rules judge. Pure.

The forms are those of an action's `jsonrpc` field: one message `{"method", "params"}`, a client's answer
`{"method": None, "has_response": True}`, a receive stream `{"method": None, "receive_stream": True}`, what could not be
read `{"method": None, "error": "why"}`, or a list of them (a batch: one denied message denies it whole).
Threat: a message that the check reads one way and the server another: duplicate keys, a method beside a result, a batch
whose second half is something else, tool names with characters that some server strips.
Sources: JSON-RPC 2.0; MCP 2025-06-18 and 2025-11-25 (basic protocol, tools, streamable HTTP).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

MAX_BATCH: Final = 256
MAX_JSON_DEPTH: Final = 64
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_MEMBERS: Final = frozenset({"jsonrpc", "method", "params", "id", "result", "error"})
_TEXT_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "tools/call": ("name",), "resources/read": ("uri",), "resources/subscribe": ("uri",),
    "resources/unsubscribe": ("uri",), "prompts/get": ("name",), "logging/setLevel": ("level",),
}  # fmt: skip
"""Texts that a method of the MCP specification cannot do without."""
Message = dict[str, Any]


class BodyError(ValueError):
    """A body cannot be read; the message says why, never with a value."""


def parse_json(body: bytes | str) -> Any:
    """Return the one meaning of a JSON text. Raises BodyError for duplicate keys, NaN, depth and bad encoding."""
    try:
        text = body.decode() if isinstance(body, bytes) else body
        if text.startswith("\ufeff"):
            raise BodyError("body starts with a byte order mark")
        value = json.loads(text, object_pairs_hook=_single, parse_constant=_constant)
    except BodyError:
        raise
    except UnicodeDecodeError:
        raise BodyError("body is not valid UTF-8") from None
    except (ValueError, RecursionError):
        raise BodyError("body is not valid JSON") from None
    if _depth(value) > MAX_JSON_DEPTH:
        raise BodyError(f"body is nested deeper than {MAX_JSON_DEPTH} levels")
    return value


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BodyError("body has a key twice in one object")
    return result


def _constant(name: str) -> Any:
    raise BodyError(f"body holds {name}")


def check_spelling(value: Mapping[str, Any], members: frozenset[str]) -> None:
    """Raise BodyError when an object has one of its members in another letter case: some decoders (Go's) take it for that one."""
    folded = {name.casefold() for name in members}
    if any(key not in members and key.casefold() in folded for key in value):
        raise BodyError("body spells a member in another letter case")


def _depth(value: Any) -> int:
    deepest, pending = 0, [(value, 1)]
    while pending:
        item, level = pending.pop()
        deepest = max(deepest, level)
        if level > MAX_JSON_DEPTH:
            return level
        children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        pending += [(child, level + 1) for child in children]
    return deepest


def parse_messages(body: bytes | str, *, mcp: bool, strict_tool_names: bool = True) -> Message | list[Message]:
    """Return the message of a request body, or the list of a batch. Raises BodyError.

    `mcp` also checks the parameters that methods of the MCP specification need; other methods stay addressable.
    """
    value = parse_json(body)
    if isinstance(value, list):
        if not value:
            raise BodyError("batch is empty")
        if len(value) > MAX_BATCH:
            raise BodyError(f"batch has more than {MAX_BATCH} messages")
        return [_message(item, mcp, strict_tool_names) for item in value]
    return _message(value, mcp, strict_tool_names)


def _message(value: Any, mcp: bool, strict_tool_names: bool) -> Message:
    if not isinstance(value, dict):
        raise BodyError("message is not an object")
    check_spelling(value, _MEMBERS)
    if value.get("jsonrpc") != "2.0":
        raise BodyError("message is not JSON-RPC 2.0")
    answers = [key for key in ("result", "error") if key in value]
    if answers and "method" in value:
        raise BodyError("message holds a method and a result")
    if answers:
        _check_answer(value, answers)
        return {"method": None, "has_response": True}
    method = value.get("method")
    if not isinstance(method, str) or not method:
        raise BodyError("message has no method")
    if "id" in value and not _is_id(value["id"], null=not mcp):
        raise BodyError("message has an id that is neither text nor number")
    params = value.get("params", {})
    if not isinstance(params, (dict, list)) and not (params is None and mcp):
        raise BodyError("params are neither an object nor an array")
    if mcp:
        params = params if params is not None else {}
        _check_mcp(method, params, strict_tool_names)
    return {"method": method, "params": params}


def _is_id(value: Any, *, null: bool) -> bool:
    if value is None:
        return null
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _check_answer(value: dict[str, Any], answers: list[str]) -> None:
    if len(answers) > 1:
        raise BodyError("response holds both a result and an error")
    if "id" not in value or not _is_id(value["id"], null=True):
        raise BodyError("response has no proper id")
    if "error" in value and not isinstance(value["error"], dict):
        raise BodyError("response error is not an object")


def _check_mcp(method: str, params: Any, strict_tool_names: bool) -> None:
    if not isinstance(params, dict):
        raise BodyError("MCP params are not an object")
    for name in _TEXT_FIELDS.get(method, ()):
        if not isinstance(params.get(name), str) or not params[name]:
            raise BodyError(f"{method} params lack {name}")
    if method in ("tools/call", "prompts/get"):
        arguments = params.get("arguments")
        if arguments is not None and not isinstance(arguments, dict):
            raise BodyError(f"{method} arguments are not an object")
    if method == "tools/call" and strict_tool_names and not _TOOL_NAME.fullmatch(params["name"]):
        raise BodyError("tool name holds a character that mcp.strict_tool_names denies")


def receive_stream(accept: str) -> Message:
    """Return the form of an empty GET: a receive stream when it accepts `text/event-stream`, else a plain GET."""
    kinds = {part.split(";", 1)[0].strip().lower() for part in accept.split(",")}
    if "text/event-stream" in kinds:
        return {"method": None, "receive_stream": True}
    return {"method": None}


def parameter_values(params: Any, path: str) -> list[str | None]:
    """Return every value a dotted path can mean in a message's params, as text; None stands for what is no scalar.

    Keys that contain dots, or differ in letter case only, make a path mean several things; all are returned, and rules must
    hold for all of them (None too, where no key is spelt as the path is). Numbers and booleans are written as JSON; the items
    of a list count one by one.
    """
    found = _values(params, path.casefold(), str.casefold)
    return [*found, None] if found and not _values(params, path, str) else found


def _values(params: Any, path: str, spelt: Callable[[str], str]) -> list[str | None]:
    found: list[str | None] = []
    for key, value in params.items() if isinstance(params, dict) else ():
        name = spelt(key)
        if name == path:
            found += _scalars(value)
        elif name and path.startswith(f"{name}."):
            found += _values(value, path[len(name) + 1 :], spelt)
    return found


def _scalars(value: Any) -> list[str | None]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, (bool, int, float)):
        return [json.dumps(value)]
    if isinstance(value, list):
        return [item for child in value for item in _scalars(child)] or [None]
    return [None]
