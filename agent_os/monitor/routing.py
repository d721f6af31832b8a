"""Carries out what a policy's `models:` section obliges: where a model call goes, and how long its answer may be. Pure.

The rewritten call is decided again (law 9). Failover is not done here: another provider is another action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agent_os.core.action import Action, ModelCall
from agent_os.core.decision import Obligation
from agent_os.core.errors import EffectError

ROUTING: Final = frozenset({"route", "clamp"})


def routed(action: Action, obligations: Sequence[Obligation]) -> Action:
    """Return the action with `route` and `clamp` obligations carried out.

    `route` has `use` (provider names, best first) and `model`; `clamp` has `max_tokens`, and the least of several holds.
    Raises EffectError for an obligation that cannot be carried out on this action.
    """
    if not obligations:
        return action
    if not isinstance(action, ModelCall):
        raise EffectError("only a model call can be routed or clamped")
    changes: dict[str, Any] = {}
    routes = [item for item in obligations if item.kind == "route"]
    if routes:
        wanted = [(tuple(item.params.get("use") or ()), item.params.get("model")) for item in routes]
        uses, models = [use for use, _ in wanted], {model for _, model in wanted if model}
        common = [name for name in uses[0] if all(name in use for use in uses)]
        if not common or len(models) > 1:
            raise EffectError("the routes of several rules contradict each other")
        if action.provider not in common:
            changes["provider"] = common[0]
        if models:
            changes["model"] = models.pop()
    limits = [item.params["max_tokens"] for item in obligations if item.kind == "clamp"]
    if limits:
        least = min(limits)
        changes["max_tokens"] = min(least, action.max_tokens) if action.max_tokens else least
    return action.rewritten(**changes) if changes else action
