"""Mailboxes in `state.db` or a shared PostgreSQL: messages lie sealed and signed until they are old.

Reading takes nothing away (a reader says what it has read by the id it reads after), so that a run that begins again after
a crash reads the same again. Threats: a message edited or moved to another box in the file, a box that fills up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from agent_os.core.canonical import json_bytes
from agent_os.core.errors import EffectError, IntegrityError
from agent_os.core.label import Label
from agent_os.core.mail import Mail
from agent_os.core.principal import Principal
from agent_os.effects.stores.database import Storage
from agent_os.effects.stores.keys import Sealer

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS mail(
  id TEXT PRIMARY KEY, box TEXT NOT NULL, at REAL NOT NULL, sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS mail_box ON mail(box, at, id)
"""
BOX_MESSAGES_MAX: Final = 1_000
KEEP_SECONDS: Final = 30 * 86_400.0
READ_MAX: Final = 100


class Mailboxes:
    """The mailboxes of one installation. The first of `keys` is what messages are signed with; older ones still hold."""

    def __init__(self, database: Storage, sealer: Sealer, keys: Sequence[bytes]) -> None:
        self._database, self._sealer, self._keys = database, sealer, tuple(keys)

    @property
    def key(self) -> bytes:
        """What messages are signed with."""
        return self._keys[0]

    async def put(self, mail: Mail) -> bool:
        """Store a signed message; False when it lies there already. Raises EffectError when the box is full."""
        if not mail.signed_by(self._keys):
            raise IntegrityError("a message that this runtime did not sign")
        data = {
            "to": mail.to, "sender": mail.sender.to_json(), "body": mail.body, "label": mail.label.to_json(),
            "signature": mail.signature,
        }  # fmt: skip
        sealed = self._sealer.seal(json_bytes(data), _context(mail.id, mail.box))

        def work(connection: Any) -> bool:
            connection.execute("DELETE FROM mail WHERE box=? AND at<?", (mail.box, mail.at - KEEP_SECONDS))
            held = connection.execute("SELECT count(*) FROM mail WHERE box=?", (mail.box,)).fetchone()[0]
            if held >= BOX_MESSAGES_MAX:
                raise EffectError(f"the mailbox of {mail.to!r} is full: {held} messages")
            row = (mail.id, mail.box, mail.at, sealed)
            added: int = connection.execute("INSERT INTO mail VALUES(?,?,?,?) ON CONFLICT DO NOTHING", row).rowcount
            return added == 1

        return await self._database.run(work)

    async def read(self, box: str, *, after: str = "", limit: int = READ_MAX) -> list[Mail]:
        """Return messages of a box, oldest first, those after an id. Raises IntegrityError for one that was changed."""
        limit = max(1, min(limit, READ_MAX))

        def work(connection: Any) -> list[Any]:
            since: tuple[float, str] = (-1.0, "")
            if after:
                row = connection.execute("SELECT at, id FROM mail WHERE id=? AND box=?", (after, box)).fetchone()
                since = (row[0], row[1]) if row is not None else since
            found: list[Any] = connection.execute(
                "SELECT id, box, at, sealed FROM mail WHERE box=? AND (at>? OR (at=? AND id>?)) ORDER BY at, id LIMIT ?",
                (box, since[0], since[0], since[1], limit),
            ).fetchall()
            return found

        return [self._mail(row) for row in await self._database.run(work)]

    def _mail(self, row: Any) -> Mail:
        data = json.loads(self._sealer.open(bytes(row[3]), _context(row[0], row[1])))
        mail = Mail(
            id=row[0],
            box=row[1],
            to=data["to"],
            sender=Principal.parse(data["sender"]),
            at=row[2],
            body=data["body"],
            label=Label.from_json(data["label"]),
            signature=data["signature"],
        )
        if not mail.signed_by(self._keys):
            raise IntegrityError(f"the message {mail.id} was changed where it lay")
        return mail


def _context(mail: str, box: str) -> bytes:
    return json_bytes(["mail", mail, box])
