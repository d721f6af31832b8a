"""Where secrets are kept, behind `SecretStore`: the environment, a file, the system's keyring, or the vault.

A policy names each secret and its source (`secrets: {NAME: {from: env|file|keyring|vault, key: …}}`); nothing else is
read. Values in the vault (`agentos secret set`) are sealed under the installation's vault key and carry their own list
of destinations beside the policy's. A value leaves only through the egress guard. Threat: secrets in the agent's
environment, in files of its workspace, in logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from agent_os.core.errors import EffectError
from agent_os.effects.proxy.credentials import Secret

FILE_BYTES_MAX: Final = 64 * 1024
KEYRING_SECONDS_MAX: Final = 10.0
SCOPE: Final = "secret:"


class SecretVault(Protocol):
    """The part of the vault that is used here (effects/stores/vault.py)."""

    async def put(self, scope: str, entries: Mapping[str, str]) -> None:
        """Store entries."""
        ...

    async def get(self, scope: str, name: str) -> str | None:
        """Return one entry."""
        ...

    async def forget(self, scope: str) -> bool:
        """Destroy a scope."""
        ...

    async def scopes(self, prefix: str = "") -> list[str]:
        """Return the names of scopes."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """Where one secret is: `kind` is env, file, keyring or vault; `key` the variable, path or entry name."""

    kind: str = "env"
    key: str = ""


class SecretStores:
    """`SecretStore` over the sources a policy names."""

    def __init__(
        self, sources: Mapping[str, Source], *, vault: SecretVault | None, environment: Mapping[str, str]
    ) -> None:
        self._sources, self._vault, self._environment = dict(sources), vault, environment

    async def get(self, name: str) -> Secret | None:
        """Return a secret that the policy names, or None. Raises EffectError when its source cannot be read."""
        source = self._sources.get(name)
        if source is None:
            return None
        key = source.key or name
        if source.kind == "env":
            value = self._environment.get(key)
            return Secret(name, value) if value else None
        if source.kind == "file":
            return Secret(name, await asyncio.to_thread(read_secret_file, key))
        if source.kind == "keyring":
            value = await _asked(key)
            return Secret(name, value) if value else None
        if source.kind == "vault":
            return await self._from_vault(name, key)
        raise EffectError(f"unknown source of secret {name}: {source.kind!r}")

    async def _from_vault(self, name: str, key: str) -> Secret | None:
        if self._vault is None:
            raise EffectError("the vault is not open")
        value = await self._vault.get(SCOPE + key, "value")
        if value is None:
            return None
        destinations = json.loads(await self._vault.get(SCOPE + key, "destinations") or "[]")
        return Secret(name, value, tuple(destinations))


def read_secret_file(path: str) -> str:
    """Return the text of a secret's file without its last newline. Raises EffectError when others can read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise EffectError(f"a secret's file cannot be opened: {(error.strerror or '').lower()}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o077:
            raise EffectError("a secret's file must be a regular file of this user, closed to others (chmod 600)")
        if status.st_size > FILE_BYTES_MAX:
            raise EffectError("a secret's file is too large")
        return os.read(descriptor, FILE_BYTES_MAX).decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise EffectError("a secret's file is not text") from None
    finally:
        os.close(descriptor)


async def _asked(key: str) -> str | None:
    """Ask the keyring beside the loop: it may wait for a person to unlock it. Raises EffectError, also when late."""
    asked: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def answer(value: str | None, error: EffectError | None) -> None:
        if not asked.done():
            asked.set_exception(error) if error is not None else asked.set_result(value)

    def ask(loop: asyncio.AbstractEventLoop) -> None:
        value, error = None, None
        try:
            value = _from_keyring(key)
        except EffectError as problem:
            error = problem
        with contextlib.suppress(RuntimeError):  # the loop is over
            loop.call_soon_threadsafe(answer, value, error)

    threading.Thread(target=ask, args=(asyncio.get_running_loop(),), daemon=True, name="keyring").start()
    try:
        return await asyncio.wait_for(asked, KEYRING_SECONDS_MAX)
    except TimeoutError:
        raise EffectError("the keyring did not answer in time: is it locked?") from None


def _from_keyring(key: str) -> str | None:
    try:
        import keyring  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    except ImportError:
        raise EffectError("the keyring is not installed: pip install keyring") from None
    try:
        value: Any = keyring.get_password("agentos", key)
    except Exception as error:
        raise EffectError(f"the keyring cannot be read: {type(error).__name__}") from None
    return value if isinstance(value, str) else None


async def put_secret(vault: SecretVault, name: str, value: str, destinations: Sequence[str]) -> None:
    """Keep a secret in the vault, bound to exact destinations (`host` or `host:port`); replaces an older value."""
    await vault.put(SCOPE + name, {"value": value, "destinations": json.dumps(list(destinations))})


async def list_secrets(vault: SecretVault) -> list[dict[str, Any]]:
    """Return names and destinations of what the vault holds, never values."""
    listed = []
    for scope in sorted(await vault.scopes(SCOPE)):
        destinations = json.loads(await vault.get(scope, "destinations") or "[]")
        listed.append({"name": scope.removeprefix(SCOPE), "destinations": destinations})
    return listed


async def remove_secret(vault: SecretVault, name: str) -> bool:
    """Destroy a secret; False when there is none of that name."""
    return await vault.forget(SCOPE + name)
