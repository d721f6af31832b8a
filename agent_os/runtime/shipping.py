"""Sending the audit on as it grows: follow the logs, make spans or events of their records, send them, remember how far.

What is sent stands durably in the audit already, so nothing here can lose or delay an action: a collector that is away is tried
again, and after a restart sending goes on where it had arrived (a batch that was cut off is sent again, with the same ids).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent_os import __version__
from agent_os.audit import export
from agent_os.audit.spans import Assembler
from agent_os.core.errors import ActionError, EffectError
from agent_os.effects.audit_read import Follower
from agent_os.effects.shipping import Destination, LineDestination, Position, SpanDestination
from agent_os.effects.stores.directory import state_path

FORMATS: Final = ("otlp", "ocsf", "jsonl")
BATCH_RECORDS_MAX: Final = 512
POLL_SECONDS: Final = 1.0
RETRY_SECONDS_MAX: Final = 60.0
HEADERS: Final = "AGENTOS_SHIP_HEADERS"
"""Headers of `ocsf` and `jsonl`, as `name=value,name=value`; those of `otlp` are OpenTelemetry's own variables."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What one look came to: records read, and what went out of them (spans or lines)."""

    records: int
    sent: int


class Shipper:
    """One destination of one state directory's audit."""

    def __init__(self, url: str, form: str, *, from_now: bool = False, environment: Mapping[str, str] | None = None):
        """Raises ActionError for a URL or format that is none, EffectError where there is no audit, MissingPartError."""
        env = os.environ if environment is None else environment
        if form not in FORMATS:
            raise ActionError(f"must be one of {', '.join(FORMATS)}", field="format")
        if not url.startswith(("http://", "https://")):
            raise ActionError("must begin with http:// or https://", field="url")
        state = state_path(env)
        if not (state / "audit").is_dir():
            raise EffectError(f"no audit here yet: {state} (set AGENTOS_STATE, or let an agent act first)")
        self._form = form
        self._position = Position(_position_file(state, url, form))
        kept = self._position.read()
        since: Mapping[str, int] | None = kept[0] if kept is not None else None if from_now else {}
        self._follower = Follower(state, since=since)
        self._assembler = Assembler(dict(kept[1]) if kept is not None else {})
        if kept is None and from_now:
            self._position.keep(self._follower.positions(), {})
        self._to: Destination = (
            SpanDestination(url, __version__)
            if form == "otlp"
            else LineDestination(url, _headers(env.get(HEADERS, "")))
        )

    def close(self) -> None:
        """Close the connection; the position is kept after each batch."""
        self._to.close()

    def step(self) -> Sent:
        """Send what has come since, at most BATCH_RECORDS_MAX records. Raises EffectError; nothing is skipped then."""
        before = self._follower.positions(), dict(self._assembler.open)
        records = self._follower.poll(BATCH_RECORDS_MAX)
        batch: list[Any]
        if self._form == "otlp":
            batch = [span for record in records for span in self._assembler.add(record)]
        else:
            batch = list(export.ocsf(records, __version__) if self._form == "ocsf" else export.jsonl(records))
        try:
            if batch:
                self._to.send(batch)
        except EffectError:
            self._follower.go_back(before[0])
            self._assembler.open = before[1]
            raise
        if records:
            self._position.keep(self._follower.positions(), self._assembler.open)
        return Sent(len(records), len(batch))

    def drain(self) -> Iterator[Sent]:
        """Yield what each look sent until nothing is left. Raises EffectError."""
        while True:
            sent = self.step()
            yield sent
            if sent.records < BATCH_RECORDS_MAX:
                return

    def run(self, tell: Callable[[str], None]) -> Iterator[Sent]:
        """Yield what each look sent, for ever; a destination that is away is told of once and tried again, ever more slowly."""
        pause, away = POLL_SECONDS, False
        while True:
            try:
                sent = self.step()
            except EffectError as error:
                if not away:
                    tell(f"{error}; trying again")
                away, pause = True, min(pause * 2, RETRY_SECONDS_MAX)
                time.sleep(pause)
                continue
            if away:
                tell("the destination takes records again")
            pause, away = POLL_SECONDS, False
            yield sent
            if sent.records < BATCH_RECORDS_MAX:
                time.sleep(pause)


def _position_file(state: Path, url: str, form: str) -> Path:
    name = hashlib.sha256(f"{form} {url}".encode()).hexdigest()[:16]
    return state / "ship" / f"{name}.json"


def _headers(text: str) -> dict[str, str]:
    headers = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ActionError("must be name=value,name=value", field=HEADERS)
        headers[name.strip()] = value.strip()
    return headers
