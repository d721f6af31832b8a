"""From what pydantic says of a document to problems with a place, what was expected and the nearest known key. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from agent_os.core import canonical
from agent_os.core.errors import Problem
from agent_os.policy.reader import Document, join

MAX_PROBLEMS: Final = 200
_EXPECTED: Final = {
    "string_type": "must be a text", "int_type": "must be an integer", "float_type": "must be a number",
    "bool_type": "must be true or false", "list_type": "must be a list", "dict_type": "must be a mapping",
    "model_type": "must be a mapping", "model_attributes_type": "must be a mapping",
    "missing": "is missing", "none_required": "must be empty", "string_too_short": "must not be empty",
    "int_from_float": "must be an integer", "too_short": "must not be empty",
}  # fmt: skip


def from_validation(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Problem]:
    """Return one problem for each error pydantic found, in file order, at most MAX_PROBLEMS."""
    problems: dict[tuple[str, str], Problem] = {}
    for item in error.errors(include_url=False, include_context=True, include_input=False)[:MAX_PROBLEMS]:
        path, rest = _locate(item["loc"], document.value)
        kind = item["type"]
        hint = ""
        if kind == "extra_forbidden":
            key = str(item["loc"][-1])
            known = _known_keys(model, item["loc"][:-1])
            parent = path[: max(len(path) - len(key), 0)].rstrip(".")
            message = f"unknown key {key!r}" + (f" in {parent}" if parent else "")
            hint = canonical.nearest(key, known) if known else "remove it"
        else:
            missing = "".join(f".{key}" if isinstance(key, str) else f"[{key}]" for key in rest)
            name = (path + (missing if kind == "missing" else "")) or "the document"
            message = f"{name} {_EXPECTED.get(kind) or _lower(item['msg'])}"
        problems.setdefault((path, message), Problem(message, document.place(path), hint))
    return sorted(problems.values(), key=lambda problem: (problem.place.line, problem.place.column))


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("Input should be", "must be").replace("String should", "must")
    return message[:1].lower() + message[1:]


def _locate(location: tuple[int | str, ...], value: Any) -> tuple[str, list[int | str]]:
    """Return the path of the deepest part of a location that stands in the document, and the keys left over.

    Locations carry the tags of unions (`tools.x.allow.arguments.path`), which are no keys: they are passed over.
    """
    path, rest = "", []
    for index, key in enumerate(location):
        if _leads_on(value, key):
            path, value = join(path, key), value[key]
        elif index == len(location) - 1:
            rest.append(key)
    if rest and isinstance(value, Mapping) and rest[0] in value:
        rest = []
    return path, rest or [location[-1]] if location else []


def _leads_on(value: Any, key: int | str) -> bool:
    if isinstance(value, Mapping):
        return isinstance(key, str) and key in value
    return isinstance(value, list) and isinstance(key, int) and key < len(value)


def _known_keys(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    """Return the keys a model below `model` knows, found by walking the location through annotations."""
    candidates: list[Any] = [model]
    for key in location:
        below: list[Any] = []
        for candidate in candidates:
            below.extend(_below(candidate, key))
        candidates = below or candidates
    names: set[str] = set()
    for candidate in candidates:
        for part in _models(candidate):
            names.update(field.alias or name for name, field in part.model_fields.items())
    return sorted(names)


def _below(annotation: Any, key: int | str) -> list[Any]:
    found: list[Any] = []
    for part in _models(annotation):
        for name, field in part.model_fields.items():
            if key in (name, field.alias):
                found.append(field.annotation)
    if not found:
        found = _items(annotation)
    return found


def _items(annotation: Any) -> list[Any]:
    origin = getattr(annotation, "__origin__", None)
    arguments = get_args(annotation)
    if origin is dict:
        return [arguments[1]]
    if origin is list:
        return [arguments[0]]
    return [item for argument in arguments for item in _items(argument)] if arguments else []


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if getattr(annotation, "__origin__", None) in (dict, list):
        return []
    return [model for argument in get_args(annotation) for model in _models(argument)]
