"""Installed policies: versions side by side under the state directory, one of them in force, a way back.

    policies/versions/<revision>-<digest>/…   the files of a verified bundle, never changed after they are written
    policies/state.json                       which is in force, the order they were, the highest revision ever

A version is written to the side and renamed, then `state.json` is replaced: a crash leaves the one before in force.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import EffectError, IntegrityError

MAX_VERSIONS: Final = 50
"""Older ones are forgotten first; the one in force never is."""


@dataclass(slots=True)
class Installed:
    """What is installed: `history` is the order versions came into force, the last one is in force."""

    history: list[str] = field(default_factory=list)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    highest: int | None = None

    @property
    def current(self) -> str | None:
        """The version in force."""
        return self.history[-1] if self.history else None


class PolicyVersions:
    """The installed policies of one state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> Installed:
        """Return what is installed. Raises IntegrityError for a damaged record."""
        try:
            data = json.loads((self._directory / "state.json").read_bytes())
            return Installed(list(data["history"]), dict(data["entries"]), data["highest"])
        except FileNotFoundError:
            return Installed()
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"the record of installed policies is damaged: {self._directory}") from None
        except OSError as error:
            raise EffectError(f"installed policies cannot be read: {error.strerror}") from None

    def path_of(self, version: str) -> Path:
        """Return the policy file of a version. Raises EffectError for one that is not installed."""
        entry = self.read().entries.get(version)
        if entry is None:
            raise EffectError(f"no policy version {version!r} is installed")
        return self._directory / "versions" / version / str(entry["entry"])

    def install(self, version: str, files: Mapping[str, bytes], entry: Mapping[str, Any], revision: int) -> None:
        """Write a version and put it in force. `entry` says what it is, with the policy file's path as `entry`."""
        with self._locked():
            installed = self.read()
            folder = self._directory / "versions" / version
            if not folder.is_dir():
                self._write(folder, files)
            installed.entries[version] = dict(entry)
            installed.history = [*(item for item in installed.history if item != version), version]
            installed.highest = max(revision, installed.highest if installed.highest is not None else revision)
            for old in installed.history[: -MAX_VERSIONS or None]:
                installed.history.remove(old)
                installed.entries.pop(old, None)
            self._save(installed)

    def roll_back(self, to: str | None = None) -> str:
        """Put the version before the one in force (or a named one) in force; return it. Raises EffectError."""
        with self._locked():
            installed = self.read()
            if to is None:
                if len(installed.history) < 2:
                    raise EffectError("there is no earlier policy to go back to")
                installed.history.pop()
            elif to not in installed.entries:
                known = ", ".join(installed.entries) or "none"
                raise EffectError(f"no policy version {to!r} is installed (installed: {known})")
            else:
                installed.history = [*(item for item in installed.history if item != to), to]
            self._save(installed)
            return installed.history[-1]

    def _write(self, folder: Path, files: Mapping[str, bytes]) -> None:
        fresh = folder.with_name(f".{folder.name}.{os.getpid()}.new")
        try:
            for path, data in files.items():
                target = fresh / path
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(
                    target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
                )
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(descriptor)
            os.rename(fresh, folder)
        except OSError as error:
            raise EffectError(f"the policy cannot be written: {error.strerror}: {folder}") from None

    def _save(self, installed: Installed) -> None:
        data = {"history": installed.history, "entries": installed.entries, "highest": installed.highest}
        fresh = self._directory / ".state.new"
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(json.dumps(data, indent=1).encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self._directory / "state.json")
        except OSError as error:
            raise EffectError(f"the record of installed policies cannot be written: {error.strerror}") from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            (self._directory / "versions").mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EffectError(f"installed policies cannot be written: {error.strerror}: {self._directory}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
