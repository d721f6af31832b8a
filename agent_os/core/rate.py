"""What a `rate` obligation says: how many calls, in which window, counted for whom. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_os.core.decision import Obligation
from agent_os.core.principal import Principal


def limit_of(obligation: Obligation) -> tuple[str, int, float, str]:
    """Return (rule, calls, window in seconds, subject kind) of a `rate` obligation."""
    params: Mapping[str, Any] = obligation.params
    return str(params["rule"]), int(params["calls"]), float(params["window_s"]), str(params["per"])


def subject(principal: Principal, per: str) -> str:
    """Return whom a limit counts for."""
    parts = {
        "tenant": (principal.tenant,),
        "user": (principal.tenant, principal.user),
        "session": (principal.tenant, principal.user, principal.session),
    }.get(per, (principal.tenant, principal.user, principal.session, *principal.parents, principal.agent))
    return "/".join(parts)
