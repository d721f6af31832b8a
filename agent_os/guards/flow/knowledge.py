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

from agent_os.core.label import TRUSTED, Confidentiality, Integrity, Label
from agent_os.core.manifest import UNDESCRIBED, Argument, Effect, ToolSpec
from agent_os.core.principal import ANONYMOUS, Principal
from agent_os.guards.flow import derive, lexicon
from agent_os.guards.flow.evidence import Evidence
from agent_os.guards.flow.handles import Filled
from agent_os.guards.flow.naming import name_words, profile
from agent_os.guards.flow.prompt import Prompt
from agent_os.guards.flow.references import References
from agent_os.guards.flow.scope import Scope
from agent_os.guards.flow.secrets import SecretIndex
from agent_os.guards.flow.taint import TaintIndex

ARGUMENT_LEAVES_MAX: Final = 10_000
"""Leaves of one call's arguments that are judged; a call with more is a concern by itself."""


GUARDED_LINES_MAX: Final = 500
"""Lines of a guarded file that are looked for in what leaves."""


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
    busy: int = 0
    """Results that are being taken: what is known of them is not whole (`taking.py`)."""
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
        self.words.idle = frozenset(
            {request.verb for request in self.scope.requests} | {*self.words.choice.directions()}
        )
        self.evidence.rebuild()

    def untrusted(self, text: str, source: str) -> None:
        """Take untrusted text that reaches the model beside results: descriptions, memories, names of files."""
        if text.strip():
            self.has_read(source)
            self.taint.add(text, source)

    def has_read(self, source: str) -> None:
        """Take that untrusted text of a source has been read."""
        self.read_untrusted = True
        self.context = self.context.join(Label(Integrity.UNTRUSTED, sources=(source,)))

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
        if spec.derived and (name not in spec.arguments or derive.is_date(value)):
            return derive.argument(spec.effect, name, value)
        return spec.argument(name)

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
    own = profile(spec)
    return own.kinds | own.objects


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
        "keep",
        "drop",
        "first",
        "second",
        "source",
        "target",
        "from",
        "to",
        "parent",
        "main",
        "primary",
        "other",
    }
    own |= {"attachment"} if own & {"attach", "attached", "enclosure"} else set()
    groups = {group for word in own for group in lexicon.OBJECT_GROUPS.get(word, lexicon.NONE)}
    return frozenset(own | groups)


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
