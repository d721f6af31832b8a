"""The flow guard of one session: what the agent has read, and what an action's arguments stand on. Pure but stateful.

Owns all mutable state of the guard; no clock, no I/O. `prompt` takes trusted text, `observe` takes results, `facts`
judges an action from what was taken before it. Threat: indirect prompt injection. Text that an attacker could have
written may inform the agent, but it never becomes authority: it cannot name a recipient, an account, an address, a
file or a command, and it cannot bring about an effect that the user's own words do not ask for (law 12).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from agent_os.core.action import Action
from agent_os.core.facts import FlowConcern
from agent_os.core.label import TRUSTED, UNTRUSTED, Confidentiality, Integrity, Label
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec
from agent_os.core.ports import Outcome
from agent_os.core.principal import ANONYMOUS, Principal
from agent_os.guards.flow import derive, kinds, leaves, lexicon, normal
from agent_os.guards.flow.evidence import Entry, Evidence, Prompt, scalar_text, trusted
from agent_os.guards.flow.scope import Scope, days_in, name_words, profile, within_days
from agent_os.guards.flow.secrets import SecretIndex
from agent_os.guards.flow.select import number_of
from agent_os.guards.flow.taint import TaintIndex

ARGUMENT_LEAVES_MAX: Final = 10_000
"""Leaves of one call's arguments that are judged; a call with more is a concern by itself."""

LEAVING: Final = frozenset({Effect.SEND, Effect.WRITE_SHARED, Effect.PAY, Effect.CREDENTIAL, Effect.EXECUTE})
"""Effects whose payload reaches somebody else."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What `facts` returns, before it is facts: labels of arguments by pointer, and concerns."""

    labels: Mapping[str, Label]
    concerns: tuple[FlowConcern, ...] = ()


@dataclass(slots=True)
class _Doubt:
    sink: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class _Taking:
    """How one result is taken: where it is from, whether it brought something into being, whether it vouches."""

    source: str
    creates: bool
    counts: bool
    echoes: set[str]
    after: list[Entry] = field(default_factory=list)


