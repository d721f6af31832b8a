"""Conditions in words, for reasons, advice and `explain`. Pure: says what the policy states, no action's value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MAX_LISTED: Final = 6
MAX_TEXT_CHARS: Final = 400

_NUMBERS: Final = {"min": "at least", "max": "at most", "above": "more than", "below": "less than"}


def describe_clause(clause: Any) -> str:
    """Return a clause (true, arguments, or a list of arguments) in words; empty for one without conditions."""
    if clause is None or isinstance(clause, bool):
        return ""
    if isinstance(clause, list):
        parts = [describe_clause(item) for item in clause]
        return _short(" or ".join(f"({part})" for part in parts)) if all(parts) else ""
    return _short(" and ".join(f"{name} is {describe(condition)}" for name, condition in clause.items()))


def fields_of(clause: Any) -> tuple[str, ...]:
    """Return the names of the arguments a clause looks at."""
    if isinstance(clause, list):
        return tuple(dict.fromkeys(name for item in clause for name in item))
    return tuple(clause) if isinstance(clause, Mapping) else ()


def describe(condition: Any) -> str:
    """Return a condition in words that follow `is`."""
    if isinstance(condition, list):
        if all(not hasattr(item, "model_fields_set") for item in condition):
            return _one_of(condition)
        return " or ".join(describe(item) for item in condition)
    if not hasattr(condition, "model_fields_set"):
        return _scalar(condition)
    return " and ".join(_operators(condition)) or "anything"


def _operators(test: Any) -> list[str]:
    words: list[str] = []
    given = test.model_fields_set
    if test.present is True or test.absent is False:
        words.append("present")
    if test.absent is True or test.present is False:
        words.append("absent")
    if "equals" in given:
        words.append(_scalar(test.equals))
    for name, word in _NUMBERS.items():
        bound = getattr(test, name)
        if bound is not None:
            words.append(f"{word} {bound:g}")
    for name, word in (("in_", ""), ("not_in", "not "), ("host_in", "at "), ("not_host_in", "not at ")):
        wanted = getattr(test, name)
        if wanted is not None:
            words.append(word + _one_of(wanted))
    if test.under is not None:
        whole = test.under in (".", "./")  # "under .." reads as the folder above
        words.append("in the workspace" if whole else "under " + _one_of(test.under, bare=True))
    if test.glob is not None:
        words.append("like " + _one_of(test.glob, bare=True))
    if test.regex is not None:
        words.append(f"matching /{test.regex}/")
    if test.length is not None:
        words.append(_length(test.length))
    if test.type is not None:
        words.append(f"of type {test.type}")
    if test.json_schema is not None:
        words.append("valid by its JSON Schema")
    if test.fields is not None:
        words.append("an object where " + describe_clause(test.fields))
    if test.every is not None:
        words.append("a list with every item " + describe(test.every))
    if test.some is not None:
        words.append("a list with an item " + describe(test.some))
    if test.not_ is not None:
        words.append("not " + describe(test.not_))
    return words


def _length(length: Any) -> str:
    if isinstance(length, int):
        return f"of length {length}"
    bounds = [
        f"{word} {value}" for word, value in (("at least", length.min), ("at most", length.max)) if value is not None
    ]
    return "of length " + " and ".join(bounds)


def _one_of(values: Any, *, bare: bool = False) -> str:
    if isinstance(values, str):
        return values if bare else f"one of {values}"
    if len(values) > MAX_LISTED:
        return f"one of {len(values)} values"
    texts = [str(value) if bare else _scalar(value) for value in values]
    return texts[0] if len(texts) == 1 else "one of " + ", ".join(texts)


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (dict, list)):
        return "a given value"
    return _short(str(value))


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"
