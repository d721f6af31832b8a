"""Entity names of a policy that nothing finds. Pure: names in, places out; what can be found is the caller's to say.

A rule about `EMAIL`, where the detector calls it `EMAIL_ADDRESS`, would never act, and nobody would notice: the data it was
written to hold back would leave. So an unknown name is an error of `policy check`, and where such a policy is in force every
scan fails, which denies what its rules govern.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from agent_os.core import canonical
from agent_os.policy.privacy import NAME_ENTITIES

if TYPE_CHECKING:
    from agent_os.policy.schema import PolicyFile

ALWAYS: Final = frozenset({"SECRET", "UNREADABLE", "*", *NAME_ENTITIES})
"""Names that need no detector of their own: every secret, what cannot be read, anything, and names (`privacy.names`)."""


def declared(file: PolicyFile) -> frozenset[str]:
    """Return the entities that a file's own recognizers and lists report."""
    section = file.privacy
    if section is None or isinstance(section, list):
        return frozenset()
    return frozenset({item.entity for item in section.recognizers}) | frozenset(section.deny_list)


def named(file: PolicyFile) -> Iterator[tuple[str, str]]:
    """Yield (key path, name or glob) of every entity that a rule of a file asks for; rules that only allow are left out."""
    section = file.privacy
    rules = section if isinstance(section, list) else section.rules if section is not None else []
    base = "privacy" if isinstance(section, list) else "privacy.rules"
    for index, rule in enumerate(rules):
        if rule.do != "allow":
            yield from _each(rule.find, f"{base}[{index}].find")
    for index, route in enumerate(file.models.routes if file.models is not None else ()):
        if route.when is not None:
            yield from _each(route.when.finds, f"models.routes[{index}].when.finds")


def unknown(file: PolicyFile, known: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (key path, name, hint) of every name and glob of a file that meets none of the `known` entities."""
    everything = ALWAYS | frozenset(known)
    for path, name in named(file):
        if name in everything or any(fnmatchcase(entity, name) for entity in everything):
            continue
        yield path, name, _hint(name, everything)


def _each(names: list[str] | str, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(names, str):
        yield path, names
        return
    for index, name in enumerate(names):
        yield f"{path}[{index}]", name


def _hint(name: str, known: Collection[str]) -> str:
    wanted = name.upper().replace("-", "_").replace(" ", "_")
    begun = sorted(entity for entity in known if entity.startswith(wanted + "_"))
    if len(begun) == 1:
        return f"did you mean {begun[0]!r}?"
    if any(entity == wanted for entity in known):
        return f"did you mean {wanted!r}?"
    near = canonical.nearest(wanted, known)
    return (
        near if near.startswith("did you mean") else "name one the detector finds, or declare it in privacy.recognizers"
    )
