"""Rules that can never decide anything: shadowed by another, or with conditions that nothing meets. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from agent_os.policy.compile import Unit
from agent_os.policy.globs import compile_glob, is_literal

Raw = tuple[str, str, str, str, str]


def dead(unit: Unit, allowing: Collection[str]) -> Iterator[Raw]:
    """Yield findings `rule-shadowed`, `rule-empty`, `rule-duplicate` and `rule-conflict`.

    `allowing` are the names and globs of tools that any file of the layer allows.
    """
    yield from _tools(unit, allowing)
    yield from _files(unit)
    yield from _programs(unit)
    yield from _routes(unit)


def allowing_tools(units: Iterable[Unit]) -> list[str]:
    """Return the names and globs of the tools that files allow, in whatever form."""
    return [
        name
        for unit in units
        for name, tool in (unit.file.tools or {}).items()
        if tool.allow not in (None, False) or any(rule.allow not in (None, False) for rule in tool.rules)
    ]


def widened(units: Sequence[Unit]) -> Iterator[tuple[Unit, Raw]]:
    """Yield a file's conditions on a tool that another file of the layer allows without them: what either allows is allowed."""
    for unit in units:
        for name, tool in (unit.file.tools or {}).items():
            if not isinstance(tool.allow, dict) or not tool.allow:
                continue
            for other in units:
                theirs = (other.file.tools or {}).get(name)
                if other is unit or theirs is None or theirs.allow in (None, False) or theirs.allow == tool.allow:
                    continue
                whose = other.pack or other.document.file
                text = f"adds to what {whose} allows of {name}: what either allows is allowed"
                yield (
                    unit,
                    ("allow-adds", "note", f"tools.{name}.allow", text, "to narrow it: `deny`, or a layer of its own"),
                )
                break


def _tools(unit: Unit, allowing: Collection[str]) -> Iterator[Raw]:
    tools = unit.file.tools or {}
    closed = {name: tool for name, tool in tools.items() if _always(tool.deny) and tool.who is None}
    wide = [(name, compile_glob(name, crossing=True)) for name in closed if not is_literal(name)]
    for name, tool in tools.items():
        path = f"tools.{name}"
        if name in closed:
            for key in ("allow", "ask"):
                if getattr(tool, key) not in (None, False):
                    yield _shadowed(f"{path}.{key}", f"{path}.deny")
        for other, matches in wide:
            if other != name and matches(name) and tool.allow not in (None, False):
                yield _shadowed(f"{path}.allow", f"tools.{other}.deny")
        if tool.ask not in (None, False) and not any(_covers(other, name) for other in allowing):
            text = "asks, and nothing allows the tool: an ask restricts an allow, so the call is denied all the same"
            yield "rule-shadowed", "warning", f"{path}.ask", text, f"add `allow` to {path}"
        for key in ("allow", "ask", "deny"):
            for place, why in _empty_clause(getattr(tool, key), f"{path}.{key}"):
                yield "rule-empty", "warning", place, f"can never hold: {why}", "mend the condition or remove the rule"
        for index, rule in enumerate(tool.rules):
            for key in ("allow", "ask", "deny"):
                for place, why in _empty_clause(getattr(rule, key), f"{path}.rules[{index}].{key}"):
                    yield (
                        "rule-empty",
                        "warning",
                        place,
                        f"can never hold: {why}",
                        "mend the condition or remove the rule",
                    )


def _always(clause: Any) -> bool:
    return clause is True or clause == {} or (isinstance(clause, list) and {} in clause)


def _covers(pattern: str, name: str) -> bool:
    return pattern == name or (not is_literal(pattern) and compile_glob(pattern)(name))


def _shadowed(path: str, by: str) -> Raw:
    return "rule-shadowed", "warning", path, f"can never decide: {by} always denies", f"remove it, or narrow {by}"


