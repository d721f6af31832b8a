"""What a session must know again when a recorded outcome is returned without its effect: written down, and read back. Pure.

A durable task that begins again gets the outcomes of its earlier runs, and its guard is a new one. Each outcome therefore
carries a memo (`Outcome.memo`, sealed with the outcome): that its text was the user's own, that a list vouched, what label a
file had when it was read, and the value behind a handle under the number the model knows it by. Threat: a task that is
killed, or parked on purpose, and forgets that it read untrusted text; a memo may only ever repeat what was so then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.core.facts import FlowConcern
from agent_os.core.label import Label
from agent_os.core.manifest import Effect, Role, ToolSpec
from agent_os.guards.flow.evidence import scalar_text
from agent_os.guards.flow.found import Found
from agent_os.guards.flow.handles import Held
from agent_os.guards.flow.knowledge import Knowledge, scalars
from agent_os.guards.flow.sinks import is_memory

GRAVITY: Final = (
    Effect.READ, Effect.WRITE_OWN, Effect.WRITE_SHARED, Effect.SEND, Effect.PAY, Effect.EXECUTE, Effect.CREDENTIAL
)  # fmt: skip
"""Effects from harmless to grave: having asked for one is having asked for those before it."""

INNER_READS_MAX: Final = 1000
"""Reads inside one tool call whose labels are written down; of a tool that reads more, nothing vouches when it is recalled."""


@dataclass(slots=True)
class Call:
    """One run of a tool: whose it is and what was judged of it, what was read inside it, what it handed out or chose."""

    known: Knowledge
    args: Mapping[str, Any]
    spec: ToolSpec
    reads: list[dict[str, Any]] = field(default_factory=list)
    held: list[dict[str, Any]] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    warned: bool = False
    """A rule had something against it and only recorded that."""

    def read(self, source: str, path: str, label: Label | None, listed: bool) -> None:
        """Write down a read whose label is not what the tool's result alone would say."""
        if (label is not None or listed) and len(self.reads) <= INNER_READS_MAX:
            kept = label.to_json() if label is not None else None
            self.reads.append({"source": source, "path": path, "kept": kept, "listed": listed})

    def covers(self, inner: ToolSpec) -> bool:
        """Return whether judging the call has judged an inner effect of this kind as well: it is no graver."""
        return GRAVITY.index(inner.effect) <= GRAVITY.index(self.spec.effect)

    def unsettled(
        self, concerns: tuple[FlowConcern, ...], args: Mapping[str, Any], inner: ToolSpec
    ) -> tuple[FlowConcern, ...]:
        """Return the concerns of an inner effect that judging the call has not settled: nobody is asked twice for one thing.

        Settled is an effect no graver than the call's, and a value that stands among the call's own arguments as more than a
        selector. What a tool adds of itself is judged like anything else.
        """
        if not self.covers(inner):
            return concerns
        settled = {
            scalar_text(value)
            for _, name, value in scalars(self.args)
            if self.known.argument(self.spec, name, value).role is not Role.SELECTOR
        }
        inside = {pointer: scalar_text(value) for pointer, _, value in scalars(args)}
        remembers = is_memory(self.spec)
        return tuple(
            concern
            for concern in concerns
            if (concern.argument and inside.get(concern.argument, "") not in settled)
            or (concern.sink == "memory_poisoning" and not remembers)
        )

    def memo(self) -> dict[str, Any]:
        """Return what of the run the memo of its outcome says."""
        said: dict[str, Any] = {"reads": self.reads, "held": self.held, "chosen": self.chosen, "warned": self.warned}
        return {name: value for name, value in said.items() if value}


def held_form(handle: int, held: Held) -> dict[str, Any]:
    """Return a held value as a memo has it."""
    leaves = [[pointer, label.to_json()] for pointer, label in held.leaves.items()]
    return {"handle": handle, "value": held.value, "label": held.label.to_json(), "leaves": leaves}


def held_of(form: Mapping[str, Any]) -> tuple[int, Held]:
    """Return a held value and its number from a memo. Raises KeyError, ValueError, TypeError for what is none."""
    leaves = {str(pointer): Label.from_json(label) for pointer, label in form["leaves"]}
    return int(form["handle"]), Held(form["value"], Label.from_json(form["label"]), leaves)


def read_again(known: Knowledge, reads: Iterable[Mapping[str, Any]], texts: list[str]) -> None:
    """Take what was read inside a recalled tool call: labels of files, and lists that vouched; `texts` is what it returned."""
    said = list(reads)
    for read in said[:INNER_READS_MAX]:
        if read["kept"] is not None:
            if read["path"]:
                known.written.add(read["path"])
            known.guard(texts, Label.from_json(read["kept"]))
        elif read["listed"] and len(said) <= INNER_READS_MAX:
            for text in texts:
                if known.references.learn(read["source"], text):
                    known.own_texts.add(hash(text))


def said_of(
    *,
    whole: bool = False,
    listed: bool = False,
    own: list[str] | None = None,
    kept: Label | None = None,
    found: Found | None = (),
) -> dict[str, Any]:
    """Return what a recorded outcome says of itself: what made it more, or less, than its manifest says."""
    said: dict[str, Any] = {"taken": True}
    if whole:
        said["whole"] = True
    if listed:
        said["listed"] = True
    if own:
        said["own"] = own
    if kept is not None:
        said["kept"] = kept.to_json()
    if found is None or found:
        said["found"] = None if found is None else [list(span) for span in found]
    return said