@dataclass(slots=True)
class FlowSession:
    """Implements `core.ports.FlowGuard` for one agent."""

    specs: Mapping[str, ToolSpec] = field(default_factory=dict)
    principal: Principal = ANONYMOUS
    _prompt: Prompt = field(default_factory=Prompt)
    _scope: Scope = field(default_factory=Scope)
    _taint: TaintIndex = field(default_factory=TaintIndex)
    _secrets: SecretIndex = field(default_factory=SecretIndex)
    _evidence: Evidence = field(init=False)
    _context: Label = TRUSTED
    _calls: int = 0
    _done: Counter[str] = field(default_factory=Counter)
    _read_untrusted: bool = False
    _memory: dict[str, Label] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._evidence = Evidence(self._prompt, self.principal.user)

    # ---- what is taken in ------------------------------------------------------------------------------------------

    def prompt(self, text: str) -> None:
        """Take a message of the user; it may widen the scope, nothing else may."""
        self._prompt.extend(text)
        self._scope.extend(text)
        self._evidence.rebuild()

    def untrusted(self, text: str, source: str) -> None:
        """Take untrusted text that reaches the model beside results: descriptions, memories, names of files."""
        if text.strip():
            self._read_untrusted = True
            self._taint.add(text, source)
            self._context = self._context.join(Label(Integrity.UNTRUSTED, sources=(source,)))

    def observe(self, action: Action, outcome: Outcome) -> Outcome:
        """Take the outcome of an action that was carried out, and return it labelled."""
        tool, args, spec = self._call(action)
        label, found = self.take(
            tool, args, outcome.value if outcome.ok else outcome.detail, spec, failed=not outcome.ok
        )
        kept = tuple((leaf.pointer, leaf.label) for leaf in found if leaf.label.integrity is not label.integrity)
        return Outcome(outcome.value, label, kept, outcome.error, outcome.detail, outcome.usage)

    def take(
        self, tool: str, args: Mapping[str, Any], result: Any, spec: ToolSpec | None = None, *,
        failed: bool = False, performed: bool = True,
    ) -> tuple[Label, list[leaves.Leaf]]:  # fmt: skip
        """Take a result; return the join of its labels, and its leaves.

        `performed` false: the call was stopped and its result stands in a recorded trace only; it then vouches for
        nothing, and what is untrusted in it counts as read all the same.
        """
        spec = spec or self.spec(tool)
        self._calls += 1
        source = f"{kinds.source_of(tool, args)}#{self._calls}"
        if isinstance(result, bytes):
            result = result.decode("utf-8", "replace")
        if spec.derived and derive.carries_content(spec.name, args, result):
            spec = derive.opaque(spec.name, spec.effect)
            value = result
        else:
            value = leaves.structured(result, bool(spec.results))
        creates = spec.effect is not Effect.READ and performed and not failed
        if creates:
            self._done[spec.name] += 1
        keyed, keys = self._keyed(spec, args)
        objects = kind_of(spec)
        found: list[leaves.Leaf] = []
        label = TRUSTED
        echoes = {normal.strict(scalar_text(item)) for _, _, item in _scalars(args)} if creates else set()
        taking = _Taking(source, creates, performed and not failed, echoes)
        for leaf in leaves.walk(value, spec, self._calls, source):
            if isinstance(leaf, str):
                self.untrusted(leaf, source)
                label = label.join(UNTRUSTED)
                continue
            found.append(leaf)
            label = label.join(leaf.label) if label is not leaf.label else label
            kind = objects
            if leaf.result is not None and leaf.result.handle:
                kind = _named_kind(leaf.name) or objects
            self._take_leaf(leaf, Entry(leaf, keyed, keys, kind, spec.name), spec, taking)
        for entry in taking.after:
            if self._mine(entry.leaf):
                self._evidence.know(scalar_text(entry.leaf.value))
                self._evidence.learn(entry, spec.name)
        if performed and not failed:
            self._describe(spec, args, found, creates)
        self._context = self._context.join(label)
        return label, found

    def _take_leaf(self, leaf: leaves.Leaf, entry: Entry, spec: ToolSpec, taking: _Taking) -> None:
        text = scalar_text(leaf.value)
        if not text:
            return
        if leaf.label.confidentiality is not Confidentiality.PUBLIC:
            self._secrets.add(text, leaf.label)
        if leaf.label.integrity is Integrity.UNTRUSTED and not (
            isinstance(leaf.value, (int, float)) or not text.strip()
        ):
            if taking.creates and normal.strict(text) in taking.echoes:
                return  # the call's own argument, handed back
            if not self._prompt.names(text):
                self._read_untrusted = True
            self._taint.add(text, taking.source)
            return
        if not taking.counts:
            return
        if taking.creates and leaf.result is not None and leaf.result.handle:
            if not (spec.derived and "[*]" in leaf.column):  # a list is what there was, not what was made
                self._evidence.create(entry)
        elif spec.effect is Effect.READ and leaf.result is not None and leaf.result.mine_if:
            taking.after.append(entry)  # whose record it is shows when the record is complete
        elif spec.effect is Effect.READ and trusted(leaf):
            self._evidence.learn(entry, spec.name)

    def _mine(self, leaf: leaves.Leaf) -> bool:
        names = leaf.result.mine_if.split("|") if leaf.result else ()
        own = (normal.strict(self.principal.user), "me")
        authors = [leaf.record.fields.get(name) for name in names]
        return any(isinstance(author, str) and normal.strict(author) in own for author in authors)

    def _describe(self, spec: ToolSpec, args: Mapping[str, Any], found: list[leaves.Leaf], creates: bool) -> None:
        records = list({id(leaf.record): leaf.record for leaf in found}.values())
        if spec.effect is Effect.READ:
            self._evidence.describe(records)
            values = [(name, item) for _, name, item in _scalars(args) if isinstance(item, str) and item]
            if len(values) == 1:
                numbers = {"count": float(len(records))}
                if len(found) == 1 and found[0].label.integrity is Integrity.TRUSTED:
                    number = number_of(found[0].value)
                    numbers.update({"value": number} if number is not None else {})
                self._evidence.about(values[0][1], spec.name, records[:200], numbers)
        elif creates:
            for _, name, item in _scalars(args):
                argument = self._argument(spec, name, item)
                text = scalar_text(item)
                if argument.role is not Role.HANDLE and leaves.is_name(text) and not self._taint.holds(text):
                    record = leaves.Record(self._calls, "$args", {name: text})
                    leaf = leaves.Leaf("", "$args", name, text, TRUSTED, None, record)
                    self._evidence.create(Entry(leaf, True, 1, kind_of(spec), spec.name))

    # ---- what is judged --------------------------------------------------------------------------------------------

    def facts(self, action: Action) -> tuple[Mapping[str, Label], Label, tuple[FlowConcern, ...]]:
        """Return labels of the arguments, the context's label and the concerns of an action."""
        tool, args, spec = self._call(action)
        judgement = self.judge(tool, args, spec)
        return judgement.labels, self._context, judgement.concerns

    def judge(self, tool: str, args: Mapping[str, Any], spec: ToolSpec | None = None) -> Judgement:
        """Judge a call from what was taken before it. Changes nothing."""
        spec = spec or self.spec(tool)
        labels: dict[str, Label] = {}
        concerns, pinned = self._of_effect(spec)
        objects = kind_of(spec)
        values = _scalars(args)
        company = Counter(name for _, name, _ in values)
        vouched: list[str] = []
        doubted: list[str] = []
        payload: list[tuple[str, Argument, str]] = []
        for count, (pointer, name, value) in enumerate(values):
            if count >= ARGUMENT_LEAVES_MAX:
                concerns.append(FlowConcern("authority_of_unknown_origin", pointer, "", "too many arguments to judge"))
                break
            argument = self._argument(spec, name, value)
            doubt = None
            if argument.role in (Role.AUTHORITY, Role.HANDLE):
                if company[name] > 1 and self._is_self(value):
                    labels[pointer] = TRUSTED  # among those the user named, the user is no stranger
                    continue
                doubt = self._doubt(value, argument, spec, _argument_kind(name, argument, objects))
                labels[pointer] = TRUSTED if doubt is None else self._untrusted_label(doubt.source)
                if argument.role is Role.AUTHORITY and isinstance(value, str) and value:
                    (vouched if doubt is None else doubted).append(value)
            else:
                labels[pointer] = self._label(value)
                if pinned and argument.type == "date" and isinstance(value, str):
                    days = days_in(value)
                    if days and not within_days(days, pinned):
                        doubt = _Doubt("contradicts_prompt")
            if doubt is not None:
                to = (scalar_text(value),) if doubt.sink != "contradicts_prompt" else ()
                concerns.append(FlowConcern(doubt.sink, pointer, doubt.source, _quote(value), to))
            if isinstance(value, str) and value:
                payload.append((pointer, argument, value))
        self._leaving(spec, payload, vouched, doubted, labels, concerns)
        return Judgement(labels, tuple(concerns))

    def _of_effect(self, spec: ToolSpec) -> tuple[list[FlowConcern], frozenset[tuple[int, int]]]:
        """Return concerns about the effect as a whole, and the days its dates are pinned to."""
        if not self._read_untrusted or spec.effect is Effect.READ:
            return [], frozenset()
        concerns = []
        pinned: frozenset[tuple[int, int]] = frozenset()
        leave = self._scope.leave(spec)
        if leave is None:
            concerns.append(FlowConcern("effect_beyond_scope", "", "", f"{spec.effect.value}: not asked for"))
        elif leave.times and self._done[spec.name] >= leave.times:
            concerns.append(FlowConcern("repeats_beyond_scope", "", "", f"asked for {leave.times} time(s)"))
        else:
            pinned = leave.days
        if spec.effect is Effect.CREDENTIAL:
            concerns.append(FlowConcern("credential_use", "", "", "credentials after an untrusted read"))
        if spec.derived:
            concerns.append(FlowConcern("unknown_tool", "", "", "no manifest: judged by its name"))
        return concerns, pinned

    def _leaving(
        self, spec: ToolSpec, values: list[tuple[str, Argument, str]], vouched: list[str], doubted: list[str],
        labels: dict[str, Label], concerns: list[FlowConcern],
    ) -> None:  # fmt: skip
        """Add concerns for what leaves inside values: guarded data, web addresses and texts of strangers."""
        leaves_here = spec.effect in LEAVING
        asks_the_web = derive.asks_the_web(spec.name)
        carried = False
        for pointer, argument, value in values:
            if not leaves_here and argument.type != "url" and not asks_the_web:
                continue
            found = self._secrets.found_in(value)
            if found is not None and not self._prompt.names(value):
                labels[pointer] = labels.get(pointer, TRUSTED).join(found)
                readable = bool(vouched) and not doubted and all(found.flows_to(reader) for reader in vouched)
                if not readable:
                    secret = found.confidentiality is Confidentiality.SECRET
                    sink = "secrets_to_named" if vouched and not doubted else "secrets_to_untrusted"
                    sink = sink if secret else "personal_to_untrusted"
                    to = tuple(doubted or vouched)
                    concerns.append(FlowConcern(sink, pointer, ", ".join(found.sources), "a guarded value", to))
            if not leaves_here or not self._read_untrusted or argument.role is not Role.PAYLOAD:
                continue
            carried = carried or labels.get(pointer, TRUSTED).integrity is Integrity.UNTRUSTED
            for url in normal.urls(value):
                if not self._host_vouched(normal.strict_host(url)):
                    host = normal.host_of(url)
                    source = self._taint.source_of(host)
                    concerns.append(FlowConcern("untrusted_url", pointer, source, _quote(url), (host,)))
                    break
        if carried:
            concerns.append(FlowConcern("shared_write", "", "", "text of unknown authors is carried along"))

    def _doubt(self, value: Any, argument: Argument, spec: ToolSpec, objects: frozenset[str]) -> _Doubt | None:
        """Return why nothing vouches for an authority value, or None when something does."""
        if value is None or isinstance(value, bool) or value == "" or not self._read_untrusted:
            return None
        text = scalar_text(value)
        if self._prompt_vouches(text, argument, spec):
            return None
        ways = argument.vouched_by
        if argument.role is Role.AUTHORITY and self._is_self(text) and self._scope.to_self:
            return None
        if "own-creation" in ways and self._evidence.created(text, objects):
            return None
        short = argument.role is Role.HANDLE or isinstance(value, (int, float))
        if argument.type == "code":
            return _Doubt("code_from_untrusted", self._taint.source_of(text) if self._taint.holds(text) else "")
        if argument.type != "url" and not (short and len(text) <= 6) and self._taint.holds(text):
            return _Doubt("authority_from_untrusted", self._taint.source_of(text))
        if argument.type == "url" and self._taint.holds_host(normal.host_of(text)):
            return _Doubt("authority_from_untrusted", self._taint.source_of(normal.host_of(text)))
        if "trusted-result" in ways:
            for entry in reversed(self._evidence.entries(text, objects)):
                if self._evidence.leads_to(text, entry):
                    return None
        if "known-principal" in ways and self._evidence.knows(text):
            return None
        return _Doubt("authority_of_unknown_origin")

    def _is_self(self, value: Any) -> bool:
        return isinstance(value, str) and normal.strict(value) == normal.strict(self.principal.user)

    def _prompt_vouches(self, text: str, argument: Argument, spec: ToolSpec) -> bool:
        if argument.type == "url":
            return self._url_vouched(text, spec)
        if argument.role is Role.HANDLE and len(text) <= 4:
            return self._prompt.names_id(text)
        return self._prompt.vouches(normal.mailbox(text), exact=argument.type in ("password", "path"))

    def _url_vouched(self, text: str, spec: ToolSpec) -> bool:
        """A web address is the prompt's when the prompt has it; for reading, also one below an address it has."""
        if self._prompt.names(text):
            return True
        host = normal.strict_host(text)
        if not host or not self._host_vouched(host):
            return False
        rest = normal.strict(text).split(host, 1)[-1].strip("/")
        if not rest or self._prompt.names(host + "/" + rest):
            return True
        return spec.effect is Effect.READ and "?" not in rest and "#" not in rest and not self._secrets.found_in(rest)

    def _host_vouched(self, host: str) -> bool:
        return host in self._prompt.hosts

    # ---- small parts -----------------------------------------------------------------------------------------------

    def spec(self, tool: str) -> ToolSpec:
        """Return a tool's semantics: its manifest, or a draft from its name."""
        found = self.specs.get(tool)
        if found is None:
            return derive.spec(tool)
        return derive.from_schema(tool, found.input_schema, found.description) if undescribed(found) else found

    def _call(self, action: Action) -> tuple[str, Mapping[str, Any], ToolSpec]:
        return kinds.call_of(action, self.spec)

    def _argument(self, spec: ToolSpec, name: str, value: Any) -> Argument:
        if spec.derived and name not in spec.arguments:
            return derive.argument(spec.effect, name, value)
        return spec.argument(name)

    def _keyed(self, spec: ToolSpec, args: Mapping[str, Any]) -> tuple[bool, int]:
        """Return whether the prompt led to a call, and how many of its arguments are the prompt's words."""
        keys = 0
        for _, _, value in _scalars(args):
            if not isinstance(value, str) or not value:
                continue
            if self._prompt.names(value) or self._prompt.covers(value) or days_in(value) & days_in(self._prompt.text):
                keys += 1
            elif not self._evidence.entries(value, frozenset()):
                return False, keys
        return True, keys

    def _label(self, value: Any) -> Label:
        if not isinstance(value, str) or not value or not self._read_untrusted or self._prompt.names(value):
            return TRUSTED
        return self._untrusted_label(self._taint.source_of(value) if len(value) < 2000 else "")

    def _untrusted_label(self, source: str) -> Label:
        return Label(
            Integrity.UNTRUSTED,
            self._context.confidentiality,
            self._context.readers,
            sources=(source,) if source else (),
        )

    def child(self, task: str) -> FlowSession:
        """Return the guard of a sub-agent.

        The task is the parent's words: trusted only where the user's own prompt has them. The child knows what the parent
        knows; its scope lies within the parent's.
        """
        other = FlowSession(self.specs, self.principal)
        other._prompt, other._scope = self._prompt, self._scope
        other._taint, other._secrets = self._taint, self._secrets
        other._evidence, other._context = self._evidence, self._context
        other._done, other._memory = self._done, self._memory
        other._read_untrusted = self._read_untrusted
        if self._read_untrusted:
            other.untrusted(task, "agent.spawn")
        return other


def undescribed(spec: ToolSpec) -> bool:
    """Return whether a manifest says nothing of what the tool means: it is then judged by a draft from its name."""
    return spec.effect is Effect.EXECUTE and not spec.arguments and not spec.results and not spec.verbs


def kind_of(spec: ToolSpec) -> frozenset[str]:
    """Return words and groups of the things a tool deals with, to tell one tool's ids from another's."""
    _, _, words, groups = profile(spec)
    return groups | words


@lru_cache(maxsize=4096)
def _named_kind(name: str) -> frozenset[str]:
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


def _argument_kind(name: str, argument: Argument, objects: frozenset[str]) -> frozenset[str]:
    """Return what kind of thing a handle must stand for: the kind its own name speaks of, else the tool's."""
    return (_named_kind(name) or objects) if argument.role is Role.HANDLE else frozenset()


def _quote(value: Any) -> str:
    text = scalar_text(value) if not isinstance(value, (dict, list)) else ""
    return text if len(text) <= 120 else text[:117] + "…"


def _scalars(args: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
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
