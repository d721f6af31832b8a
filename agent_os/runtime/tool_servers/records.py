"""What is kept of tool servers: `tools/NAME.json` of the state directory, one record each, written whole.

A record holds the command, its code's digest, what each tool said of itself when a person looked, and the semantics they
accepted. Threat: a name that leaves the folder; a damaged record that is read as an accepted one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import EffectError
from agent_os.core.manifest import Needs, ToolSpec

NAME_CHARS_MAX: Final = 64


@dataclass(slots=True)
class ServerRecord:
    """A tool server as it is kept. `state`: waiting (never accepted), approved, quarantined. `tools`: shown, pin, spec."""

    name: str
    command: list[str]
    folder: str = ""
    url: str = ""
    """The address of a server elsewhere; then there is no command."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with every request to `url`; secrets stand in them as placeholders."""
    description: str = ""
    needs: Needs = field(default_factory=Needs)
    code: str = ""
    tools: list[dict[str, Any]] = field(default_factory=list)
    state: str = "waiting"
    why: list[str] = field(default_factory=list)
    shown: str = ""
    """Digest of what a person was shown last, the only thing that can be accepted."""

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        form = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "needs"}
        return {**form, "needs": self.needs.model_dump(mode="json")}

    @staticmethod
    def parse(form: Mapping[str, Any]) -> ServerRecord:
        """Return the record of a stored form."""
        values = dict(form)
        needs = Needs.model_validate(values.pop("needs"))
        return ServerRecord(**values, needs=needs)

    @property
    def where(self) -> str:
        """What is run or called, for people."""
        return self.url or " ".join(self.command)

    def specs(self) -> list[ToolSpec]:
        """Return the accepted semantics with the accepted schemas."""
        return [ToolSpec.model_validate(entry["spec"]) for entry in self.tools]


class ServerStore:
    """The records in a state directory."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "tools"

    def names(self) -> list[str]:
        """Return the names of every kept server."""
        return sorted(path.stem for path in self._folder.glob("*.json")) if self._folder.is_dir() else []

    def load(self, name: str) -> ServerRecord:
        """Return one record. Raises EffectError for an unknown name or a damaged record."""
        path = self._path(name)
        try:
            return ServerRecord.parse(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise EffectError(self._unknown(name)) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            hint = f"agentos tools remove {name}, then add it again"
            raise EffectError(f"the record of {name!r} is damaged ({type(error).__name__}): {hint}") from None

    def save(self, record: ServerRecord) -> None:
        """Write a record, whole."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(record.name)
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(record.to_json(), indent=1, sort_keys=True), encoding="utf-8")
        temporary.chmod(0o600)
        temporary.replace(path)

    def remove(self, name: str) -> None:
        """Forget a server. Raises EffectError for an unknown name."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            raise EffectError(self._unknown(name)) from None

    def _unknown(self, name: str) -> str:
        known = self.names()
        return f"no tool server {name!r}" + (f": there are {', '.join(known)}" if known else ": none was added yet")

    def _path(self, name: str) -> Path:
        return self._folder / f"{server_name(name)}.json"


def server_name(name: str) -> str:
    """Return a usable server name. Raises EffectError."""
    if not name or len(name) > NAME_CHARS_MAX or not all(c.isascii() and (c.isalnum() or c in "-_") for c in name):
        raise EffectError(
            f"{name!r} is no name for a tool server: letters, digits, '-' and '_', at most {NAME_CHARS_MAX}"
        )
    return name
