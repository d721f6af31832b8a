"""Metering of a session: what a policy says of providers and teams, and the sums for the command line and `/metrics`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agent_os.effects.meter import Meter
from agent_os.effects.stores.directory import state_path
from agent_os.effects.stores.usage import UsageStore

if TYPE_CHECKING:
    from agent_os.policy import Policy
    from agent_os.runtime.state import State


def metered(policy: Policy, state: State) -> Meter:
    """Return the state's audit with a meter in front of it, which knows the policy's tiers and teams."""
    tier, team = _terms(policy)
    return Meter(state.audit, state.usage, tier=tier, team=team)


def rated(audit: Any, policy: Policy) -> None:
    """Let the meter of a session count by another policy's tiers and teams from here on."""
    if isinstance(audit, Meter):
        tier, team = _terms(policy)
        audit.reconfigure(tier=tier, team=team)


def _terms(policy: Policy) -> tuple[Callable[[str], str], Callable[[str], str]]:
    teams: dict[str, str] = {}
    for layer in policy.layers:
        for unit in layer.units:
            listed = unit.data.get("teams")
            teams.update({str(user): str(team) for user, team in listed.items()} if isinstance(listed, Mapping) else {})
    return policy.prices.tier, lambda user: teams.get(user, "")


def usage_rows(
    by: str,
    per: str,
    *,
    since: str = "",
    where: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return what models used, by a key and a period, without opening anything for writing; empty if nothing was counted."""
    store = UsageStore(state_path(os.environ if environment is None else environment))
    return store.sums(by, per, since=since, where=where)
