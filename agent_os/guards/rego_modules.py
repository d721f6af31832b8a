"""What Rego modules may not do, found in their syntax trees before a module is ever evaluated. Pure.

Threat: recursion that overflows the engine's stack, a builtin that this engine lacks or computes otherwise than OPA (`not
missing_builtin(…)` would be true), regular expressions that mean more here than in OPA (`\\d` is every script's digits), a
rule that takes the name of a builtin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.errors import Problem
from agent_os.guards.rego import ANSWERS

MAX_MODULE_CHARS: Final = 1_000_000
BUILTINS: Final = frozenset(
    "abs array.concat array.reverse array.slice base64.decode base64.encode base64.is_valid base64url.decode "
    "base64url.encode base64url.encode_no_pad ceil concat contains count endswith floor format_int glob.match "
    "glob.quote_meta hex.decode hex.encode indexof intersection is_array is_boolean is_null is_number is_object "
    "is_set is_string json.filter json.is_valid json.patch json.remove json.unmarshal lower max min net.cidr_contains "
    "net.cidr_is_valid numbers.range numbers.range_step object.filter object.get object.keys object.remove "
    "object.subset object.union object.union_n regex.find_all_string_submatch_n regex.find_n regex.is_valid "
    "regex.match regex.replace regex.split replace round semver.compare semver.is_valid sort split sprintf startswith "
    "strings.any_prefix_match strings.any_suffix_match strings.replace_n strings.reverse substring sum time.clock "
    "time.date time.parse_duration_ns time.parse_rfc3339_ns time.weekday to_number trim trim_left trim_prefix "
    "trim_right trim_space trim_suffix type_name union upper urlquery.encode urlquery.encode_object".split()
)
"""Builtins that the project's tests hold against OPA's documented results on the embedded engine."""
_PATTERN_AT: Final = {name: 1 if name == "regex.replace" else 0 for name in BUILTINS if name.startswith("regex.")}
_DIFFERS: Final = re.compile(r"\\[dDwWsSbBCQE<>uU]|&&|--|~~|\[[^\]]*\[(?!:)|\(\?[a-zA-Z]*[xR]")
"""Notations that the engine's regular expressions lack, or read otherwise than OPA's."""
_FORMAT: Final = re.compile(r"(?:[^%]|%0?[0-9]*[dxX]|%[svq%])*")
_RESERVED: Final = frozenset(name.split(".", 1)[0] for name in BUILTINS) | {
    "data",
    "input",
    "io",
    "http",
    "opa",
    "time",
}


@dataclass(slots=True)
class _Rule:
    name: str
    place: str
    function: bool
    uses: set[str] = field(default_factory=set)
    calls: set[tuple[str, str]] = field(default_factory=set)
    differences: list[tuple[str, str]] = field(default_factory=list)
    """Calls whose arguments mean something else to OPA: message and hint."""


def defined_rules(trees: Sequence[Mapping[str, Any]], package: str) -> frozenset[str]:
    """Return which of allow, ask, deny and obligations a package defines, by its syntax trees."""
    rules = [rule for tree in trees for rule in _rules_of(tree)]
    return frozenset(name for name in ANSWERS if any(rule.name == f"{package}.{name}" for rule in rules))


def module_problems(trees: Sequence[Mapping[str, Any]], package: str) -> list[Problem]:
    """Return what refuses modules: recursion, builtins that are not known good, names of builtins taken by rules.

    `trees` are syntax trees as the embedded engine gives them (`get_ast_as_json`), one a module.
    """
    problems: list[Problem] = []
    rules = [rule for tree in trees for rule in _rules_of(tree)]
    names = {rule.name for rule in rules}
    functions = {rule.name for rule in rules if rule.function}
    for rule in rules:
        own = rule.name.rsplit(".", 1)
        if own[-1] in _RESERVED:
            problems.append(_problem(rule, f"the rule {own[-1]!r} takes the name of a builtin", "rename it"))
        for called, written in sorted(rule.calls):
            if called in functions or written in BUILTINS:
                continue
            hint = canonical.nearest(written, BUILTINS)
            hint = hint if hint.startswith("did") else "see docs/rego.md for those that are"
            problems.append(_problem(rule, f"the builtin {written!r} is not available", hint))
        problems += [_problem(rule, message, hint) for message, hint in rule.differences]
    if not any(f"{package}.{name}" in names for name in ("allow", "ask", "deny")):
        problems.append(Problem(f"the package {package!r} defines neither allow, ask nor deny", code="rego-empty"))
    cycle = _cycle(rules, names)
    if cycle:
        problems.append(Problem(f"rules recurse: {' -> '.join(cycle)}", hint="break the cycle", code="rego-recursion"))
    return problems


def _problem(rule: _Rule, message: str, hint: str) -> Problem:
    return Problem(f"{rule.place}: {message}", hint=hint, code="rego-builtin")


def _rules_of(tree: Mapping[str, Any]) -> Iterator[_Rule]:
    ast = tree["ast"]
    package = _dotted(ast["package"]["refr"])
    aliases = {}
    for entry in ast.get("imports", ()):
        path = _dotted(entry["refr"])
        alias = entry["as"][1] if isinstance(entry.get("as"), list) else _alias(tree, entry) or path.rsplit(".", 1)[-1]
        if path.startswith("data."):
            aliases[alias] = path.removeprefix("data.")
    for node in ast.get("rules") or ast.get("policy") or ():
        ((kind, body),) = node.items()
        head = body["refr"] if kind == "Default" else next(iter(body["head"].values()))["refr"]
        name = _dotted(head)
        function = kind == "Spec" and "Func" in body["head"]
        place = f"{tree['source']['file']}:{body['span']['line']}:{body['span']['col']}"
        rule = _Rule(f"{package}.{name}", place, function)
        _walk([_indices(head), _beside_head(body)], package, aliases, rule)
        rule.uses.discard("")
        yield rule


def _beside_head(body: Mapping[str, Any]) -> list[Any]:
    """Return everything of a rule but the reference that names it."""
    parts = [value for key, value in body.items() if key not in ("head", "refr", "span")]
    for head in body.get("head", {}).values():
        parts += [value for key, value in head.items() if key not in ("refr", "span")]
    return parts


def _indices(head: Any) -> list[Any]:
    """Return the expressions inside a reference: its bracketed parts (`x[i]`), and what is no name at its root."""
    found: list[Any] = []
    while isinstance(head, Mapping) and len(head) == 1:
        ((kind, body),) = head.items()
        if kind not in ("RefDot", "RefBrack"):
            return found if kind == "Var" else [*found, head]
        if kind == "RefBrack":
            found.append(body["index"])
        head = body["refr"]
    return found


def _alias(tree: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """Return the alias of an import by its span in the source, or an empty text."""
    span = entry.get("as")
    if not isinstance(span, Mapping):
        return ""
    return str(tree["source"]["contents"].encode()[span["start"] : span["end"]].decode(errors="replace"))


def _dotted(node: Any) -> str:
    """Return the dotted path of a reference as far as it is constant."""
    if not isinstance(node, Mapping) or len(node) != 1:
        return ""
    ((kind, body),) = node.items()
    if kind == "Var":
        return str(body["value"])
    if kind == "RefDot":
        left = _dotted(body["refr"])
        return f"{left}.{body['field'][1]}" if left else ""
    if kind == "RefBrack":
        left, index = _dotted(body["refr"]), body["index"]
        text = _literal(index)
        return f"{left}.{text}" if left and text is not None else left
    return ""


def _differences(called: str, params: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Yield why a call would give another result in OPA: its pattern or format, which must be constant to tell."""
    position = 0 if called == "sprintf" else _PATTERN_AT.get(called)
    if position is None:
        return
    text = _literal(params[position]) if position < len(params) else None
    if text is None:
        what = "format" if called == "sprintf" else "pattern"
        yield f"the {what} of {called} is not constant", f"write the {what} as a text where {called} is called"
    elif called == "sprintf":
        if not _FORMAT.fullmatch(text):
            yield f"OPA reads the format '{text}' otherwise", "use %s, %d, %v, %x, %q and %% only"
    elif (found := _DIFFERS.search(text)) is not None:
        yield f"OPA reads '{found[0]}' in a pattern otherwise", "write the characters: [0-9], [A-Za-z0-9_], [ \\t\\n]"


