"""The texts of an action: which leaves may carry personal data or secrets, by RFC 6901 pointer into its arguments. Pure.

`texts_of` and `replaced` walk the same way, so that every text that is scanned can be rewritten. Object keys are texts too
(pointer of the member, then `#`), and so are long whole numbers (a card number without quotes). Threat: data that leaves in a
place nobody looks at. What cannot be read as text is named by `policy.privacy.unreadable`, never skipped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from agent_os.core.action import (
    Action,
    AgentSpawn,
    MemoryWrite,
    MessageSend,
    ModelCall,
    NetRequest,
    ProcessExec,
    TaskSchedule,
    ToolCall,
)

FIELDS: Final[Mapping[type[Action], tuple[str, ...]]] = {
    ModelCall: ("messages",),
    ToolCall: ("args",),
    NetRequest: ("path", "query", "headers", "body", "jsonrpc", "graphql"),
    MessageSend: ("body",),
    MemoryWrite: ("value",),
    AgentSpawn: ("task",),
    TaskSchedule: ("task",),
    ProcessExec: ("argv", "env"),
}
CREDENTIAL_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"})
"""Headers that carry credentials by design: binding them to a destination is the network guard's work."""
_STRUCTURE: Final = frozenset({"role", "type", "id", "tool_call_id", "finish_reason"})
"""Members that hold the protocol's own words, where the protocol has them; longer or freer values are scanned all the same."""
_STRUCTURED: Final = re.compile(r"/messages/\d+(?:/(?:content|tool_calls)/\d+)*")
"""Where those members stand: a message, a part of one, a call. What a call's arguments say is content, `id` and `type` too."""
STRUCTURE_CHARS_MAX: Final = 64
ID_CHARS_MAX: Final = 24
_ISSUED: Final = re.compile(r"(?:call|toolu|srvtoolu|chatcmpl|tool|fc|run|lc|msg|resp|rs)[-_]")
"""How ids of calls begin that providers and libraries make; a longer one without it may be somebody's key."""
INTEGER_MIN: Final = 10**6


def texts_of(action: Action) -> dict[str, str]:
    """Return every text of an action that can carry content, by pointer into `action.arguments`."""
    result: dict[str, str] = {}
    for name in FIELDS.get(type(action), ()):
        for pointer, text in _walk(getattr(action, name), "/" + name):
            result[pointer] = text
    return result


def _walk(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if value:
            yield pointer, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            place = f"{pointer}/{escape(key)}"
            if skipped(key, item, pointer):
                continue
            if len(key) > 5:
                yield place + "#", key
            yield from _walk(item, place)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk(item, f"{pointer}/{index}")
    elif long_number(value):
        yield pointer, str(int(value))


def skipped(key: str, item: Any, pointer: str) -> bool:
    """Whether a member holds a protocol's own word or a credential by design, not content."""
    if pointer == "/headers":
        return key.lower() in CREDENTIAL_HEADERS
    return (
        key in _STRUCTURE
        and isinstance(item, str)
        and len(item) <= STRUCTURE_CHARS_MAX
        and item.replace("_", "").replace("-", "").isalnum()
        and any(map(str.isalpha, item))  # digits alone are a number of somebody's, whatever member they stand in
        and _STRUCTURED.fullmatch(pointer) is not None
        and (len(item) <= ID_CHARS_MAX or _ISSUED.match(item) is not None)
    )


def long_number(value: Any) -> bool:
    """Whether a value is a whole number of as many digits as identity numbers have, written with a point or without."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) >= INTEGER_MIN and (isinstance(value, int) or value.is_integer())


def escape(key: str) -> str:
    """Return a key as a token of an RFC 6901 pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def replaced(action: Action, change: Callable[[str, str], str]) -> Action:
    """Return the action with `change(pointer, text)` in the place of every text; itself if nothing changed."""
    changes: dict[str, Any] = {}
    for name in FIELDS.get(type(action), ()):
        before = getattr(action, name)
        after = _rebuild(before, "/" + name, change)
        if after is not before:
            changes[name] = after
    if not changes:
        return action
    if isinstance(action, NetRequest):
        changes["body_digest"], changes["size"] = "", 0  # other bytes: who sends them binds them anew
    return action.rewritten(**changes)


def _rebuild(value: Any, pointer: str, change: Callable[[str, str], str]) -> Any:
    """Return the tree with texts changed; the very same object where nothing did."""
    if isinstance(value, str):
        new = change(pointer, value) if value else value
        return value if new == value else new
    if isinstance(value, Mapping):
        result: dict[str, Any] = {}
        touched = False
        for key, item in value.items():
            place = f"{pointer}/{escape(key)}"
            if skipped(key, item, pointer):
                result[key] = item
                continue
            name = change(place + "#", key) if len(key) > 5 else key
            new = _rebuild(item, place, change)
            touched = touched or name != key or new is not item
            result[name] = new
        return result if touched else value
    if isinstance(value, (list, tuple)):
        items = [_rebuild(item, f"{pointer}/{index}", change) for index, item in enumerate(value)]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return tuple(items) if isinstance(value, tuple) else items
    if long_number(value):
        text = str(int(value))
        new = change(pointer, text)
        return value if new == text else new
    return value
