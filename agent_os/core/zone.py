"""Time zones by name, for everything whose days and months are a place's. Pure but for the zone database of Python."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent_os.core.errors import ActionError


def zone_of(name: Any) -> ZoneInfo:
    """Return the time zone of a name. Raises ActionError when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ActionError(f"no time zone is called {name!r}", field="zone", hint="for example Europe/Berlin") from None
