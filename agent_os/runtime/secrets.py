"""Secrets in the vault, for the command line: set, list, remove. Values go in and never come out here."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError
from agent_os.effects.proxy.credentials import SECRET_BYTES_MIN
from agent_os.effects.secret_store import list_secrets, put_secret, remove_secret
from agent_os.effects.stores.identity import current_identity
from agent_os.runtime.approvals import OPERATOR
from agent_os.runtime.state import open_state

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def check_secret(name: str, value: str, destinations: Sequence[str]) -> list[str]:
    """Return canonical destinations. Raises ActionError naming what is wrong and how to mend it."""
    if not _NAME.fullmatch(name):
        raise ActionError("must be letters, digits and _", field="name", hint="like API_KEY")
    if len(value) < SECRET_BYTES_MIN:
        raise ActionError(f"must have at least {SECRET_BYTES_MIN} characters", field="value", hint="echoes are masked")
    if not value.isprintable():
        raise ActionError("holds control characters", field="value", hint="one line, without the line break")
    if not destinations:
        raise ActionError("names no destination", field="to", hint="--to api.example.com, once for each host")
    result = []
    for destination in destinations:
        host, port = canonical.split_authority(destination, field="to")
        result.append(f"{host}:{port}" if port else host)
    return result


def set_secret(
    name: str, value: str, destinations: Sequence[str], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Keep a secret, bound to destinations; recorded by name."""
    bound = check_secret(name, value, destinations)

    async def work(vault: Any) -> None:
        await put_secret(vault, name, value, bound)

    _recorded("secret.set", name, work, environment)
    return {"name": name, "destinations": bound}


def drop_secret(name: str, environment: Mapping[str, str] | None = None) -> bool:
    """Destroy a secret; False when there was none."""

    async def work(vault: Any) -> bool:
        return await remove_secret(vault, name)

    return bool(_recorded("secret.removed", name, work, environment))


def held_secrets(environment: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return names and destinations."""
    state = open_state(environment=environment, writer=OPERATOR)
    try:
        return asyncio.run(list_secrets(state.stores.vault))
    finally:
        state.close()


def _recorded(
    what: str, name: str, work: Callable[[Any], Awaitable[Any]], environment: Mapping[str, str] | None
) -> Any:
    state = open_state(environment=environment, writer=OPERATOR)
    try:
        who = current_identity()

        async def run() -> Any:
            await state.audit.append(
                {"type": what, "time": time.time(), "secret": name, "user": who.user, "uid": who.uid}
            )
            return await work(state.stores.vault)

        return asyncio.run(run())
    finally:
        state.close()
