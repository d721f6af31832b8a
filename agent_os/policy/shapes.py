"""JSON Schema as strangers write it (2020-12): arguments checked in bounded time, nothing looked up anywhere. Pure.

The schema of a tool comes from its server, the arguments from a model. Threats: a `$ref` that makes this process fetch a URL, a
pattern that backtracks without end, references that double with each level, a comparison of every item with every other.
Patterns run on RE2; one that RE2 cannot run (look-arounds), and `unevaluated*`, are left to the tool itself to check: a schema
says what a tool takes, what is allowed is the policy's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from agent_os.core.canonical import json_bytes
from agent_os.core.errors import ActionError
from agent_os.policy.globs import Matcher, PatternError, compile_regex

SCHEMA_BYTES_MAX: Final = 256 * 1024
WORK_MAX: Final = 200_000
"""Keywords looked at in one check, each counted with the length of its list; more is refused, not judged."""
SCHEMA_WORK_MAX: Final = 4_000_000
"""The same for a schema itself, when it is registered."""
REFERENCE_WORK: Final = 10
"""What following a reference counts."""
PROBLEMS_MAX: Final = 100
PATTERNS_KEPT: Final = 1_024
_LEFT: Final = ("unevaluatedItems", "unevaluatedProperties")
_work: ContextVar[list[int]] = ContextVar("agentos_shape_work")
Keyword = Callable[[Any, Any, Any, Any], Any]


class ShapeError(ValueError):
    """A schema that is none, or is larger than its bound; the message says which part."""


class Shape:
    """A compiled schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Raises ShapeError."""
        from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # noqa: PLC0415

        if len(json_bytes(schema)) > SCHEMA_BYTES_MAX:
            raise ShapeError(f"is larger than {SCHEMA_BYTES_MAX} bytes")
        validator = _validator()
        try:
            wrong = _checked(validator(validator.META_SCHEMA, registry=REGISTRY), schema, SCHEMA_WORK_MAX, 1)
        except ActionError as error:
            raise ShapeError(f"is no JSON Schema: {error}") from None
        if wrong:
            raise ShapeError(f"is no JSON Schema: {wrong[0].validator}")
        self._validator = validator(schema, registry=REGISTRY)  # INVARIANT: a registry that retrieves nothing

    def problems(self, value: Any) -> list[Any]:
        """Return what of a value does not fit (jsonschema's ValidationErrors, the first PROBLEMS_MAX), by place.

        Raises ActionError where the schema cannot be followed, or not within its bound.
        """
        found = _checked(self._validator, value, WORK_MAX, PROBLEMS_MAX)
        return sorted(found, key=lambda problem: list(map(str, problem.path)))


def _checked(validator: Any, value: Any, work: int, most: int) -> list[Any]:
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    token = _work.set([work])
    try:
        return list(islice(validator.iter_errors(value), most))
    except Unresolvable:
        raise ActionError("cannot be checked: the schema refers to what is not in it", field="args") from None
    except RecursionError:
        raise ActionError("cannot be checked: the schema goes deeper than can be followed", field="args") from None
    finally:
        _work.reset(token)


@lru_cache(maxsize=1)
def _validator() -> Any:
    """Return the validator class; jsonschema costs 40 ms, and not every runtime has schemas."""
    from jsonschema import Draft202012Validator, ValidationError, validators  # noqa: PLC0415

    def pattern(_validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[Any]:
        if isinstance(instance, str) and _found(wanted, instance) is False:
            yield ValidationError("does not match the pattern")

    def named_by_pattern(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[Any]:
        for wanted, part in patterns.items() if isinstance(instance, dict) else ():
            for name, value in instance.items():
                if _found(wanted, name):
                    yield from validator.descend(value, part, path=name, schema_path=wanted)

    def additional(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if not isinstance(instance, dict):
            return
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        extra = [
            name for name in instance if name not in known and not any(_found(p, name) is not False for p in patterns)
        ]
        if allowed is False and extra:
            yield ValidationError("has unknown names")
        for name in extra if isinstance(allowed, dict) else ():
            yield from validator.descend(instance[name], allowed, path=name)

    own: dict[str, Keyword] = {
        "pattern": pattern, "patternProperties": named_by_pattern, "additionalProperties": additional,
        "uniqueItems": unique_items,
    }  # fmt: skip
    keywords = {**Draft202012Validator.VALIDATORS, **own}
    counted = {
        name: _counted(keyword, REFERENCE_WORK if name in ("$ref", "$dynamicRef") else 1)
        for name, keyword in keywords.items()
        if name not in _LEFT
    }
    left = dict.fromkeys(_LEFT, lambda *_: ())
    extend: Any = validators.extend
    return extend(Draft202012Validator, {**counted, **left})


def unique_items(_validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    """The keyword `uniqueItems`: by what each item says, not by comparing each with each."""
    from jsonschema import ValidationError  # noqa: PLC0415

    if wanted and isinstance(instance, list) and len({json_bytes(item) for item in instance}) != len(instance):
        yield ValidationError("has an item twice")


def _counted(keyword: Keyword, work: int) -> Keyword:
    """Return a keyword that counts against the work of its check."""

    def check(validator: Any, wanted: Any, instance: Any, schema: Any) -> Any:
        left = _work.get()
        left[0] -= work + (len(wanted) if isinstance(wanted, list | dict) else 0)
        if left[0] < 0:
            raise ActionError(f"cannot be checked within {WORK_MAX} steps of the tool's schema", field="args")
        return keyword(validator, wanted, instance, schema)

    return check


def _found(pattern: Any, text: str) -> bool | None:
    """Whether a pattern is found in a text; None where RE2 cannot run it."""
    matcher = _matcher(pattern) if isinstance(pattern, str) else None
    return None if matcher is None else matcher(text)


@lru_cache(maxsize=PATTERNS_KEPT)
def _matcher(pattern: str) -> Matcher | None:
    try:
        return compile_regex(f"(?s:.*(?:{pattern}).*)")
    except PatternError:
        return None
