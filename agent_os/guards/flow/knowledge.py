"""What one session knows: prompts, what results said and how far each value may be trusted. Pure but stateful.

Owns the mutable state of the guard and every way into it; `judge.py` asks and never writes. Children of a session share
what it knows: what a sub-agent has read, its parent has read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from agent_os.core.label import TRUSTED, UNTRUSTED, Confidentiality, Integrity, Label
from agent_os.core.manifest import UNDESCRIBED, Argument, Effect, Role, ToolSpec
from agent_os.core.principal import ANONYMOUS, Principal
from agent_os.guards.flow import derive, kinds, leaves, lexicon, normal
from agent_os.guards.flow.days import days_in
from agent_os.guards.flow.evidence import Entry, Evidence, scalar_text, trusted
from agent_os.guards.flow.handles import Filled
from agent_os.guards.flow.naming import name_words, profile
from agent_os.guards.flow.prompt import Prompt
from agent_os.guards.flow.references import References
from agent_os.guards.flow.scope import Scope
from agent_os.guards.flow.secrets import SecretIndex
from agent_os.guards.flow.select import number_of
from agent_os.guards.flow.taint import TaintIndex

ARGUMENT_LEAVES_MAX: Final = 10_000
"""Leaves of one call's arguments that are judged; a call with more is a concern by itself."""


GUARDED_LINES_MAX: Final = 500
"""Lines of a guarded file that are looked for in what leaves."""
DRAFTED_CHARS_MAX: Final = 40
"""A field that a draft calls trusted and that is longer, or of several words, counts as read untrusted text as well."""


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


