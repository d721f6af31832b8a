"""Keys for reading and rotating from the command line; a rotation is an act of its operator's and stands in the
audit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from agent_os.effects.stores.identity import current_identity
from agent_os.effects.stores.keys import PURPOSES, Key, Keys
from agent_os.runtime.approvals import OPERATOR
from agent_os.runtime.state import open_state, state_directory


def _shown(key: Key, current: bool) -> dict[str, Any]:
    return {
        "purpose": key.purpose,
        "id": key.id,
        "current": current,
        "created": key.created,
        "provider": key.provider,
        "public": key.public.hex(),
    }


def list_keys(environment: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return every key that exists, without its secret; makes none."""
    keys = Keys.open(state_directory(environment=environment) / "keys", environment=environment)
    listed: list[dict[str, Any]] = []
    for purpose in PURPOSES:
        each = keys.existing(purpose)
        listed.extend(_shown(key, key is each[-1]) for key in each)
    return listed


def rotate_key(purpose: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Make a new current key of a purpose, recorded before and after. Raises EffectError."""
    state = open_state(environment=environment, writer=OPERATOR)
    try:
        who = current_identity()
        record = {"type": "key.rotating", "time": time.time(), "purpose": purpose, "user": who.user, "uid": who.uid}
        before = state.keys.current(purpose)

        async def write(entry: Mapping[str, Any]) -> None:
            await state.audit.append(entry)

        asyncio.run(write({**record, "key": before.id}))
        key = state.keys.rotate(purpose)
        asyncio.run(write({**record, "type": "key.rotated", "time": time.time(), "key": key.id}))
        return _shown(key, True)
    finally:
        state.close()
