"""Whether a person is among those a policy names: user ids, globs of them, and `group:NAME`. Pure.

`*` stands for any run of characters. Threats: a name that reads as a pattern (only the policy's side is one); one person who
is two by writing their name in capitals.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache


def person(name: str) -> str:
    """Return by what a person is told from others: capitals, full-width letters and spaces around a name make nobody else."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def names_one_of(named: Iterable[str], user: str, groups: frozenset[str]) -> bool:
    """Return whether one of the names is this user, a glob of it, or one of its groups (`group:…`)."""
    return any(_fits(name, user, groups) for name in named)


def _fits(name: str, user: str, groups: frozenset[str]) -> bool:
    if name.startswith("group:"):
        return name in groups
    return name == user or ("*" in name and _pattern(name).fullmatch(user) is not None)


@lru_cache(1024)
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL)