@dataclass(slots=True)
class Knowledge:
    """Grows only. Built by `FlowSession`."""

    specs: Mapping[str, ToolSpec] = field(default_factory=dict)
    principal: Principal = ANONYMOUS
    words: Prompt = field(default_factory=Prompt)
    scope: Scope = field(default_factory=Scope)
    taint: TaintIndex = field(default_factory=TaintIndex)
    secrets: SecretIndex = field(default_factory=SecretIndex)
    evidence: Evidence = field(init=False)
    context: Label = TRUSTED
    prompts: list[str] = field(default_factory=list)
    calls: int = 0
    done: Counter[str] = field(default_factory=Counter)
    """Effects carried out, by tool."""
    read_untrusted: bool = False
    """Whether anything that an attacker could have written has been read."""
    drafts: dict[str, ToolSpec] = field(default_factory=dict)
    workspace: str = "/workspace"
    references: References = field(default_factory=References)
    written: set[str] = field(default_factory=set)
    """Files written since untrusted text was read: whatever they are called, they are trusted no more."""
    filled: dict[tuple[str, str], Filled] = field(default_factory=dict)
    """What handles filled into arguments, by tool and pointer of the argument."""
    chosen: set[str] = field(default_factory=set)
    """Trusted values of records that the runtime chose as the prompt asked (`select.py`)."""
    suspected: dict[str, str] = field(default_factory=dict)
    """What an advisory classifier suspects, by source, and why."""
    own_texts: set[int] = field(default_factory=set)
    """Hashes of whole texts that are the user's own; a tool that hands one on hands on a trusted text."""

    def __post_init__(self) -> None:
        self.evidence = Evidence(self.words, self.principal.user)

    def prompt(self, text: str) -> None:
        """Take a message of the user; it may widen the scope, nothing else may. The same message twice is one message."""
        if self.prompts and text == self.prompts[-1]:
            return
        self.prompts.append(text)
        self.words.extend(text)
        self.scope.extend(text)
        self.words.directs = tuple(request.direct for request in self.scope.requests if request.direct)
        self.evidence.rebuild()

    def untrusted(self, text: str, source: str) -> None:
        """Take untrusted text that reaches the model beside results: descriptions, memories, names of files."""
        if text.strip():
            self.read_untrusted = True
            self.taint.add(text, source)
            self.context = self.context.join(Label(Integrity.UNTRUSTED, sources=(source,)))

    def take(
        self, tool: str, args: Mapping[str, Any], result: Any, spec: ToolSpec | None = None, *,
        failed: bool = False, performed: bool = True, unread: bool = False, again: Mapping[str, Any] | None = None,
    ) -> Taken:  # fmt: skip
        """Take a result; return the join of its labels, its leaves, and what vouches for it.

        `performed` false: the call was stopped and its result stands in a recorded trace only; it then vouches for
        nothing, and what is untrusted in it counts as read all the same. `unread`: the model gets its untrusted parts by
        handle only, so they taint values and have not spoken. `again`: the memo of a recorded result; only what was
        the user's own or listed then is so now.
        """
        spec = spec or self.spec(tool)
        self.calls += 1
        source = f"{kinds.source_of(tool, args)}#{self.calls}"
        if isinstance(result, bytes):
            result = result.decode("utf-8", "replace")
        taken = Taken()
        if performed and not failed and (again is None or again.get("listed")):
            taken.listed = self._learn_reference(tool, args, spec, result)
        if spec.derived and derive.carries_content(spec.name, args, result):
            spec = derive.opaque(spec.name, spec.effect)
            value = result
        else:
            value = leaves.structured(result, bool(spec.results))
        creates = spec.effect is not Effect.READ and performed and not failed
        if creates:
            self.done[spec.name] += 1
        keyed, keys = self._keyed(spec, args)
        objects = kind_of(spec)
        found, label, own = taken.leaves, TRUSTED, frozenset(again.get("own", ()) if again else ())
        echoes = {normal.strict(scalar_text(item)) for _, _, item in scalars(args)} if creates else set()
        taking = _Taking(source, creates, performed and not failed, echoes, unread=unread)
        for leaf in leaves.walk(value, spec, self.calls, source):
            if isinstance(leaf, str):
                self.taint.saturated = self.taint.saturated or leaf is leaves.TRUNCATED
                if unread:
                    self.taint.add(leaf, source)
                else:
                    self.untrusted(leaf, source)
                label = label.join(UNTRUSTED)
                continue
            found.append(leaf)
            label = label.join(leaf.label) if label is not leaf.label else label
            if leaf.pointer in own and isinstance(leaf.value, str):
                self.own_texts.add(hash(leaf.value))
            if self.own_texts and isinstance(leaf.value, str) and hash(leaf.value) in self.own_texts:
                taken.own.append(leaf.pointer)
            kind = objects
            if leaf.result is not None and leaf.result.handle:
                kind = named_kind(leaf.name) or objects
            self._take_leaf(leaf, Entry(leaf, keyed, keys, kind, spec.name), spec, taking)
        for entry in taking.after:
            if self._mine(entry.leaf):
                self.evidence.know(scalar_text(entry.leaf.value))
                self.evidence.learn(entry, spec.name)
        if performed and not failed:
            self._describe(spec, args, found, creates)
        if not unread:
            self.context = self.context.join(label)
        taken.label = label
        return taken

    def _learn_reference(self, tool: str, args: Mapping[str, Any], spec: ToolSpec, result: Any) -> bool:
        """Take a result that comes from a reference list of the policy, and return whether it does; one that is so as a
        whole is trusted text.
        """
        if spec.effect is not Effect.READ:
            return False
        path = next((value for _, name, value in scalars(args) if self._is_path(spec, name, value)), None)
        if path in self.written:
            return False
        sources = [kinds.source_of(tool, args)]
        if path is not None:
            sources.append("file:" + str(path).removeprefix(self.workspace + "/"))
        listed = [source for source in sources if self.references.knows(source)]
        for source in listed:
            if self.references.learn(source, result):
                self.own_texts.update(hash(item) for _, _, item in scalars({"": result}) if isinstance(item, str))
        return bool(listed)

    def _is_path(self, spec: ToolSpec, name: str, value: Any) -> bool:
        if not isinstance(value, str) or not value:
            return False
        return self.argument(spec, name, value).type == "path" or name in ("path", "file_path", "filename", "file")

    def _take_leaf(self, leaf: leaves.Leaf, entry: Entry, spec: ToolSpec, taking: _Taking) -> None:
        text = scalar_text(leaf.value)
        if not text:
            return
        if leaf.label.confidentiality is not Confidentiality.PUBLIC:
            self.secrets.add(text, leaf.label)
        if leaf.label.integrity is Integrity.UNTRUSTED and not (
            isinstance(leaf.value, (int, float)) or not text.strip()
        ):
            if taking.creates and normal.strict(text) in taking.echoes:
                return  # the call's own argument, handed back
            if self.own_texts and hash(text) in self.own_texts:
                return
            if not taking.unread and not self.words.names(text):
                self.read_untrusted = True
            self.taint.add(text, taking.source)
            return
        if (
            spec.derived
            and not taking.unread
            and isinstance(leaf.value, str)
            and (" " in text or len(text) > DRAFTED_CHARS_MAX)
        ):
            self.read_untrusted = True  # what only a draft calls trusted may vouch, but it may also have spoken
        if not taking.counts:
            return
        if taking.creates and leaf.result is not None and leaf.result.handle:
            if not (spec.derived and "[*]" in leaf.column):  # a list is what there was, not what was made
                self.evidence.create(entry)
        elif spec.effect is Effect.READ and leaf.result is not None and leaf.result.mine_if:
            taking.after.append(entry)  # whose record it is shows when the record is complete
        elif spec.effect is Effect.READ and trusted(leaf):
            self.evidence.learn(entry, spec.name)

    def _mine(self, leaf: leaves.Leaf) -> bool:
        names = leaf.result.mine_if.split("|") if leaf.result else ()
        own = (normal.strict(self.principal.user), "me")
        authors = [leaf.record.fields.get(name) for name in names]
        return any(isinstance(author, str) and normal.strict(author) in own for author in authors)

    def _describe(self, spec: ToolSpec, args: Mapping[str, Any], found: list[leaves.Leaf], creates: bool) -> None:
        records = list({id(leaf.record): leaf.record for leaf in found}.values())
        if spec.effect is Effect.READ:
            self.evidence.describe(records)
            values = [(name, item) for _, name, item in scalars(args) if isinstance(item, str) and item]
            if len(values) == 1:
                numbers = {"count": float(len(records))}
                if len(found) == 1 and found[0].label.integrity is Integrity.TRUSTED:
                    number = number_of(found[0].value)
                    numbers.update({"value": number} if number is not None else {})
                self.evidence.about(values[0][1], spec.name, records[:200], numbers)
        elif creates:
            for _, name, item in scalars(args):
                argument = self.argument(spec, name, item)
                text = scalar_text(item)
                if argument.role is not Role.HANDLE and leaves.is_name(text) and not self.taint.holds(text):
                    record = leaves.Record(self.calls, "$args", {name: text})
                    leaf = leaves.Leaf("", "$args", name, text, TRUSTED, None, record)
                    self.evidence.create(Entry(leaf, True, 1, kind_of(spec), spec.name))

    def spec(self, tool: str) -> ToolSpec:
        """Return a tool's semantics: its manifest, or a draft from its name."""
        found = self.specs.get(tool)
        if found is None:
            return derive.spec(tool)
        if not undescribed(found):
            return found
        if tool not in self.drafts:
            self.drafts[tool] = derive.from_schema(tool, found.input_schema, found.description)
        return self.drafts[tool]

    def argument(self, spec: ToolSpec, name: str, value: Any) -> Argument:
        if spec.derived and name not in spec.arguments:
            return derive.argument(spec.effect, name, value)
        return spec.argument(name)

    def _keyed(self, spec: ToolSpec, args: Mapping[str, Any]) -> tuple[bool, int]:
        """Return whether the prompt led to a call, and how many of its arguments are the prompt's words."""
        keys = 0
        for _, _, value in scalars(args):
            if not isinstance(value, str) or not value:
                continue
            if self.words.names(value) or self.words.covers(value) or days_in(value) & days_in(self.words.text):
                keys += 1
            elif not self.evidence.entries(value, frozenset()):
                return False, keys
        return True, keys

    def guard(self, texts: list[str], label: Label) -> None:
        """Look for these texts, line by line, in what leaves: they stood in a file that guarded data was written to."""
        if label.confidentiality is Confidentiality.PUBLIC:
            return
        for line in [line.strip() for text in texts for line in text.splitlines()][:GUARDED_LINES_MAX]:
            if line:
                self.secrets.add(line, label)

    def label_of(self, value: Any) -> Label:
        """Return the label of what the agent puts somewhere: trusted only as far as the prompt names it."""
        if isinstance(value, (Mapping, list, tuple)):
            return Label.join_all(self.label_of(item) for _, _, item in scalars({"": value}))
        if not isinstance(value, str) or not value or not self.read_untrusted or self.words.names(value):
            return TRUSTED
        return self.untrusted_label(self.taint.source_of(value) if len(value) < 2000 else "")

    def untrusted_label(self, source: str) -> Label:
        return Label(
            Integrity.UNTRUSTED,
            self.context.confidentiality,
            self.context.readers,
            sources=(source,) if source else (),
        )


