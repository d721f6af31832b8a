"""From what pydantic says of a document to problems with a place, what was expected and the nearest known key. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from agent_os.core import canonical
from agent_os.core.errors import Problem
from agent_os.policy.reader import Document, join, leads_on, value_at

MAX_PROBLEMS: Final = 200
_SHOWN_CHARS_MAX: Final = 60
_PORTS: Final = {"http": 80, "https": 443, "ssh": 22, "smtp": 25, "smtps": 465, "imaps": 993, "postgres": 5432,
                 "postgresql": 5432, "mysql": 3306, "redis": 6379}  # fmt: skip
_VERDICTS: Final = frozenset({"allow", "ask", "deny"})
_OTHERWISE: Final = {
    "block": "deny",
    "reject": "deny",
    "forbid": "deny",
    "permit": "allow",
    "approve": "ask",
    "confirm": "ask",
}
_MAPPINGS: Final = frozenset({"dict_type", "model_type", "model_attributes_type"})
_SPAN: Final = re.compile(r"(\d+)\s*(ms|s|m|h|d|w)[a-zA-Z]{1,7}", re.IGNORECASE)
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
    problems: dict[tuple[str, str, str], Problem] = {}
    for item in error.errors(include_url=False, include_context=True, include_input=False)[:MAX_PROBLEMS]:
        path, rest = _locate(item["loc"], document.value)
        kind = item["type"]
        hint = ""
        if kind == "extra_forbidden":
            key = str(item["loc"][-1])
            known = _known_keys(model, item["loc"][:-1])
            parent = path[: max(len(path) - len(key), 0)].rstrip(".")
            message = f"unknown key {key!r}" + (f" in {parent}" if parent else "")
            hint = _key_hint(key, parent, known, model)
        else:
            missing = "".join(f".{key}" if isinstance(key, str) else f"[{key}]" for key in rest)
            name = (path + (missing if kind == "missing" else "")) or "the document"
            said = _EXPECTED.get(kind) or _lower(item["msg"])
            if kind in _MAPPINGS and path.startswith("tools.") and path.rpartition(".")[2] in _VERDICTS:
                said = "must be true, or conditions on arguments"
            if kind == "value_error" and (deeper := _spoken_of(said, name, document.value)):
                path = name = deeper[0]
                said = deeper[1]
            message = f"{name} {said}"
            hint = "" if rest and kind == "missing" else _mended(path, kind, item.get("ctx") or {}, document.value)
        problems.setdefault((path, kind, message), Problem(message, document.place(path), hint))
    return sorted(_likely(problems), key=lambda problem: (problem.place.line, problem.place.column))


def _likely(problems: Mapping[tuple[str, str, str], Problem]) -> Iterator[Problem]:
    """Yield the problems without what other forms of the same value would have had to be."""
    kinds: dict[str, dict[str, Problem]] = {}
    for (path, kind, _), problem in problems.items():
        kinds.setdefault(path, {})[kind] = problem
    for (path, kind, _), problem in problems.items():
        beside = kinds[path]
        near = beside.get("literal_error")
        if kind == "list_type" and near is not None and near.hint:
            continue
        if kind == "string_pattern_mismatch" and "list_type" in beside:
            continue
        yield problem


def _key_hint(key: str, parent: str, known: list[str], model: type[BaseModel]) -> str:
    """Return what an unknown key was meant to be: a near one, one that stands elsewhere, or what is known here."""
    near = get_close_matches(key.lower(), known, n=1, cutoff=0.7)
    near = near or [each for each in known if len(each) > 2 and (key.startswith(each) or each.startswith(key))]
    near = near or [each for each in [_OTHERWISE.get(key.lower(), "")] if each in known]
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    if not parent and key in _VERDICTS:
        return f"a verdict stands under what it is about: tools: {{NAME: {{{key}: …}}}}"
    if re.fullmatch(r"tools\.[^.]+", parent):
        return f"a condition stands under a verdict: allow: {{{key}: …}}; keys here: {', '.join(known)}"
    if key not in _VERDICTS and (home := _homes(model).get(key)):
        return f"it stands in {home}"
    return "known: " + ", ".join(known) if known else "remove it"


@lru_cache(4)
def _homes(model: type[BaseModel]) -> Mapping[str, str]:
    """Return for each key of a document the shortest path it stands at; NAME is a name of the file's own."""
    homes: dict[str, str] = {}
    todo: list[tuple[Any, str]] = [(model, "")]
    seen: set[Any] = set()
    while todo:
        annotation, path = todo.pop(0)
        for part in _models(annotation):
            if part in seen:
                continue
            seen.add(part)
            for name, field in part.model_fields.items():
                key = field.alias or name
                below = f"{path}.{key}".lstrip(".")
                homes.setdefault(key, below)
                todo.append((field.annotation, below))
        todo.extend((item, f"{path}.NAME" if _named(annotation) else path) for item in _items(annotation))
    return homes


