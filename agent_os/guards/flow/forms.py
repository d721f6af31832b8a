"""Results as the structures they stand for: what a tool prints, packs or nests is read where its manifest names the parts. Pure.

Read by themselves are forms that escape what stands in them, so that a value cannot end its own cell: JSON, JSON lines,
Python's own notation, YAML, and the content blocks of MCP. CSV and XML are read where the manifest's `form` says so: it
vouches that its tool quotes. Everything is bounded, nothing is executed, no entity and no reference is followed; what does not
read cleanly is one untrusted text. Threat: a text that only looks like a structure, a structure that costs more to read than it
is long.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final
from xml.etree import ElementTree

import yaml

from agent_os.core.manifest import ToolSpec

PARSED_CHARS_MAX: Final = 400_000
"""Longest text result that is tried as JSON, JSON lines, CSV or XML; a longer one is one untrusted leaf."""
SLOW_CHARS_MAX: Final = 100_000
"""Longest text that is tried as YAML or as Python's notation, which are read more slowly."""
FORM_DEPTH_MAX: Final = 32
"""Nesting of a form, and of one inside another."""
BLOCKS_MAX: Final = 1000
"""Content blocks of one result."""
_BLOCKS: Final = frozenset({"text", "image", "audio", "resource", "resource_link"})


def read(value: Any, spec: ToolSpec) -> Any:
    """Return what a result stands for: the structure a text holds, content blocks unpacked, nested JSON where paths go on."""
    described = bool(spec.results)
    if not described:
        return structured(value)
    if not _names_blocks(spec):
        value = _unpacked(value)
    if isinstance(value, str):
        value = _stated(value, spec.form) if spec.form in _FORMS else structured(value, described=True)
    return _opened(value, _steps(tuple(spec.results)), 0)


def structured(value: Any, described: bool = False) -> Any:
    """Return what a text stands for when it is JSON, YAML or Python of an object or a list; else the value itself.

    `described`: a manifest says that the result has parts, so that a single line may be a list of one.
    """
    if not isinstance(value, str) or len(value) > PARSED_CHARS_MAX:
        return value
    text = value.strip()
    if text[:1] in "{[":
        try:
            parsed = json.loads(text)
            return parsed if isinstance(parsed, (dict, list)) else value
        except (ValueError, RecursionError):
            return _other(text, value)
    if described and _CALL.match(text):
        return _python(text, value)
    if not (text.startswith("- ") or re.match(r"[\w \"'-]{1,60}:(?: |\n|$)", text)) or not (described or "\n" in text):
        return value
    return _yaml(text, value) if len(text) <= SLOW_CHARS_MAX else value


def _other(text: str, value: str) -> Any:
    """Return JSON lines, or Python's notation of a container."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and all(line.lstrip()[:1] in "{[" for line in lines):
        try:
            return [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            pass
    return _python(text, value)


# ---- YAML -----------------------------------------------------------------------------------------------------------


def _yaml(text: str, value: str) -> Any:
    try:
        if _aliases(text):
            return value
        parsed = yaml.load(text, Loader=_SafeLoader)  # noqa: S506  (a safe loader, in C where there is one)
    except (yaml.YAMLError, RecursionError, ValueError):
        return value
    return parsed if isinstance(parsed, (dict, list)) else value


class _SafeLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader that leaves dates as the text they are."""


def _aliases(text: str) -> bool:
    """Return whether a YAML text refers back to a part of itself (billion laughs)."""
    if "&" not in text or "*" not in text:
        return False
    return any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_SafeLoader))


_SafeLoader.yaml_implicit_resolvers = {
    key: [
        (tag, pattern)
        for tag, pattern in pairs
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge")
    ]
    for key, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

# ---- Python's notation ----------------------------------------------------------------------------------------------

_CALL: Final = re.compile(r"[A-Za-z_][\w.]{0,80}\([\w]+=|\(")
_DATES: Final = frozenset({"datetime", "date", "time"})


class _NotPlain(ValueError):
    """A notation that is no plain data."""


def _python(text: str, value: str) -> Any:
    """Return the plain data of a `repr`: literals, and records written as `Name(field=value)`. Parsed, never run."""
    if len(text) > SLOW_CHARS_MAX:
        return value
    try:
        parsed = _plain(ast.parse(text, mode="eval").body, 0)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return value
    return parsed if isinstance(parsed, (dict, list)) else value


def _plain(node: ast.expr, depth: int) -> Any:
    if depth > FORM_DEPTH_MAX:
        raise _NotPlain
    match node:
        case ast.Constant(value=str() | int() | float() | None as found):
            return found
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [_plain(item, depth + 1) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {_key(key): _plain(item, depth + 1) for key, item in zip(keys, values, strict=True)}
        case ast.Call(func=func, args=[], keywords=words) if _class(func) and words and all(word.arg for word in words):
            return {str(word.arg): _plain(word.value, depth + 1) for word in words}
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=parts) if name in _DATES and parts:
            numbers = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, int)]
            return "-".join(f"{number:02d}" for number in numbers[:3]) + "".join(f":{n:02d}" for n in numbers[3:6])
        case ast.Call(func=func, args=[ast.Constant(value=str() | int() as only)], keywords=[]) if _class(func):
            return only  # an enumeration, an id type, a Decimal
    raise _NotPlain


