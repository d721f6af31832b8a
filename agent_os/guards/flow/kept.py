"""Labels that outlive a session: of files, of contents wherever they were moved to, of memories. Pure but for its store.

What a session writes after it has read untrusted text is as untrusted as what it read, in every session to come. A file's
label holds for its path until the file is deleted, and for its content under any name; a memory's label holds for the
value it was given for, so that a value put there by other means is nobody's. Threat: laundering through what is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.label import TRUSTED, Integrity, Label
from agent_os.core.ports import LabelStore
from agent_os.core.principal import Principal

FILE: Final = "file"
CONTENT: Final = "content"
MEMORY: Final = "memory"


class Kept:
    """The labels of one installation as one user's session sees them; without a store they last as long as the session."""

    def __init__(self, store: LabelStore | None, principal: Principal) -> None:
        self._store = store
        self._owner = f"{principal.tenant}\0{principal.user}\0"
        self._memory: dict[str, tuple[Label, str]] = {}
        self._files: dict[str, Label] = {}

    def wrote(self, path: str, label: Label, digest: str) -> None:
        """Keep the label of a file that was written; a trusted write leaves an earlier label as it is. Raises EffectError."""
        if label.integrity is Integrity.TRUSTED and not label.confidentiality:
            return
        known = self._files.get(path)
        joined = label if known is None else known.join(label)
        self._files[path] = joined
        if self._store is None:
            return
        held = self._store.recall(FILE, path)
        if held is None or held[0].join(joined) != held[0]:
            self._store.keep(FILE, path, joined if held is None else held[0].join(joined))
        if digest and self._store.recall(CONTENT, digest) is None:
            self._store.keep(CONTENT, digest, label)

    def changed(self, paths: Sequence[str], label: Label) -> None:
        """Keep one label for many files that something else wrote. Raises EffectError."""
        fresh = [
            path for path in paths if path not in self._files or self._files[path].join(label) != self._files[path]
        ]
        for path in fresh:
            self._files[path] = label.join(self._files[path]) if path in self._files else label
        if self._store is not None and fresh:
            self._store.keep_all(FILE, fresh, label)

    def deleted(self, path: str) -> None:
        """Forget the label of a path; its content keeps its own."""
        self._files.pop(path, None)
        if self._store is not None and self._store.recall(FILE, path) is not None:
            self._store.drop(FILE, path)

    def of_file(self, path: str, content: bytes | None) -> Label | None:
        """Return the label kept for a file by its path, or else by its content; None for one nobody labelled."""
        known = self._files.get(path)
        if self._store is None:
            return known
        held = self._store.recall(FILE, path)
        if held is None and content is not None:
            held = self._store.recall(CONTENT, "sha256:" + hashlib.sha256(content).hexdigest())
        if held is None:
            return known
        return held[0] if known is None else held[0].join(known)

    def remembered(self, key: str, value: Any, label: Label) -> None:
        """Keep the label of a memory, for this value. Raises EffectError."""
        self._memory[key] = (label, _digest(value))
        if self._store is not None:
            self._store.keep(MEMORY, self._owner + key, label, _digest(value))

    def of_memory(self, key: str, value: Any) -> Label | None:
        """Return the label kept for a memory's value, or None where none was kept for this very value."""
        held = self._store.recall(MEMORY, self._owner + key) if self._store is not None else self._memory.get(key)
        return held[0] if held is not None and held[1] == _digest(value) else None


def _digest(value: Any) -> str:
    return "sha256:" + hashlib.sha256(canonical.json_bytes(value)).hexdigest()


def trusted(label: Label | None) -> bool:
    """Return whether a kept label speaks for what it belongs to."""
    return label is not None and label.integrity is TRUSTED.integrity
