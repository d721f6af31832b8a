"""Conditions on arguments, compiled to closures with three answers: True, False, None (cannot be judged). Pure.

A mapping is AND, a list OR, after Kleene: a conjunction with one False is False whatever else cannot be judged. The
caller turns None into "fires" for a restricting rule and "does not match" for an allow (law 3).
Every test is read the stricter way for its side (`wide` for asks and denies): globs cross `/`, regexes search, and any
item of a list suffices; for an allow globs stop at `/`, regexes match the whole, and every item must hold. `not` turns
the side around.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError
from agent_os.core.facts import Facts
from agent_os.policy.globs import PatternError, compile_any, compile_regex
from agent_os.policy.shapes import unique_items
from agent_os.policy.values import MISSING, NORMAL, ValueSet, equals, host_glob, host_of, kind_of, pluck

if TYPE_CHECKING:
    from agent_os.policy.schema.tools import Test

Check = Callable[[Any, Facts], bool | None]
"""(the argument's value or MISSING, facts) -> True, False or None."""
Data = Mapping[str, Any]
"""Sets of `data:` by name; a set that only the runtime can read is absent and looked up in the facts."""

MAX_SCHEMA_PATTERN_CHARS: Final = 1000
_ITEMWISE: Final = ("glob", "regex", "min", "max", "above", "below", "in_", "not_in", "under", "host_in", "not_host_in")


class ConditionError(ValueError):
    """A condition that cannot be compiled; `path` is where, below the condition."""

    def __init__(self, message: str, path: str = "") -> None:
        self.path = path
        super().__init__(message)


def compile_condition(condition: Any, *, wide: bool, data: Data) -> Check:
    """Return the check of a condition of the schema (scalar, Test or list). Raises ConditionError."""
    if isinstance(condition, list):
        parts = []
        for index, item in enumerate(condition):
            try:
                parts.append(compile_condition(item, wide=wide, data=data))
            except ConditionError as error:
                raise ConditionError(str(error), f"[{index}]{error.path}") from None
        return _either(parts)
    if isinstance(condition, (str, int, float, bool)) or condition is None:
        return _per_item(_equal(condition, None), wide)
    return _compile_test(condition, wide, data)


def compile_arguments(
    arguments: Mapping[str, Any], *, wide: bool, data: Data
) -> Callable[[Mapping[str, Any], Facts], bool | None]:
    """Return the check of a mapping argument -> condition over the arguments of a call. Raises ConditionError."""
    checks: list[tuple[Callable[[Mapping[str, Any]], Any], Check]] = []
    for name, condition in arguments.items():
        try:
            check = compile_condition(condition, wide=wide, data=data)
        except ConditionError as error:
            raise ConditionError(str(error), f".{name}{error.path}") from None
        checks.append((_getter(name), check))
    if len(checks) == 1:
        get, only = checks[0]
        return lambda given, facts: only(get(given), facts)

    def judge(given: Mapping[str, Any], facts: Facts) -> bool | None:
        result: bool | None = True
        for get, check in checks:
            answer = check(get(given), facts)
            if answer is False:
                return False
            if answer is None:
                result = None
        return result

    return judge


def _getter(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return the reader of one argument; a name that starts with `/` is an RFC 6901 pointer into the arguments."""
    if not name.startswith("/"):
        return lambda given: given.get(name, MISSING)
    keys = [part.replace("~1", "/").replace("~0", "~") for part in name[1:].split("/")]

    def get(given: Any) -> Any:
        value: Any = given
        for key in keys:
            if isinstance(value, Mapping):
                value = value.get(key, MISSING)
            elif isinstance(value, (list, tuple)) and key.isdecimal() and len(key) < 10 and int(key) < len(value):
                value = value[int(key)]
            else:
                return MISSING
        return value

    return get


def _either(parts: Sequence[Check]) -> Check:
    def check(value: Any, facts: Facts) -> bool | None:
        result: bool | None = False
        for part in parts:
            answer = part(value, facts)
            if answer is True:
                return True
            if answer is None:
                result = None
        return result

    return check


def _both(parts: Sequence[Check]) -> Check:
    if len(parts) == 1:
        return parts[0]

    def check(value: Any, facts: Facts) -> bool | None:
        result: bool | None = True
        for part in parts:
            answer = part(value, facts)
            if answer is False:
                return False
            if answer is None:
                result = None
        return result

    return check


def _per_item(check: Check, wide: bool) -> Check:
    """Judge a list item by item: any item for a restriction, every item for an allow; anything else as it is."""

    def judge(value: Any, facts: Facts) -> bool | None:
        if type(value) is not list:
            return None if value is MISSING else check(value, facts)
        answers = [check(item, facts) for item in value]
        if wide:
            return True if True in answers else None if None in answers else False
        return False if False in answers else None if None in answers else True

    return judge


def _equal(expected: Any, normal: Any) -> Check:
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


def _compile_test(test: Test, wide: bool, data: Data) -> Check:
    given = test.model_fields_set
    normal = NORMAL[test.as_] if test.as_ else None
    presence: bool | None = None
    if test.present is not None or test.absent is not None:
        presence = test.present if test.present is not None else not test.absent
        if test.present is not None and test.absent is not None and test.present == test.absent:
            raise ConditionError("present and absent contradict each other")
    itemwise: list[Check] = []
    whole: list[Check] = []
    for name in _ITEMWISE:
        wanted = getattr(test, name)
        if wanted is None:
            continue
        try:
            itemwise.append(_ITEM_TESTS[name](wanted, wide, normal, data, test.as_))
        except (PatternError, ConditionError) as error:
            raise ConditionError(str(error), "." + name.rstrip("_")) from None
    if "equals" in given:
        if isinstance(test.equals, (list, dict)):
            whole.append(_equal(test.equals, None))
        else:
            itemwise.append(_equal(test.equals, normal))
    if test.not_ is not None:
        inner = _nested(test.not_, "not", not wide, data)
        (whole if _looks_at_whole(test.not_) else itemwise).append(_inverse(inner))
    if test.length is not None:
        whole.append(_length(test.length))
    if test.type is not None:
        whole.append(_type(test.type))
    if test.json_schema is not None:
        whole.append(_json_schema(test.json_schema))
    if test.fields is not None:
        whole.append(_fields(test.fields, wide, data))
    if test.every is not None:
        whole.append(_quantified(_nested(test.every, "every", wide, data), every=True))
    if test.some is not None:
        whole.append(_quantified(_nested(test.some, "some", wide, data), every=False))
    parts = list(whole)
    if itemwise:
        parts.insert(0, _per_item(_both(itemwise), wide))
    return _with_presence(presence, _both(parts) if parts else None)


def _with_presence(presence: bool | None, rest: Check | None) -> Check:
    def check(value: Any, facts: Facts) -> bool | None:
        if value is MISSING:
            return None if presence is None else not presence
        if presence is False:
            return False
        return True if rest is None else rest(value, facts)

    return check


def _looks_at_whole(condition: Any) -> bool:
    if isinstance(condition, list):
        return any(_looks_at_whole(item) for item in condition)
    given: set[str] = getattr(condition, "model_fields_set", set())
    return bool(given & {"length", "type", "json_schema", "fields", "every", "some", "present", "absent"})


def _nested(condition: Any, name: str, wide: bool, data: Data) -> Check:
    try:
        return compile_condition(condition, wide=wide, data=data)
    except ConditionError as error:
        raise ConditionError(str(error), f".{name}{error.path}") from None


def _inverse(inner: Check) -> Check:
    def check(value: Any, facts: Facts) -> bool | None:
        answer = inner(value, facts)
        return None if answer is None else not answer

    return check


# ---- tests on one value ---------------------------------------------------------------------------------------------


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


_ITEM_TESTS: Final[Mapping[str, Callable[..., Check]]] = {
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


# ---- tests on the whole argument ------------------------------------------------------------------------------------


def _length(wanted: Any) -> Check:
    least, most = (wanted, wanted) if isinstance(wanted, int) else (wanted.min or 0, wanted.max)
    if most is not None and least > most:
        raise ConditionError("the least length is above the greatest", ".length")

    def check(value: Any, _facts: Facts) -> bool | None:
        if not isinstance(value, (str, list, dict)):
            return None
        return len(value) >= least and (most is None or len(value) <= most)

    return check


def _type(wanted: str) -> Check:
    if wanted == "integer":
        return lambda value, _facts: isinstance(value, int) and not isinstance(value, bool)
    return lambda value, _facts: kind_of(value) == wanted


def _fields(fields: Mapping[str, Any], wide: bool, data: Data) -> Check:
    try:
        judge = compile_arguments(fields, wide=wide, data=data)
    except ConditionError as error:
        raise ConditionError(str(error), ".fields" + error.path) from None
    return lambda value, facts: judge(value, facts) if isinstance(value, dict) else None


def _quantified(check: Check, *, every: bool) -> Check:
    def judge(value: Any, facts: Facts) -> bool | None:
        if not isinstance(value, list):
            return None
        answers = [check(item, facts) for item in value]
        if every:
            return False if False in answers else None if None in answers else True
        return True if True in answers else None if None in answers else False

    return judge


def _json_schema(schema: dict[str, Any]) -> Check:
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
                try:
                    compile_regex(value[:MAX_SCHEMA_PATTERN_CHARS])
                except PatternError as error:
                    raise ConditionError(str(error), ".json_schema") from None
            _refuse_keywords(value)
    elif isinstance(schema, list):
        for item in schema:
            _refuse_keywords(item)
