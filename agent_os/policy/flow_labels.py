"""Which findings of the detectors label a result, as a policy asks for it (`flow.find`). Pure.

Every file's wishes count together: a finding that any of them asks for is a label, and labels only restrict. A rule of
another section that names the tag `pii` or `secret` asks for that tag too: a route or a privacy rule that waits for
labelled data would never fire otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from agent_os.policy.policy import Policy

SECRET: Final = "secret"  # noqa: S105 - the name of a tag
PERSONAL: Final = "pii"
TAGS: Final = frozenset({SECRET, PERSONAL})
VAGUE: Final = frozenset({"DATE_TIME", "AGE", "URL", "LOCATION", "ORGANIZATION", "NRP", "UNREADABLE"})
"""Kinds that `pii` does not mean: they name nobody by themselves. A file may name them one by one."""
NAMES: Final = frozenset({"PERSON"})
"""Kinds that `pii` tags and that are not looked for in what leaves: a name by itself tells little, and stands everywhere."""
ENTITY: Final = re.compile(r"[A-Z*?][A-Z0-9_*?]{1,63}")


def wanted(policy: Policy) -> Callable[[str], tuple[str, bool]] | None:
    """Return what gives an entity name its tag, and whether its values are looked for in what leaves; None: no file asks."""
    asked = frozenset(_asked(policy))
    if not asked or not any(True for _ in policy.sections("flow")):
        return None
    named = tuple(sorted(asked - TAGS))
    known: dict[str, tuple[str, bool]] = {}

    def tag_of(entity: str) -> tuple[str, bool]:
        if entity not in known:
            known[entity] = _tag(entity, asked, named)
        return known[entity]

    return tag_of


def asks_personal(policy: Policy) -> bool:
    """Return whether a file asks for more than secrets."""
    return any(name != SECRET and not name.startswith("SECRET") for name in _asked(policy))


def _tag(entity: str, asked: frozenset[str], named: tuple[str, ...]) -> tuple[str, bool]:
    tag = SECRET if entity.startswith("SECRET") else PERSONAL
    if any(fnmatchcase(entity, pattern) for pattern in named):
        return tag, True
    if tag not in asked or entity in VAGUE:
        return "", False
    return tag, entity not in NAMES


def _asked(policy: Policy) -> Iterator[str]:
    for section, _layer, _unit in policy.sections("flow"):
        yield from section.find
    for section, _layer, _unit in policy.sections("privacy"):
        rules = section if isinstance(section, (list, tuple)) else section.rules
        yield from _tags(rule.labels for rule in rules)
    for section, _layer, _unit in policy.sections("models"):
        yield from _tags(route.when.labels for route in section.routes if route.when is not None)


def _tags(named: Iterable[Any]) -> Iterator[str]:
    for labels in named:
        yield from TAGS.intersection(labels)