def _class(func: ast.expr) -> bool:
    """Return whether what is called reads like a class (`Mail`, `models.Mail`), not like a function."""
    name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
    return name[:1].isupper() or name == "dict"


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float)):
        return str(node.value)
    raise _NotPlain


# ---- CSV and XML, where the manifest vouches for them ---------------------------------------------------------------


def _csv(text: str, delimiter: str) -> Any:
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True))
    if len(rows) < 2 or len(set(rows[0])) != len(rows[0]):
        raise _NotPlain
    if any(len(row) != len(rows[0]) for row in rows[1:] if row):
        raise _NotPlain  # a cell that was not quoted moved its neighbours
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:] if row]


def _xml(text: str) -> Any:
    if "<!DOCTYPE" in text or "<!ENTITY" in text or "<?xml-stylesheet" in text:
        raise _NotPlain
    return _element(ElementTree.fromstring(text), 0)  # noqa: S314 - no entities: what declares any was refused above


def _element(element: ElementTree.Element, depth: int) -> Any:
    """Return an element: its text, or its attributes and children by name; children with parts of their own are a list."""
    if depth > FORM_DEPTH_MAX:
        raise _NotPlain
    children: dict[str, list[ElementTree.Element]] = {}
    for child in element:
        children.setdefault(str(child.tag).rpartition("}")[2], []).append(child)
    if not children and not element.attrib:
        return (element.text or "").strip()
    found: dict[str, Any] = {name: value for name, value in element.attrib.items() if name not in children}
    for name, each in children.items():
        values = [_element(child, depth + 1) for child in each]
        found[name] = values[0] if len(values) == 1 and isinstance(values[0], str) else values
    if (element.text or "").strip():
        found.setdefault("text", (element.text or "").strip())
    return found


_FORMS: Final[Mapping[str, Callable[[str], Any]]] = {
    "csv": lambda text: _csv(text, ","),
    "tsv": lambda text: _csv(text, "\t"),
    "xml": _xml,
}


def _stated(text: str, form: str) -> Any:
    if len(text) > PARSED_CHARS_MAX:
        return text
    try:
        return _FORMS[form](text.strip())
    except (ValueError, csv.Error, ElementTree.ParseError, RecursionError):
        return text


# ---- content blocks, and JSON inside texts --------------------------------------------------------------------------


def _names_blocks(spec: ToolSpec) -> bool:
    return any(path.startswith(("$.content", "$[*].text", "$[*].type", "$.structuredContent")) for path in spec.results)


_RESULT_KEYS: Final = frozenset({"content", "structuredContent", "isError", "_meta"})


def _unpacked(value: Any) -> Any:
    """Return what MCP's content blocks hold: the structured content, the only text, or the records as a list."""
    if isinstance(value, Mapping) and isinstance(value.get("content"), list) and set(value) <= _RESULT_KEYS:
        inner = value.get("structuredContent")
        return inner if isinstance(inner, (dict, list)) else _unpacked(value["content"])
    if not isinstance(value, list) or not 0 < len(value) <= BLOCKS_MAX:
        return value
    if not all(isinstance(block, Mapping) and block.get("type") in _BLOCKS for block in value):
        return value
    texts = [block.get("text") for block in value]
    if not all(isinstance(text, str) for text in texts):
        return value  # an image or a resource among them: each block is what it is
    if len(texts) == 1:
        return texts[0]
    records = [structured(text, described=True) for text in texts]
    return (
        records if all(isinstance(record, dict) for record in records) else value
    )  # a page among them could forge one


Steps = tuple[tuple[str, ...], ...]


@lru_cache(maxsize=4096)
def _steps(paths: tuple[str, ...]) -> Steps:
    """Return the steps of paths: names, `*` and `[]`."""
    found = (
        tuple("[]" if step == "[*]" else step for step in re.findall(r"\[\*\]|[^.\[\]$]+", path)) for path in paths
    )
    return tuple(dict.fromkeys(steps for steps in found if steps and not steps[-1].endswith("~")))


def _opened(value: Any, tails: Steps, depth: int) -> Any:
    """Return a value in which texts that paths lead into are the JSON they hold; everything else is the value's own."""
    tails = tuple(tail for tail in tails if tail)
    if not tails or depth > FORM_DEPTH_MAX:
        return value
    if isinstance(value, str):
        if value.strip()[:1] not in ("{", "[") or depth == 0:
            return value
        value = structured(value, described=True)
    if isinstance(value, list):
        inner = tuple(tail[1:] for tail in tails if tail[0] == "[]")
        if not any(inner):
            return value
        opened = [_opened(item, inner, depth + 1) for item in value]
        return opened if any(new is not old for new, old in zip(opened, value, strict=True)) else value
    if isinstance(value, dict):
        changed = {}
        for name in {tail[0] for tail in tails} & value.keys() if not _any_name(tails) else value.keys():
            part = _opened(value[name], tuple(tail[1:] for tail in tails if tail[0] in (name, "*")), depth + 1)
            if part is not value[name]:
                changed[name] = part
        return {**value, **changed} if changed else value
    return value


def _any_name(tails: Steps) -> bool:
    return any(tail[0] == "*" for tail in tails)
