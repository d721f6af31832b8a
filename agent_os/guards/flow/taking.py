"""Taking a result: what it says, leaf by leaf, goes into what the session knows. Pure but for that state.

Work is done in pieces: `taking` yields between them, so that whoever drives it on an event loop can let others run while a
large result is looked through (`monitor/outcomes.py`); `take` does it at once. While a result is being taken, the session's
evidence is not whole: `Knowledge.busy` says so, and what is judged meanwhile waits. Threat: a result whose trusted fields are
counted before all rivals are known; a result that stops every other session of the process while it is read.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agent_os.core.label import TRUSTED, UNTRUSTED, Confidentiality, Integrity, Label
from agent_os.core.manifest import Effect, Role, ToolSpec
from agent_os.guards.flow import derive, forms, kinds, leaves, normal
from agent_os.guards.flow.days import days_in
from agent_os.guards.flow.evidence import Entry, scalar_text, trusted
from agent_os.guards.flow.found import Found, Marks
from agent_os.guards.flow.knowledge import Knowledge, kind_of, named_kind, scalars
from agent_os.guards.flow.select import number_of

DRAFTED_CHARS_MAX: Final = 40
"""A field that a draft calls trusted and that is longer, or of several words, counts as read untrusted text as well."""
LEAVES_AT_ONCE: Final = 200
"""Leaves, or records, after which whoever drives the work may let others run."""


@dataclass(frozen=True, slots=True)
class _Taking:
    """How one result is taken: where it is from, whether it brought something into being, whether it vouches."""

    source: str
    creates: bool
    counts: bool
    echoes: set[str]
    after: list[Entry] = field(default_factory=list)
    unread: bool = False


@dataclass(slots=True)
class Taken:
    """What taking a result gave: the join of its labels, its leaves, and what made it trusted beyond its manifest."""

    label: Label = TRUSTED
    leaves: list[leaves.Leaf] = field(default_factory=list)
    listed: bool = False
    """It came from a reference list, whose values vouch."""
    own: list[str] = field(default_factory=list)
    """Pointers of texts that are the user's own."""


def take(known: Knowledge, tool: str, args: Mapping[str, Any], result: Any, **how: Any) -> Taken:
    """Take a result at once; see `taking`."""
    work = taking(known, tool, args, result, **how)
    while True:
        try:
            next(work)
        except StopIteration as done:
            taken: Taken = done.value
            return taken


