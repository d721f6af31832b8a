"""Globs of the network sections: over host names, paths, programs and values. Pure.

Two dialects. *Delimited* globs (hosts by `.`, paths and programs by `/`) mean the same under both semantics: `*` and
`?` stay between delimiters, `**` crosses them where it is a whole component (elsewhere it is a `*`), `[..]`, `[!..]`,
`{a,b}` and `\\x` as usual. *Value* globs (query parameters, GraphQL names, MCP tools) treat `.` as a delimiter under
openshell semantics, because the reference engine does; under strict semantics no character is special, so `prod*`
matches `prod.eu`. Every matcher runs in linear time (string methods, `re` without overlapping repeats, or RE2), so a
hostile path or value cannot stall a decision. Source: the glob syntax of Rego's `glob.match`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

MAX_GLOB_CHARS: Final = 4096
_MAGIC: Final = frozenset("*?[]{}\\")
_LEADING: Final = "(?:/?|.*/)"
_BETWEEN: Final = "(?:/|/.*/)"
Predicate = Callable[[str], bool]


class GlobError(ValueError):
    """A glob that cannot be read; it matches nothing where it allows and everything where it denies."""


def has_wildcard(pattern: str) -> bool:
    """Return whether a pattern can match more than itself."""
    return not _MAGIC.isdisjoint(pattern)


@lru_cache(maxsize=16384)
def compile_glob(pattern: str, separator: str = "") -> Predicate:
    """Return a predicate over whole texts. `separator` is `/`, `.` or empty (no character is special).

    Raises GlobError for unclosed brackets and braces, a lone backslash at the end, and over-long patterns.
    """
    if len(pattern) > MAX_GLOB_CHARS:
        raise GlobError(f"is longer than {MAX_GLOB_CHARS} characters")
    if not has_wildcard(pattern):
        return pattern.__eq__
    if separator == "/" and pattern.endswith("/**") and not has_wildcard(pattern[:-2]):
        return _starts_with(pattern[:-2])
    source, linear = _translate(pattern, separator)
    if linear:
        match = re.compile(source, re.DOTALL).fullmatch
        return lambda text: match(text) is not None
    return _re2(source)


def _starts_with(prefix: str) -> Predicate:
    return lambda text: text.startswith(prefix)


def _re2(source: str) -> Predicate:
    compiled, error = _engine()
    try:
        match = compiled(f"(?s){source}").fullmatch
    except error as problem:
        raise GlobError(f"cannot be compiled ({problem})") from None
    return lambda text: match(text) is not None


@lru_cache(maxsize=1)
def _engine() -> tuple[Callable[[str], Any], type[Exception]]:
    import re2  # noqa: PLC0415  (an extension module; only patterns with several runs need it)

    options = re2.Options()
    options.log_errors = False
    return (lambda source: re2.compile(source, options)), re2.error


def _translate(pattern: str, separator: str) -> tuple[str, bool]:
    """Return a regular expression and whether Python's `re` runs it in linear time."""
    run = f"[^{re.escape(separator)}]*" if separator else ".*"
    one = f"[^{re.escape(separator)}]" if separator else "."
    out: list[str] = []
    depth = runs = 0
    linear = True
    index = 0
    while index < len(pattern):
        char = pattern[index]
        if char == "*":
            stars = len(pattern) - index - len(pattern[index:].lstrip("*"))
            before = pattern[index - 1] if index else separator
            after = pattern[index + stars : index + stars + 1] or separator
            around = ("{", ",", "}") if depth else ()
            whole = stars == 2 and before in (separator, *around) and after in (separator, *around)
            if whole and separator == "/":
                index = _components(pattern, index, out)
                linear = linear and index >= len(pattern)
            elif whole and separator:
                out.append(".*")
                index += stars
                linear = False
            else:
                out.append(run)
                index += stars
                linear = linear and not runs
                runs += 1
            continue
        index += 1
        if char == separator:
            runs = 0
            out.append(re.escape(char))
        elif char == "?":
            out.append(one)
        elif char == "[":
            index = _char_class(pattern, index, separator, out)
        elif char == "{":
            depth, linear = depth + 1, False
            out.append("(?:")
        elif char == "}":
            if not depth:
                raise GlobError("has unmatched '}'")
            depth -= 1
            out.append(")")
        elif char == "," and depth:
            out.append("|")
        elif char == "\\":
            if index >= len(pattern):
                raise GlobError("ends in a lone backslash")
            out.append(re.escape(pattern[index]))
            index += 1
        else:
            out.append(re.escape(char))
    if depth:
        raise GlobError("has unclosed '{'")
    return "".join(out), linear


def _components(pattern: str, index: int, out: list[str]) -> int:
    """Write a `**` that is a whole component of a `/`-delimited pattern; return the index after it."""
    end = index + 2
    last = end >= len(pattern)
    if not out:
        out.append(".*" if last or end + 1 >= len(pattern) else _LEADING)
        return end + 1
    if out[-1] == _LEADING:
        if last:
            out[-1] = ".*"
        return end + 1
    if out[-1] in ("/", _BETWEEN):
        out.pop()
    crossing_on = not last and pattern[end] == "/"
    out.append(_BETWEEN if crossing_on else "/.*")
    return end + 1 if crossing_on else end


def _char_class(pattern: str, index: int, separator: str, out: list[str]) -> int:
    negated = pattern[index : index + 1] in ("!", "^")
    start = index + negated
    close = pattern.find("]", start + 1)
    if close < 0:
        raise GlobError("has unclosed '['")
    body = pattern[start:close]
    for low, high in re.findall(r"(.)-(.)", body, re.DOTALL):
        if low > high:
            raise GlobError("has a range that runs backwards")
    body = re.sub(r"([\\\]\[^&~|])", r"\\\1", body)
    dot = "." if negated and separator == "." else ""  # no class reaches across host labels
    out.append(f"[{'^' if negated else ''}{body}{dot}]")
    return close + 1


def syntax_problem(pattern: str) -> str:
    """Return what is visibly wrong with a glob (an unclosed or unmatched bracket or brace), or an empty text."""
    for opening, closing in (("[", "]"), ("{", "}")):
        depth = 0
        for char in pattern:
            if char == opening:
                depth += 1
            elif char == closing:
                if not depth:
                    return f"glob has unmatched '{closing}'"
                depth -= 1
        if depth:
            return f"glob has unclosed '{opening}'"
    return ""
