"""From what pydantic says of a document to problems with a place, what was expected and the nearest known key. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from agent_os.core import canonical
from agent_os.core.errors import Problem
from agent_os.policy.reader import Document, join

MAX_PROBLEMS: Final = 200
_SHOWN_CHARS_MAX: Final = 60
_PORTS: Final = {"http": 80, "https": 443, "ssh": 22, "smtp": 25, "smtps": 465, "imaps": 993, "postgres": 5432,
                 "postgresql": 5432, "mysql": 3306, "redis": 6379}  # fmt: skip
_TRUTHS: Final = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
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
            said = _EXPECTED.get(kind) or _lower(item["msg"])
            if kind == "value_error" and (deeper := _spoken_of(said, name, document.value)):
                path = name = deeper[0]
                said = deeper[1]
            message = f"{name} {said}"
            hint = "" if rest and kind == "missing" else _mended(path, kind, item.get("ctx") or {}, document.value)
        problems.setdefault((path, message), Problem(message, document.place(path), hint))
    return sorted(problems.values(), key=lambda problem: (problem.place.line, problem.place.column))


def _mended(path: str, kind: str, context: Mapping[str, Any], document: Any) -> str:
    """Return how the value at a path is to be written, as far as it can be told; nothing that may be a secret is shown."""
    found, value = _at(document, path)
    key = path.rpartition(".")[2]
    if path.startswith("secrets.") and isinstance(value, str):
        return "a value is never written here: {from: env, destinations: [api.example.com]}"
    if not found or not isinstance(value, (str, int, float, bool)):
        return "write it as a list, each entry behind `- `" if kind == "list_type" else ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) > _SHOWN_CHARS_MAX or "\n" in text:
        return ""
    if kind == "list_type":
        return f"write a list: [{text}]"
    if kind in ("int_type", "float_type", "literal_error") and text.isascii() and text.isdigit():
        return f"without quotes: {text}" if isinstance(value, str) else _nearest_of(text, context)
    if kind == "int_type" and key in ("port", "ports") and text.lower() in _PORTS:
        return f"a number: {_PORTS[text.lower()]}"
    if text.lower() in _TRUTHS and kind in ("bool_type", "dict_type", "model_type", "model_attributes_type"):
        return f"true and false are the words: {_TRUTHS[text.lower()]}"
    if kind == "literal_error":
        return _nearest_of(text, context)
    if kind in ("dict_type", "model_type", "model_attributes_type") and "binaries" in path:
        return f"{{path: {text if text.startswith('/') else '/usr/bin/' + text}}}"
    if kind == "string_type":
        return f'in quotes: "{text}"'
    return ""


def _nearest_of(text: str, context: Mapping[str, Any]) -> str:
    known = [part for part in str(context.get("expected", "")).split("'")[1::2] if part]
    near = canonical.nearest(text.lower(), known) if known else ""
    if near.startswith("did you mean"):
        return near
    begun = [word for word in known if word[:3] == text.lower()[:3]]
    return f"did you mean {begun[0]!r}?" if len(begun) == 1 else ""


def _at(value: Any, path: str) -> tuple[bool, Any]:
    """Return whether something stands at a key path of a document, and what."""
    for part in re.findall(r"[^.\[\]]+|\[\d+\]", path):
        key: Any = int(part[1:-1]) if part.startswith("[") else part
        if not _leads_on(value, key):
            return False, None
        value = value[key]
    return bool(path), value


def _spoken_of(said: str, path: str, document: Any) -> tuple[str, str] | None:
    """Return the key path that a validator's words begin with, whole, and the rest of them, if it stands in the document."""
    first, _, rest = said.partition(" ")
    deeper = f"{path}.{first}"
    return (deeper, rest) if re.fullmatch(r"[\w.\[\]-]+", first) and _at(document, deeper)[0] else None


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
