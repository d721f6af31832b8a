"""One glob language for names, texts and paths, compiled to linear-time matchers. Pure.

`*` any run of characters except `/`, `**` any run, `?` one character except `/`, `[abc]` and `[!a-z]` classes, `{a,b}`
alternatives, `\\` quotes the next character. With `crossing=True` (restricting rules: read the stricter way) `*` and
`?` take `/` too. Threat: patterns that backtrack without end (every pattern with two or more runs goes to RE2), and
unclosed brackets that some engines take literally and others refuse (refused here).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

MAX_PATTERN_CHARS: Final = 4096
MAX_REGEX_PROGRAM: Final = 1 << 20
_MAGIC: Final = frozenset("*?[{\\")

Matcher = Callable[[str], bool]


class PatternError(ValueError):
    """A glob or regex that cannot be compiled; the message says why."""


def is_literal(pattern: str) -> bool:
    """Return whether a pattern has no special characters, so that it matches itself alone."""
    return not any(char in _MAGIC for char in pattern)


def literal_prefix(pattern: str) -> str:
    """Return the text that everything a pattern matches begins with."""
    for index, char in enumerate(pattern):
        if char in _MAGIC:
            return pattern[:index]
    return pattern


def literal_suffix(pattern: str) -> str:
    """Return the text that everything a pattern matches ends with (empty for patterns with classes or braces)."""
    if any(char in "[]{}\\" for char in pattern):
        return ""
    for index in range(len(pattern) - 1, -1, -1):
        if pattern[index] in "*?":
            return pattern[index + 1 :]
    return pattern


def compile_glob(pattern: str, *, crossing: bool = False, fold: bool = False) -> Matcher:
    """Return a predicate for a whole text. `fold` ignores case. Raises PatternError for a malformed pattern."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise PatternError(f"is longer than {MAX_PATTERN_CHARS} characters")
    if not pattern.isascii():
        pattern = unicodedata.normalize("NFC", pattern)  # names and texts are compared in this form
    if fold:
        pattern = pattern.lower()
    matcher = _simple(pattern, crossing) or _regex(_translate(pattern, crossing))
    if fold:
        return lambda text: matcher(text.lower())
    return matcher


def compile_any(patterns: Iterable[str], *, crossing: bool = False, fold: bool = False) -> Matcher:
    """Return a predicate that holds when one of several globs does; exact names are looked up in a set."""
    exact: set[str] = set()
    others: list[Matcher] = []
    for pattern in patterns:
        if is_literal(pattern):
            literal = pattern if pattern.isascii() else unicodedata.normalize("NFC", pattern)
            exact.add(literal.lower() if fold else literal)
        else:
            others.append(compile_glob(pattern, crossing=crossing, fold=fold))
    if fold:
        return lambda text: text.lower() in exact or any(match(text) for match in others)
    if not others:
        return exact.__contains__
    return lambda text: text in exact or any(match(text) for match in others)


def compile_regex(pattern: str) -> Matcher:
    """Return a predicate for a whole text by an RE2 pattern. Raises PatternError for what RE2 refuses."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise PatternError(f"is longer than {MAX_PATTERN_CHARS} characters")
    return _regex(pattern if pattern.isascii() else unicodedata.normalize("NFC", pattern))


def _simple(pattern: str, crossing: bool) -> Matcher | None:
    """Return a matcher by string methods for the common shapes: literal, `*`, `a*`, `*a`, and their `**` forms."""
    if is_literal(pattern):
        return pattern.__eq__
    run = "**" if "**" in pattern else "*"
    if run not in pattern or pattern.count("*") != len(run) or any(char in "?[{\\" for char in pattern):
        return None
    head, _, tail = pattern.partition(run)
    least = len(head) + len(tail)
    if crossing or run == "**":
        return lambda text: len(text) >= least and text.startswith(head) and text.endswith(tail)
    return lambda text: (
        len(text) >= least
        and text.startswith(head)
        and text.endswith(tail)
        and "/" not in text[len(head) : len(text) - len(tail)]
    )


def _translate(pattern: str, crossing: bool) -> str:
    one, run = (r"[\s\S]", r"[\s\S]*") if crossing else (r"[^/]", r"[^/]*")
    out: list[str] = []
    index, braces = 0, 0
    while index < len(pattern):
        char = pattern[index]
        index += 1
        if char == "*":
            if pattern[index : index + 1] == "*":
                while pattern[index : index + 1] == "*":
                    index += 1
                out.append(r"[\s\S]*")
            else:
                out.append(run)
        elif char == "?":
            out.append(one)
        elif char == "[":
            end = pattern.find("]", index + 1 if pattern[index : index + 1] != "!" else index + 2)
            if end < 0:
                raise PatternError("has an unclosed '['")
            body = pattern[index:end]
            negated = body.startswith("!")
            body = body[1:] if negated else body
            escaped = body.replace("\\", "\\\\").replace("]", "\\]").replace("^", "\\^").replace("[", "\\[")
            out.append(f"[{'^' if negated else ''}{escaped}{'/' if negated and not crossing else ''}]")
            index = end + 1
        elif char == "{":
            braces += 1
            out.append("(?:")
        elif char == "}" and braces:
            braces -= 1
            out.append(")")
        elif char == "," and braces:
            out.append("|")
        elif char == "\\":
            if index >= len(pattern):
                raise PatternError("ends in a lone '\\'")
            out.append(re.escape(pattern[index]))
            index += 1
        else:
            out.append(re.escape(char))
    if braces:
        raise PatternError("has an unclosed '{'")
    return "".join(out)


@lru_cache(maxsize=1)
def _re2() -> Any:
    import re2  # noqa: PLC0415  (a C extension that costs 10 ms; only policies with such patterns pay)

    options = re2.Options()
    options.max_mem = MAX_REGEX_PROGRAM
    options.log_errors = False
    return re2, options


def _regex(pattern: str) -> Matcher:
    re2, options = _re2()
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        detail = error.args[0] if error.args else "malformed"
        detail = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
        more = " (RE2 has no look-around)" if "perl operator: (?" in detail else ""
        raise PatternError(f"is not a valid pattern: {detail}{more}") from None

    def match(text: str) -> bool:
        return compiled.fullmatch(text) is not None

    return match