def taking(
    known: Knowledge, tool: str, args: Mapping[str, Any], result: Any, *, spec: ToolSpec | None = None,
    failed: bool = False, performed: bool = True, unread: bool = False, again: Mapping[str, Any] | None = None,
    found: Found | None = (), settled: bool = True,
) -> Generator[None, None, Taken]:  # fmt: skip
    """Take a result in pieces; the generator's value is the join of its labels, its leaves, and what vouches for it.

    `performed` false: the call was stopped and its result stands in a recorded trace only; it then vouches for
    nothing, and what is untrusted in it counts as read all the same. `unread`: the model gets its untrusted parts by
    handle only, so they taint values and have not spoken. `again`: the memo of a recorded result; only what was
    the user's own or listed then is so now. `found`: what detectors found in it (`found.py`); None: nobody could look.
    `settled` false: a rule had something against the call and only recorded it; its arguments are no creation of the
    session's.
    """
    spec = spec or known.spec(tool)
    known.calls += 1
    source = f"{kinds.source_of(tool, args)}#{known.calls}"
    if isinstance(result, bytes):
        result = result.decode("utf-8", "replace")
    taken = Taken()
    if performed and not failed and (again is None or again.get("listed")):
        taken.listed = _learn_reference(known, tool, args, spec, result)
    spec, value = as_read(spec, args, result)
    creates = spec.effect is not Effect.READ and performed and not failed
    if creates:
        known.done[spec.name] += 1
    keyed, keys = _keyed(known, args)
    early = not known.read_untrusted and any(value for _, _, value in scalars(args))
    objects = kind_of(spec)
    label, own = TRUSTED, frozenset(again.get("own", ()) if again else ())
    echoes = {normal.strict(scalar_text(item)) for _, _, item in scalars(args)} if creates else set()
    how = _Taking(source, creates, performed and not failed, echoes, unread=unread)
    marks = Marks(found, source, known.principal.user)
    known.busy += 1
    done = False
    try:
        for count, leaf in enumerate(leaves.walk(value, spec, known.calls, source)):
            if count % LEAVES_AT_ONCE == LEAVES_AT_ONCE - 1:
                yield
            if isinstance(leaf, str):
                known.taint.saturated = known.taint.saturated or leaf is leaves.TRUNCATED
                if not unread and leaf.strip():
                    known.has_read(source)
                yield from known.taint.adding(leaf, source)
                label = label.join(UNTRUSTED)
                continue
            taken.leaves.append(leaf)
            if leaf.pointer in own and isinstance(leaf.value, str):
                known.own_texts.add(hash(leaf.value))
            if known.own_texts and isinstance(leaf.value, str) and hash(leaf.value) in known.own_texts:
                taken.own.append(leaf.pointer)
            kind = objects
            if leaf.result is not None and leaf.result.handle:
                kind = named_kind(leaf.name) or objects
            yield from _take_leaf(known, leaf, Entry(leaf, keyed, keys, kind, spec.name, early), spec, how)
            if marks:
                _mark(known, leaf, marks)
            label = label.join(leaf.label) if label is not leaf.label else label
        for entry in how.after:
            if _mine(known, entry.leaf):
                known.evidence.know(scalar_text(entry.leaf.value))
                known.evidence.learn(entry, spec.name)
        if performed and not failed:
            yield from _describe(known, spec, args, taken.leaves, creates and settled)
        done = True
    finally:
        known.busy -= 1
        if not done:  # half taken: nobody knows what the rest would have said
            known.taint.saturated = known.read_untrusted = True
    if marks:
        label = label.join(_mark_rest(known, marks))
    if not unread:
        known.context = known.context.join(label)
    taken.label = label
    return taken


def as_read(spec: ToolSpec, args: Mapping[str, Any], result: Any) -> tuple[ToolSpec, Any]:
    """Return the semantics and the value under which a result is walked: what a draft knows of content is that it is text."""
    if spec.derived and derive.carries_content(spec.name, args, result):
        return derive.opaque(spec.name, spec.effect), result
    return spec, forms.read(result, spec)


def _mark(known: Knowledge, leaf: leaves.Leaf, marks: Marks) -> None:
    """Add to a leaf's label what detectors found in it, and look for the very values in what leaves."""
    label, values = (marks.worst, []) if marks.unseen else marks.of(leaf.pointer, scalar_text(leaf.value))
    if not label.tags:
        return
    if leaf.result is not None and "confidentiality" in leaf.result.model_fields_set:
        leaf.label = replace(leaf.label, tags=leaf.label.tags | label.tags)  # the manifest says who may read it
        return
    leaf.label = leaf.label.join(label)
    for value, own in values:
        known.secrets.add(value, own)


def _mark_rest(known: Knowledge, marks: Marks) -> Label:
    """Look for what was found in the names of keys; where nobody could look, let everything that leaves count as guarded."""
    label = TRUSTED
    if marks.unseen:
        known.secrets.overflow(marks.worst)
        label = marks.worst
    for own, values in marks.in_keys():
        label = label.join(own)
        for value, guarded in values:
            known.secrets.add(value, guarded)
    return label


def _learn_reference(known: Knowledge, tool: str, args: Mapping[str, Any], spec: ToolSpec, result: Any) -> bool:
    """Take a result that comes from a reference list of the policy, and return whether it does; one that is so as a
    whole is trusted text.
    """
    if spec.effect is not Effect.READ:
        return False
    path = next((value for _, name, value in scalars(args) if _is_path(known, spec, name, value)), None)
    if path in known.written:
        return False
    sources = [kinds.source_of(tool, args)]
    if path is not None:
        sources.append("file:" + str(path).removeprefix(known.workspace + "/"))
    listed = [source for source in sources if known.references.knows(source)]
    for source in listed:
        if known.references.learn(source, result):
            known.own_texts.update(hash(item) for _, _, item in scalars({"": result}) if isinstance(item, str))
    return bool(listed)


