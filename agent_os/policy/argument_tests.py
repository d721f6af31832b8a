"""The tests that a condition is made of, each on one value: True, False, or None where it cannot be judged. Pure.

`wide` is the side of asks and denies, on which a test is read the stricter way (`conditions.py` puts tests together).
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError
from agent_os.core.facts import Facts
from agent_os.policy.globs import PatternError, compile_any, compile_regex
from agent_os.policy.shapes import unique_items
from agent_os.policy.values import ValueSet, equals, host_glob, host_of, kind_of, pluck

Check = Callable[[Any, Facts], bool | None]
"""(the argument's value or MISSING, facts) -> True, False or None."""
Data = Mapping[str, Any]
"""Sets of `data:` by name; a set that only the runtime can read is absent and looked up in the facts."""

MAX_SCHEMA_PATTERN_CHARS: Final = 1000


class ConditionError(ValueError):
    """A condition that cannot be compiled; `path` is where, below the condition."""

    def __init__(self, message: str, path: str = "") -> None:
        self.path = path
        super().__init__(message)


def equality(expected: Any, normal: Any) -> Check:
    if isinstance(expected, str) and normal is not None:
        expected = normal(expected)
    kind = kind_of(expected)

    def check(value: Any, _facts: Facts) -> bool | None:
        if isinstance(value, str) and normal is not None:
            value = normal(value)
            if value is None:
                return None
        if kind_of(value) != kind:
            return None
        return equals(value, expected)

    return check


def _textual(match: Callable[[str], bool], normal: Any) -> Check:
    def check(value: Any, _facts: Facts) -> bool | None:
        if not isinstance(value, str):
            return None
        if normal is not None:
            value = normal(value)
        elif not value.isascii():
            value = unicodedata.normalize("NFC", value)
        return None if value is None else match(value)

    return check


def _glob(wanted: Any, wide: bool, normal: Any, _data: Data, name: str | None) -> Check:
    patterns = [wanted] if isinstance(wanted, str) else wanted
    return _textual(compile_any(patterns, crossing=wide, fold=name in ("lower", "email", "host", "iban")), normal)


def _regex(wanted: str, wide: bool, normal: Any, _data: Data, _name: str | None) -> Check:
    return _textual(compile_regex(f"(?s:.*(?:{wanted}).*)" if wide else wanted), normal)


def _bound(holds: Callable[[float, float], bool]) -> Callable[..., Check]:
    def build(wanted: float, _wide: bool, _normal: Any, _data: Data, _name: str | None) -> Check:
        def check(value: Any, _facts: Facts) -> bool | None:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                return None
            return holds(value, wanted)

        return check

    return build


def _among(inside: bool) -> Callable[..., Check]:
    def build(wanted: Any, _wide: bool, normal: Any, data: Data, _name: str | None) -> Check:
        find = _set(wanted, normal, data)

        def check(value: Any, facts: Facts) -> bool | None:
            known = find(facts)
            answer = None if known is None else known.holds(value)
            return None if answer is None else answer is inside

        return check

    return build


def _set(wanted: Any, normal: Any, data: Data) -> Callable[[Facts], ValueSet | None]:
    if not isinstance(wanted, str):
        fixed = ValueSet(wanted, normal)
        return lambda _facts: fixed
    name, *fields = wanted.split(".")[1:]
    if name in data:
        values = pluck(data[name], fields)
        if values is None:
            raise ConditionError(f"{wanted} names no values of that data set")
        found = ValueSet(values, normal)
        return lambda _facts: found

    def look_up(facts: Facts) -> ValueSet | None:
        values = pluck(facts.data[name], fields) if name in facts.data else None
        return None if values is None else ValueSet(values, normal)

    return look_up


def _under(wanted: Any, _wide: bool, _normal: Any, _data: Data, _name: str | None) -> Check:
    roots = [wanted] if isinstance(wanted, str) else wanted
    for root in roots:
        if ".." in root.split("/") or root.startswith("~"):
            raise ConditionError("must not contain '..' or start with '~'")

    def check(value: Any, facts: Facts) -> bool | None:
        if not isinstance(value, str):
            return None
        try:
            path = canonical.path(value, root=facts.workspace)
            for root in roots:
                base = canonical.path(root, root=facts.workspace)
                if path == base or path.startswith(base if base == "/" else base + "/"):
                    return True
        except ActionError:
            return None
        return False

    return check


def _host(inside: bool) -> Callable[..., Check]:
    def build(wanted: Any, wide: bool, _normal: Any, data: Data, _name: str | None) -> Check:
        side = wide if inside else not wide
        if isinstance(wanted, str):
            find = _set(wanted, host_of, data)
            return _host_check(lambda host, facts: _in_set(find(facts), host), inside)
        match = compile_any(map(host_glob, wanted), crossing=side)
        return _host_check(lambda host, _facts: match(host.replace(".", "/")), inside)

    return build


def _in_set(known: ValueSet | None, host: str) -> bool | None:
    return None if known is None else known.holds(host)


def _host_check(holds: Callable[[str, Facts], bool | None], inside: bool) -> Check:
    def check(value: Any, facts: Facts) -> bool | None:
        host = host_of(value) if isinstance(value, str) else None
        answer = None if host is None else holds(host, facts)
        return None if answer is None else answer is inside

    return check


ITEM_TESTS: Final[Mapping[str, Callable[..., Check]]] = {
    "glob": _glob,
    "regex": _regex,
    "min": _bound(lambda value, bound: value >= bound),
    "max": _bound(lambda value, bound: value <= bound),
    "above": _bound(lambda value, bound: value > bound),
    "below": _bound(lambda value, bound: value < bound),
    "in_": _among(True),
    "not_in": _among(False),
    "under": _under,
    "host_in": _host(True),
    "not_host_in": _host(False),
}


def length_test(wanted: Any) -> Check:
    least, most = (wanted, wanted) if isinstance(wanted, int) else (wanted.min or 0, wanted.max)
    if most is not None and least > most:
        raise ConditionError("the least length is above the greatest", ".length")

    def check(value: Any, _facts: Facts) -> bool | None:
        if not isinstance(value, (str, list, dict)):
            return None
        return len(value) >= least and (most is None or len(value) <= most)

    return check


def type_test(wanted: str) -> Check:
    if wanted == "integer":
        return lambda value, _facts: isinstance(value, int) and not isinstance(value, bool)
    return lambda value, _facts: kind_of(value) == wanted


def schema_test(schema: dict[str, Any]) -> Check:
    """Return a check by JSON Schema 2020-12; patterns run on RE2, references stay inside the schema."""
    import jsonschema  # noqa: PLC0415  (60 ms; only policies that use it pay)

    _refuse_keywords(schema)

    def pattern(_validator: Any, wanted: Any, instance: Any, _schema: Any) -> Any:
        if isinstance(instance, str) and not compile_regex(f"(?s:.*(?:{wanted}).*)")(instance):
            yield jsonschema.ValidationError("does not match the pattern")

    extend: Any = jsonschema.validators.extend
    validator_class = extend(jsonschema.Draft202012Validator, {"pattern": pattern, "uniqueItems": unique_items})
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConditionError(f"is not a JSON Schema: {error.message}", ".json_schema") from None
    validator = validator_class(schema)
    return lambda value, _facts: bool(validator.is_valid(value))


def _refuse_keywords(schema: Any) -> None:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("patternProperties", "$dynamicRef", "$id", "$anchor") and not isinstance(value, bool):
                raise ConditionError(f"{key} is not supported here", ".json_schema")
            if key == "$ref" and not (isinstance(value, str) and value.startswith("#")):
                raise ConditionError("$ref must stay inside the schema", ".json_schema")
            if key == "pattern" and isinstance(value, str):
                if len(value) > MAX_SCHEMA_PATTERN_CHARS:
                    raise ConditionError(f"has a pattern of over {MAX_SCHEMA_PATTERN_CHARS} characters", ".json_schema")
                try:
                    compile_regex(value)
                except PatternError as error:
                    raise ConditionError(str(error), ".json_schema") from None
            _refuse_keywords(value)
    elif isinstance(schema, list):
        for item in schema:
            _refuse_keywords(item)
