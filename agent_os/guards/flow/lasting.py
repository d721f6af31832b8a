"""What a session reads and writes of that which outlives it: files, memories, the user's own places. Pure but for its store.

Says which label an earlier write left on what is read now, what is the user's own, and keeps the label of what is written
(`kept.py` holds them). Threat: untrusted text that comes back as the user's own in another session, or after a program moved it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent_os.core.label import MAX_SOURCES, Confidentiality, Integrity, Label
from agent_os.core.manifest import Effect
from agent_os.core.ports import Outcome
from agent_os.guards.flow.kept import Kept, trusted
from agent_os.guards.flow.knowledge import Knowledge, scalars
from agent_os.guards.flow.references import References


class Lasting:
    """Owned by one session; children of it share `known` and `kept`."""

    def __init__(self, known: Knowledge, kept: Kept, trusted_paths: tuple[str, ...]) -> None:
        self._known, self._kept, self.trusted_paths = known, kept, trusted_paths

    def label_of(
        self, tool: str, args: Mapping[str, Any], outcome: Outcome, again: Mapping[str, Any] | None
    ) -> Label | None:
        """Return the label that an earlier write left on what was read, or that it had when it was read first."""
        if again is not None:
            return Label.from_json(again["kept"]) if "kept" in again else None
        if not outcome.ok:
            return None
        if tool == "memory.read":
            return self._kept.of_memory(str(args.get("key", "")), outcome.value)
        if tool != "fs.read":
            return None
        return self._kept.of_file(
            str(args.get("path", "")), outcome.value if isinstance(outcome.value, bytes) else None
        )

    def own_text(self, tool: str, args: Mapping[str, Any], kept: Label | None) -> bool:
        """Return whether what was read is the user's own: a trusted path, or a memory of trusted text."""
        if tool == "memory.read":
            return trusted(kept)
        path = str(args.get("path", ""))
        if tool != "fs.read" or kept is not None or path in self._known.written:
            if kept is not None and tool == "fs.read":
                self._known.written.add(path)  # no reference list either
            return False
        return any(path == known or path.startswith(known.rstrip("/") + "/") for known in self.trusted_paths)

    def remember(self, tool: str, args: Mapping[str, Any], *, again: bool) -> None:
        """Keep the label of what was written: a memory keeps it for ever, a file has lost its trust.

        What is recalled was kept when it was written; only this session must hear of it. Raises EffectError.
        """
        path = str(args.get("path", ""))
        if again:
            if tool in ("fs.write", "fs.delete") and self._known.read_untrusted:
                self._known.written.add(path)
        elif tool == "memory.write":
            value = args.get("value")
            label = self._known.label_of(value)
            held = self._held_in(value)
            self._kept.remembered(str(args.get("key", "")), value, label if held is None else held.join(label))
        elif tool == "fs.delete":
            self._kept.deleted(path)
            if self._known.read_untrusted:
                self._known.written.add(path)
        elif tool == "fs.write" and self._known.read_untrusted:
            self._known.written.add(path)
            context = self._known.context
            self._kept.wrote(
                path, Label(Integrity.UNTRUSTED, sources=context.sources), str(args.get("content_digest", ""))
            )
        elif "/" in tool or not tool.startswith(("fs.", "net.", "memory.", "message.", "task.", "process.")):
            self._guarded_write(tool, args)

    def _guarded_write(self, tool: str, args: Mapping[str, Any]) -> None:
        """Keep on a file what a tool wrote there of guarded data: the inner write shows only a digest."""
        spec = self._known.spec(tool)
        if spec.effect is Effect.READ:
            return
        paths = [str(item) for _, name, item in scalars(args) if self._known.argument(spec, name, item).type == "path"]
        found = self._held_in(args) if paths else None
        if found is not None:
            for path in paths:
                self._kept.wrote(path, replace(found, integrity=Integrity.UNTRUSTED), "")

    def _held_in(self, value: Any) -> Label | None:
        """Return the label of the guarded data in a value, or None."""
        held = [found for text in texts_of(value) if (found := self._known.secrets.found_in(text)) is not None]
        label = replace(Label.join_all(held), integrity=Integrity.TRUSTED)
        return label if label.confidentiality is not Confidentiality.PUBLIC else None

    @property
    def watched(self) -> tuple[str, ...]:
        """The workspace, and trusted places outside it."""
        outside = (path for path in self.trusted_paths if not path.startswith(self._known.workspace + "/"))
        return (self._known.workspace, *outside)

    def changed(self, paths: Sequence[str] | None) -> None:
        """Take which files a program changed; see `FlowSession.programs_wrote`. Raises EffectError."""
        if paths is None:
            self.trusted_paths = ()
            self._known.references = References()
            return
        self._known.written.update(paths)
        sources = tuple(sorted({"process", *self._known.context.sources}))[:MAX_SOURCES]
        self._kept.changed(paths, Label(Integrity.UNTRUSTED, sources=sources))


def texts_of(value: Any) -> list[str]:
    """Return the texts in a value, bytes read as text."""
    if isinstance(value, bytes):
        return [value.decode("utf-8", "replace")]
    return [item for _, _, item in scalars({"": value}) if isinstance(item, str)]