def _is_path(known: Knowledge, spec: ToolSpec, name: str, value: Any) -> bool:
    if not isinstance(value, str) or not value:
        return False
    return known.argument(spec, name, value).type == "path" or name in ("path", "file_path", "filename", "file")


def _take_leaf(
    known: Knowledge, leaf: leaves.Leaf, entry: Entry, spec: ToolSpec, how: _Taking
) -> Generator[None, None, None]:
    text = scalar_text(leaf.value)
    if not text:
        return
    if leaf.label.confidentiality is not Confidentiality.PUBLIC:
        known.secrets.add(text, leaf.label)
    if leaf.label.integrity is Integrity.UNTRUSTED and not (isinstance(leaf.value, (int, float)) or not text.strip()):
        if how.creates and normal.strict(text) in how.echoes:
            return  # the call's own argument, handed back
        if known.own_texts and hash(text) in known.own_texts:
            return
        if not how.unread and not known.words.names(text):
            known.read_untrusted = True
        yield from known.taint.adding(text, how.source)
        return
    if (
        spec.derived
        and not how.unread
        and isinstance(leaf.value, str)
        and (" " in text or len(text) > DRAFTED_CHARS_MAX)
    ):
        known.read_untrusted = True  # what only a draft calls trusted may vouch, but it may also have spoken
    if not how.counts:
        return
    if how.creates and leaf.result is not None and leaf.result.handle:
        if not (spec.derived and "[*]" in leaf.column):  # a list is what there was, not what was made
            known.evidence.create(entry)
    elif spec.effect is Effect.READ and leaf.result is not None and leaf.result.mine_if:
        how.after.append(entry)  # whose record it is shows when the record is complete
    elif spec.effect is Effect.READ and trusted(leaf):
        known.evidence.learn(entry, spec.name)


def _mine(known: Knowledge, leaf: leaves.Leaf) -> bool:
    names = leaf.result.mine_if.split("|") if leaf.result else ()
    own = (normal.strict(known.principal.user), "me")
    authors = [leaf.record.fields.get(name) for name in names]
    return any(isinstance(author, str) and normal.strict(author) in own for author in authors)


def _describe(
    known: Knowledge, spec: ToolSpec, args: Mapping[str, Any], found: list[leaves.Leaf], creates: bool
) -> Generator[None, None, None]:
    records = list({id(leaf.record): leaf.record for leaf in found}.values())
    if spec.effect is Effect.READ:
        for begin in range(0, len(records), LEAVES_AT_ONCE):
            known.evidence.describe(records[begin : begin + LEAVES_AT_ONCE])
            if begin:
                yield
        values = [(name, item) for _, name, item in scalars(args) if isinstance(item, str) and item]
        if len(values) == 1:
            numbers = {"count": float(len(records))}
            if len(found) == 1 and found[0].label.integrity is Integrity.TRUSTED:
                number = number_of(found[0].value)
                numbers.update({"value": number} if number is not None else {})
            known.evidence.about(values[0][1], spec.name, records[:200], numbers)
    elif creates:
        for _, name, item in scalars(args):
            argument = known.argument(spec, name, item)
            text = scalar_text(item)
            # what is only carried was not judged: a title is nobody's address
            if argument.role is Role.AUTHORITY and leaves.is_name(text) and not known.taint.holds(text):
                record = leaves.Record(known.calls, "$args", {name: text})
                leaf = leaves.Leaf("", "$args", name, text, TRUSTED, None, record)
                known.evidence.create(Entry(leaf, True, 1, kind_of(spec), spec.name))


def _keyed(known: Knowledge, args: Mapping[str, Any]) -> tuple[bool, int]:
    """Return whether the prompt led to a call, and how many of its arguments are the prompt's words."""
    keys = 0
    for _, _, value in scalars(args):
        if not isinstance(value, str) or not value:
            continue
        if known.words.names(value) or known.words.covers(value) or days_in(value) & days_in(known.words.text):
            keys += 1
        elif not known.evidence.entries(value, frozenset()):
            return False, keys
    return True, keys
