"""What a change of policy means for what is running: which sections hold at once, which need a restart. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent_os.policy.policy import Policy
from agent_os.policy.schema import KEYS

STATIC: Final = frozenset({"filesystem_policy", "landlock", "process", "audit"})
"""Compiled into a sandbox or opened with the session: a running program keeps what it was started with. The monitor
judges by the new sections at once all the same."""
_SILENT: Final = frozenset({"version", "name", "description", "revision", "preset"})


@dataclass(frozen=True, slots=True)
class Rollout:
    """Sections that changed: those in force at once, and those for which running programs need a restart."""

    dynamic: tuple[str, ...]
    static: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything changed at all."""
        return bool(self.dynamic or self.static)


def plan_rollout(old: Policy, new: Policy) -> Rollout:
    """Return which sections differ between the policy in force and a candidate."""
    if len(old.layers) != len(new.layers):
        changed = {key for key in KEYS if key not in _SILENT}
    else:
        changed = {key for key in KEYS if key not in _SILENT and _values(old, key) != _values(new, key)}
    return Rollout(tuple(sorted(changed - STATIC)), tuple(sorted(changed & STATIC)))


def _values(policy: Policy, key: str) -> list[object]:
    return [
        [unit.pack, unit.document.value.get(key), dict(unit.data) if key == "data" else None]
        for layer in policy.layers
        for unit in layer.units
    ]
