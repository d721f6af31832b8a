"""The vault: encrypted key-value entries by scope, with expiry and crypto-erasure. What reversible pseudonyms stand on.

Each scope (a session, a tenant) has a data key of its own, wrapped by the installation's `vault` key. Entry names may
be personal data themselves, so a row is found by HMAC under the scope's key, and name and value are sealed together.
Forgetting a scope deletes its data key, after which no copy of the entries can be read. Threats: a copied database; one
scope's entries read from another; an entry moved to another row; data that outlives its erasure.
"""

from __future__ import annotations

import hmac
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent_os.core.errors import ActionError, IntegrityError
from agent_os.effects.stores.database import Database
from agent_os.effects.stores.keys import Sealer

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS vault_scope(
  scope TEXT PRIMARY KEY, wrapped BLOB NOT NULL, created REAL NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vault_entry(
  scope TEXT NOT NULL REFERENCES vault_scope(scope) ON DELETE CASCADE, name BLOB NOT NULL, sealed BLOB NOT NULL,
  expires REAL NOT NULL, PRIMARY KEY(scope, name)
) WITHOUT ROWID
"""
ENTRIES_PER_SCOPE_MAX: Final = 1_000_000
ENTRY_BYTES_MAX: Final = 1 << 20
NEVER: Final = 9e15
"""An expiry that does not come."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """The data keys of one scope: one seals entries, one digests their names."""

    cipher: AESGCM
    names: bytes

    def digest(self, name: str) -> bytes:
        return hmac.digest(self.names, name.encode("utf-8", "surrogatepass"), "sha256")


class Vault:
    """Entries of text by scope and name. Scopes exist from their first `put` until `forget` or their expiry."""

    def __init__(self, database: Database, sealer: Sealer, *, now: Callable[[], float] = time.time) -> None:
        self._database, self._sealer, self._now = database, sealer, now

    async def put(
        self, scope: str, entries: Mapping[str, str], *, expires_at: float = NEVER, scope_expires_at: float = NEVER
    ) -> None:
        """Store entries (name -> value) durably; an existing name gets the new value.

        `scope_expires_at` counts when the scope is new. Times are Unix seconds. Raises ActionError for too much.
        """
        if any(len(name) + len(value) > ENTRY_BYTES_MAX // 4 for name, value in entries.items()):
            raise ActionError("an entry of the vault is too large", field="entries")

        def work(connection: sqlite3.Connection) -> None:
            keys = self._scope(connection, scope) or self._create(connection, scope, scope_expires_at)
            held = connection.execute("SELECT count(*) FROM vault_entry WHERE scope=?", (scope,)).fetchone()[0]
            if held + len(entries) > ENTRIES_PER_SCOPE_MAX:
                raise ActionError(f"a scope of the vault holds at most {ENTRIES_PER_SCOPE_MAX} entries", field="scope")
            for name, value in entries.items():
                digest = keys.digest(name)
                sealed = _seal(keys.cipher, name, value, scope, digest)
                connection.execute(
                    "INSERT OR REPLACE INTO vault_entry VALUES(?,?,?,?)", (scope, digest, sealed, expires_at)
                )

        await self._database.run(work)

    async def get(self, scope: str, name: str) -> str | None:
        """Return the value of a name, or None."""
        keys = self._database.read(lambda connection: self._scope(connection, scope))
        if keys is None:
            return None
        digest = keys.digest(name)
        row = self._database.read(
            lambda connection: connection.execute(
                "SELECT sealed FROM vault_entry WHERE scope=? AND name=? AND expires>?", (scope, digest, self._now())
            ).fetchone()
        )
        return _open(keys.cipher, row[0], scope, digest)[1] if row is not None else None

    async def load(self, scope: str) -> dict[str, str]:
        """Return every live entry of a scope."""
        keys = self._database.read(lambda connection: self._scope(connection, scope))
        if keys is None:
            return {}
        rows = self._database.read(
            lambda connection: connection.execute(
                "SELECT name, sealed FROM vault_entry WHERE scope=? AND expires>?", (scope, self._now())
            ).fetchall()
        )
        return dict(_open(keys.cipher, sealed, scope, bytes(digest)) for digest, sealed in rows)

    async def forget(self, scope: str) -> bool:
        """Destroy a scope's key and entries; False when there is no such scope."""
        return await self._database.run(
            lambda connection: connection.execute("DELETE FROM vault_scope WHERE scope=?", (scope,)).rowcount == 1
        )

    async def scopes(self, prefix: str = "") -> list[str]:
        """Return the names of live scopes that begin with `prefix`."""
        rows = self._database.read(
            lambda connection: connection.execute(
                "SELECT scope FROM vault_scope WHERE expires>? ORDER BY scope", (self._now(),)
            ).fetchall()
        )
        return [scope for (scope,) in rows if scope.startswith(prefix)]

    async def purge(self) -> int:
        """Destroy scopes and entries past their expiry; returns how many rows went."""

        def work(connection: sqlite3.Connection) -> int:
            now = self._now()
            entries = connection.execute("DELETE FROM vault_entry WHERE expires<=?", (now,)).rowcount
            return entries + connection.execute("DELETE FROM vault_scope WHERE expires<=?", (now,)).rowcount

        return await self._database.run(work)

    def _scope(self, connection: sqlite3.Connection, scope: str) -> _Scope | None:
        row = connection.execute(
            "SELECT wrapped FROM vault_scope WHERE scope=? AND expires>?", (scope, self._now())
        ).fetchone()
        return _unwrapped(self._sealer.open(row[0], b"scope " + scope.encode())) if row is not None else None

    def _create(self, connection: sqlite3.Connection, scope: str, expires_at: float) -> _Scope:
        connection.execute("DELETE FROM vault_scope WHERE scope=?", (scope,))  # one that expired
        secret = os.urandom(64)
        wrapped = self._sealer.seal(secret, b"scope " + scope.encode())
        connection.execute("INSERT INTO vault_scope VALUES(?,?,?,?)", (scope, wrapped, self._now(), expires_at))
        return _unwrapped(secret)


def _unwrapped(secret: bytes) -> _Scope:
    return _Scope(AESGCM(secret[:32]), secret[32:])


def _seal(cipher: AESGCM, name: str, value: str, scope: str, digest: bytes) -> bytes:
    first = name.encode("utf-8", "surrogatepass")
    plain = len(first).to_bytes(4, "big") + first + value.encode("utf-8", "surrogatepass")
    nonce = os.urandom(12)
    return nonce + cipher.encrypt(nonce, plain, scope.encode() + b"\0" + digest)


def _open(cipher: AESGCM, sealed: bytes, scope: str, digest: bytes) -> tuple[str, str]:
    try:
        plain = cipher.decrypt(bytes(sealed[:12]), bytes(sealed[12:]), scope.encode() + b"\0" + digest)
    except (InvalidTag, ValueError):
        raise IntegrityError("an entry of the vault was changed or is of another place") from None
    border = 4 + int.from_bytes(plain[:4], "big")
    return plain[4:border].decode("utf-8", "surrogatepass"), plain[border:].decode("utf-8", "surrogatepass")
