"""What makes the guard fast where it is there, and what works without it, more slowly: rows of `agentos doctor`.

Nothing here is a layer of enforcement: every row works either way, with the same answers.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from agent_os.core.errors import EffectError
from agent_os.effects.native import NotBuiltError
from agent_os.effects.proxy.carrier import PROGRAM
from agent_os.runtime.event_loop import loop_kind

_EXTRA: Final = "pip install 'agent-os-runtime[fast]'"


@dataclass(frozen=True, slots=True)
class Part:
    """One row: what it is here, whether that is the fast form, and what the fast form would take."""

    part: str
    fast: bool
    detail: str
    fix: str = ""

    def to_json(self) -> dict[str, str | bool]:
        """Return the printable form."""
        return asdict(self)


def parts(state: Path | None) -> list[Part]:
    """Return the rows. The carrier is compiled if it was not yet: beside its sources, or in the `state` directory."""
    return [_loop(), _encoder(), _carrier(state)]


def _loop() -> Part:
    try:
        kind = loop_kind()
    except EffectError as error:
        return Part("event-loop", False, str(error))
    return Part("event-loop", kind == "uvloop", kind, "" if kind == "uvloop" else _EXTRA)


def _encoder() -> Part:
    if importlib.util.find_spec("orjson") is not None:
        return Part("json-encoder", True, "orjson")
    return Part("json-encoder", False, "the standard library's", _EXTRA)


def _carrier(state: Path | None) -> Part:
    try:
        os.close(PROGRAM.sealed(state))
    except NotBuiltError as error:
        fix = "a C compiler with the C library's headers (Debian: gcc libc6-dev)"
        return Part("tunnel-carrier", False, f"in Python: {error}", fix)
    return Part("tunnel-carrier", True, "compiled here, pinned, run from sealed memory")