def _empty_clause(clause: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(clause, list):
        for index, item in enumerate(clause):
            yield from _empty_clause(item, f"{path}[{index}]")
    elif isinstance(clause, dict):
        for name, condition in clause.items():
            yield from _empty_condition(condition, f"{path}.{name}")


def _empty_condition(condition: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(condition, list):
        for index, item in enumerate(condition):
            yield from _empty_condition(item, f"{path}[{index}]")
        return
    if not hasattr(condition, "model_fields_set"):
        return
    low = max((bound for bound in (condition.min, condition.above) if bound is not None), default=-math.inf)
    high = min((bound for bound in (condition.max, condition.below) if bound is not None), default=math.inf)
    open_ended = (condition.above is not None and condition.above == low) or (
        condition.below is not None and condition.below == high
    )
    if low > high or (low == high and open_ended):
        yield path, "the least number is above the greatest"
    if condition.in_ == []:
        yield path, "`in` is an empty list"
    excluded = condition.not_in if isinstance(condition.not_in, list) else []
    wanted = condition.in_ if isinstance(condition.in_, list) else []
    if wanted and all(item in excluded for item in wanted):
        yield path, "`not_in` excludes everything in `in`"
    if "equals" in condition.model_fields_set and condition.equals in excluded:
        yield path, "`not_in` excludes what `equals` asks for"
    for nested in (condition.every, condition.some):
        if nested is not None:
            yield from _empty_condition(nested, path)
    for name, inner in (condition.fields or {}).items():
        yield from _empty_condition(inner, f"{path}.fields.{name}")


def _files(unit: Unit) -> Iterator[Raw]:
    policy = unit.file.filesystem_policy
    if policy is None:
        return
    base = "filesystem_policy"
    seen: dict[tuple[str, str], int] = {}
    for key in ("read_only", "read_write", "deny", "hidden", "ask_write"):
        for index, path in enumerate(getattr(policy, key)):
            normal = path.rstrip("/") or "/"
            if (key, normal) in seen:
                first = f"{base}.{key}[{seen[key, normal]}]"
                yield "rule-duplicate", "note", f"{base}.{key}[{index}]", f"is the same as {first}", "remove one"
            seen.setdefault((key, normal), index)
    denied = [path.rstrip("/") for path in (*policy.deny, *policy.hidden) if is_literal(path)]
    for key in ("read_only", "read_write"):
        for index, path in enumerate(getattr(policy, key)):
            normal = path.rstrip("/")
            if key == "read_write" and ("read_only", normal or "/") in seen:
                text = "is read-only as well: it may not be written"
                yield "rule-conflict", "warning", f"{base}.{key}[{index}]", text, "keep one of the two"
            above = next((item for item in denied if item and (normal == item or normal.startswith(item + "/"))), None)
            if above is not None:
                yield _shadowed(f"{base}.{key}[{index}]", f"{base}.deny ({above})")


def _programs(unit: Unit) -> Iterator[Raw]:
    process = unit.file.process
    if process is None:
        return
    denied = {entry for entry in process.deny if isinstance(entry, str)}
    names = {entry.rpartition("/")[2] for entry in denied if "/" not in entry}
    for index, entry in enumerate(process.allow):
        binary = entry if isinstance(entry, str) else entry.binary
        if binary in denied or (is_literal(binary) and binary.rpartition("/")[2] in names):
            yield _shadowed(f"process.allow[{index}]", "process.deny")


def _routes(unit: Unit) -> Iterator[Raw]:
    models = unit.file.models
    if models is None:
        return
    final = next((index for index, route in enumerate(models.routes) if route.when is None), None)
    if final is not None:
        for index in range(final + 1, len(models.routes)):
            text = f"is never reached: models.routes[{final}] takes every call"
            yield "rule-shadowed", "warning", f"models.routes[{index}]", text, "move it up, or remove it"
    routed = {
        name for route in models.routes for name in ([route.use] if isinstance(route.use, str) else route.use or [])
    }
    for name in models.providers:
        if models.routes and name not in routed:
            yield (
                "unused-provider",
                "note",
                f"models.providers.{name}",
                "no route leads to it",
                "remove it, or route to it",
            )