def _named(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is dict or any(_named(each) for each in get_args(annotation)[:1])


def _mended(path: str, kind: str, context: Mapping[str, Any], document: Any) -> str:
    """Return how the value at a path is to be written, as far as it can be told; nothing that may be a secret is shown."""
    found, value = value_at(document, path)
    key = path.rpartition(".")[2]
    if path.startswith("secrets.") and isinstance(value, str):
        return "a value is never written here: {from: env, destinations: [api.example.com]}"
    if not found or not isinstance(value, (str, int, float, bool)):
        return _of_many(path, kind, value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if len(text) > _SHOWN_CHARS_MAX or "\n" in text:
        return ""
    if kind == "list_type":
        return f"write a list: [{text}]"
    if kind in ("int_type", "float_type", "literal_error") and text.isascii() and text.isdigit():
        return f"without quotes: {text}" if isinstance(value, str) else _nearest_of(text, context)
    if (
        kind in ("int_type", "float_type")
        and (number := re.sub(r"[,_' €$£]", "", text)).replace(".", "", 1).isdecimal()
    ):
        return f"a number: {number}"
    if kind in _MAPPINGS and text in ("true", "false") and isinstance(value, str):
        return f"without quotes: {text}"
    if kind == "value_error" and (span := _SPAN.fullmatch(text)):
        return f"write {span[1]}{span[2].lower()}"
    if kind == "int_type" and key in ("port", "ports") and text.lower() in _PORTS:
        return f"a number: {_PORTS[text.lower()]}"
    if text.lower() in _TRUTHS and (kind == "bool_type" or kind in _MAPPINGS):
        return f"true and false are the words: {_TRUTHS[text.lower()]}"
    if kind == "literal_error":
        return _nearest_of(text, context)
    if kind in _MAPPINGS and "binaries" in path:
        return f"{{path: {text if text.startswith('/') else '/usr/bin/' + text}}}"
    if kind == "string_type":
        return f'in quotes: "{text}"'
    return ""


def _of_many(path: str, kind: str, value: Any) -> str:
    """Return how a list or mapping is to be written that stands where another shape is wanted."""
    if kind == "list_type":
        return "write it as a list, each entry behind `- `"
    if isinstance(value, list) and kind == "string_type":
        return "one text: write an entry for each of them"
    if isinstance(value, list) and value and kind in _MAPPINGS and isinstance(value[0], str):
        return f"a mapping: {{{value[0][:_SHOWN_CHARS_MAX]}: {'{allow: true}' if path == 'tools' else '…'}}}"
    return ""


def _nearest_of(text: str, context: Mapping[str, Any]) -> str:
    known = [part for part in str(context.get("expected", "")).split("'")[1::2] if part]
    near = canonical.nearest(text.lower(), known) if known else ""
    if near.startswith("did you mean"):
        return near
    begun = [word for word in known if word[:3] == text.lower()[:3]]
    return f"did you mean {begun[0]!r}?" if len(begun) == 1 else ""


def _spoken_of(said: str, path: str, document: Any) -> tuple[str, str] | None:
    """Return the key path that a validator's words begin with, whole, and the rest of them, if it stands in the document."""
    first, _, rest = said.partition(" ")
    deeper = f"{path}.{first}"
    return (deeper, rest) if re.fullmatch(r"[\w.\[\]-]+", first) and value_at(document, deeper)[0] else None


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
        if leads_on(value, key):
            path, value = join(path, key), value[key]
        elif index == len(location) - 1:
            rest.append(key)
    if rest and isinstance(value, Mapping) and rest[0] in value:
        rest = []
    return path, rest or [location[-1]] if location else []


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
