"""The fields of actions on the wire: one function for each type, from a JSON value to its canonical form. Pure.

Each takes (value, key, workspace) and raises ActionError naming the key; `workspace` is what relative paths are taken against.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_os.core import canonical
from agent_os.core.errors import ActionError

Json = Any
"""None, bool, int, float, str, list[Json] or dict[str, Json]; trees are bounded by canonical.json limits."""


def text(value: Any, key: str, _workspace: str) -> str:
    return canonical.text(value, field=key)


def opaque_text(value: Any, key: str, _workspace: str) -> str:
    if not isinstance(value, str):
        raise ActionError("must be a string", field=key)
    return value


def name(value: Any, key: str, _workspace: str) -> str:
    return canonical.name(value, field=key)


def path(value: Any, key: str, workspace: str) -> str:
    return canonical.path(value, root=workspace, field=key)


def host(value: Any, key: str, _workspace: str) -> str:
    return canonical.host(value, field=key)


def port(value: Any, key: str, _workspace: str) -> int:
    return canonical.integer(value, field=key, minimum=1, maximum=65535)


def count(value: Any, key: str, _workspace: str) -> int:
    return canonical.integer(value, field=key, minimum=0, maximum=2**53)


def json(value: Any, key: str, _workspace: str) -> Json:
    return canonical.json_value(value, field=key)


def mapping(value: Any, key: str, _workspace: str) -> dict[str, Json]:
    if not isinstance(value, Mapping):
        raise ActionError("must be an object", field=key)
    checked: dict[str, Json] = canonical.json_value(value, field=key)
    return checked


def names(value: Any, key: str, workspace: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise ActionError("must be a list of strings", field=key)
    return tuple(name(item, f"{key}[{index}]", workspace) for index, item in enumerate(value))


def method(value: Any, key: str, _workspace: str) -> str:
    return canonical.method(value, field=key)


def request_path(value: Any, key: str, _workspace: str) -> str:
    return canonical.request_path(value, field=key)


def query(value: Any, key: str, _workspace: str) -> Any:
    return canonical.query(value, field=key)


def headers(value: Any, key: str, _workspace: str) -> Any:
    return canonical.headers(value, field=key)


def argv(value: Any, key: str, _workspace: str) -> tuple[str, ...]:
    return canonical.argv(value, field=key)


def environment(value: Any, key: str, _workspace: str) -> Any:
    return canonical.environment(value, field=key)
