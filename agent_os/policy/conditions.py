"""Conditions on arguments, compiled to closures with three answers: True, False, None (cannot be judged). Pure.

A mapping is AND, a list OR, after Kleene: a conjunction with one False is False whatever else cannot be judged. The
caller turns None into "fires" for a restricting rule and "does not match" for an allow (law 3).
Every test is read the stricter way for its side (`wide` for asks and denies): globs cross `/`, regexes search, and any
item of a list suffices; for an allow globs stop at `/`, regexes match the whole, and every item must hold. `not` turns
the side around.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.facts import Facts
from agent_os.policy.argument_tests import (
    ITEM_TESTS,
    Check,
    ConditionError,
    Data,
    equality,
    length_test,
    schema_test,
    type_test,
)
from agent_os.policy.globs import PatternError
from agent_os.policy.values import MISSING, NORMAL

if TYPE_CHECKING:
    from agent_os.policy.schema.tools import Test

_ITEMWISE: Final = ("glob", "regex", "min", "max", "above", "below", "in_", "not_in", "under", "host_in", "not_host_in")


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
        return _per_item(equality(condition, None), wide)
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
            itemwise.append(ITEM_TESTS[name](wanted, wide, normal, data, test.as_))
        except (PatternError, ConditionError) as error:
            raise ConditionError(str(error), "." + name.rstrip("_")) from None
    if "equals" in given:
        if isinstance(test.equals, (list, dict)):
            whole.append(equality(test.equals, None))
        else:
            itemwise.append(equality(test.equals, normal))
    if test.not_ is not None:
        inner = _nested(test.not_, "not", not wide, data)
        (whole if _looks_at_whole(test.not_) else itemwise).append(_inverse(inner))
    if test.length is not None:
        whole.append(length_test(test.length))
    if test.type is not None:
        whole.append(type_test(test.type))
    if test.json_schema is not None:
        whole.append(schema_test(test.json_schema))
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