def undescribed(spec: ToolSpec) -> bool:
    """Return whether a manifest says nothing of what the tool means: it is then judged by a draft from its name."""
    plain = all(argument == UNDESCRIBED for argument in spec.arguments.values())
    return spec.effect is Effect.EXECUTE and plain and not spec.results and not spec.verbs


def kind_of(spec: ToolSpec) -> frozenset[str]:
    """Return words and groups of the things a tool deals with, to tell one tool's ids from another's."""
    _, _, words, groups = profile(spec)
    return groups | words


@lru_cache(maxsize=4096)
def named_kind(name: str) -> frozenset[str]:
    """Return what kind of thing an id's own name speaks of (`file_id`), or nothing (`id`)."""
    own = {lexicon.singular(word) for word in name_words(name)} - {
        "id",
        "uuid",
        "guid",
        "number",
        "ref",
        "key",
        "new",
        "old",
    }
    return frozenset(own) | {group for word in own for group in lexicon.OBJECT_GROUPS.get(word, lexicon.NONE)}


def scalars(args: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """Return (pointer, name of the nearest key, value) of every scalar in the arguments, bounded."""
    found: list[tuple[str, str, Any]] = []
    stack: list[tuple[str, str, Any]] = [("", "", args)]
    while stack and len(found) <= ARGUMENT_LEAVES_MAX:
        pointer, name, value = stack.pop()
        if isinstance(value, Mapping):
            stack.extend((f"{pointer}/{key}", str(key), child) for key, child in reversed(list(value.items())))
        elif isinstance(value, (list, tuple)):
            stack.extend((f"{pointer}/{index}", name, value[index]) for index in range(len(value) - 1, -1, -1))
        else:
            found.append((pointer, name, value))
    return found