def _literal(node: Any) -> str | None:
    if isinstance(node, Mapping) and len(node) == 1:
        ((kind, body),) = node.items()
        if kind in ("String", "RawString"):
            return str(body["value"])
    return None


def _walk(node: Any, package: str, aliases: Mapping[str, str], rule: _Rule) -> None:
    pending = [node]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
            continue
        if not isinstance(item, Mapping):
            continue
        for kind, body in item.items():
            if kind == "Call":
                written = _dotted(body["fcn"])
                rule.calls.add((_global(written, package, aliases), written))
                rule.differences += _differences(written, body["params"])
                pending.append(body["params"])
            elif kind in ("Var", "RefDot", "RefBrack") and isinstance(body, Mapping):
                rule.uses.add(_global(_dotted({kind: body}), package, aliases))
                pending += _indices({kind: body})
            else:
                pending.append(body)


def _global(path: str, package: str, aliases: Mapping[str, str]) -> str:
    first, _, rest = path.partition(".")
    if first == "data":
        return rest or "*"
    if first in ("input", ""):
        return ""
    base = aliases.get(first, f"{package}.{first}")
    return f"{base}.{rest}" if rest else base


def _cycle(rules: Sequence[_Rule], names: set[str]) -> list[str]:
    """Return a cycle of rule names, or nothing. A reference to a prefix of names uses all of them."""
    graph: dict[str, set[str]] = {name: set() for name in names}
    below: dict[str, set[str]] = {"*": names}
    for name in names:
        for prefix in _prefixes(name):
            below.setdefault(prefix, set()).add(name)
    for rule in rules:
        for used in rule.uses | {called for called, _ in rule.calls}:
            graph[rule.name] |= below.get(used, set()) | (names & set(_prefixes(used)))
    state: dict[str, int] = {}
    for start in sorted(graph):
        found = _search(graph, start, state)
        if found:
            return found
    return []


def _prefixes(path: str) -> list[str]:
    """Return a dotted path and every path above it."""
    parts = path.split(".")
    return [".".join(parts[: index + 1]) for index in range(len(parts))]


def _search(graph: Mapping[str, set[str]], start: str, state: dict[str, int]) -> list[str]:
    if state.get(start):
        return []
    stack: list[tuple[str, Iterator[str]]] = [(start, iter(sorted(graph[start])))]
    path = [start]
    state[start] = 1
    while stack:
        name, children = stack[-1]
        child = next(children, None)
        if child is None:
            stack.pop()
            path.pop()
            state[name] = 2
        elif state.get(child) == 1:
            return [*path[path.index(child) :], child]
        elif not state.get(child):
            state[child] = 1
            path.append(child)
            stack.append((child, iter(sorted(graph[child]))))
    return []
