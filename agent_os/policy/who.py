"""`who:` — which principals a rule is for. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent_os.core.principal import Principal
from agent_os.policy.globs import compile_any

if TYPE_CHECKING:
    from agent_os.policy.schema.base import Who

Holds = Callable[[Principal], bool]


def compile_who(who: Who | None) -> Holds | None:
    """Return a predicate on principals, or None for "everyone". Raises PatternError for a malformed glob."""
    if who is None:
        return None
    tests: list[Holds] = []
    for name in ("tenant", "user", "agent"):
        patterns = getattr(who, name)
        if patterns is not None:
            matcher = compile_any([patterns] if isinstance(patterns, str) else patterns, crossing=True)
            tests.append(lambda principal, name=name, matcher=matcher: matcher(getattr(principal, name)))  # type: ignore[misc]
    if who.depth is not None:
        least = who.depth
        tests.append(lambda principal: len(principal.parents) >= least)
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    return lambda principal: all(test(principal) for test in tests)
