"""The flow guard of one session: what the agent has read, and what an action's arguments stand on. Pure but stateful.

`prompt` takes trusted text, `observe` takes results, `facts` judges an action from what was taken before it; no clock,
no I/O. Threat: indirect prompt injection. Text that an attacker could have written may inform the agent, but it never
becomes authority: it cannot name a recipient, an account, an address, a file or a command, and it cannot bring about
an effect that the user's own words do not ask for (law 12).
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final

from agent_os.core.action import Action, ToolCall
from agent_os.core.errors import ActionError
from agent_os.core.facts import FlowConcern
from agent_os.core.label import TRUSTED, Integrity, Label
from agent_os.core.manifest import Effect, ToolSpec
from agent_os.core.ports import LabelStore, Outcome
from agent_os.core.principal import ANONYMOUS, Principal
from agent_os.guards.flow import forms, kinds, leaves
from agent_os.guards.flow.evidence import scalar_text
from agent_os.guards.flow.found import Found, spans_again, texts_in
from agent_os.guards.flow.handles import Handles, shown
from agent_os.guards.flow.judge import Judgement, judge
from agent_os.guards.flow.kept import Kept
from agent_os.guards.flow.knowledge import Knowledge
from agent_os.guards.flow.lasting import Lasting, texts_of
from agent_os.guards.flow.memo import Call, held_form, held_of, read_again, said_of
from agent_os.guards.flow.places import answer_concerns
from agent_os.guards.flow.prompt import Prompt
from agent_os.guards.flow.references import References, spelling
from agent_os.guards.flow.taking import Taken, as_read, take, taking

SUSPECTED_MAX: Final = 64
"""Suspected sources that are named; further ones add nothing to the question."""
READS_HANDLES: Final = frozenset({"ref_read", "ref_select", "ref_extract"})
"""Tools that take handles as they are (agents/builtin_refs.py)."""
_INSIDE: Final[ContextVar[Call | None]] = ContextVar("agentos_flow_inside", default=None)
"""The tool's run that this is a part of; lost across threads without a context, where reading then counts as the model's."""


class FlowSession:
    """Implements `core.ports.FlowGuard` for one agent.

    `specs` are the tools' semantics by name (a mapping that may grow); `trusted_paths` are folders and files, absolute and
    canonical, that the user wrote: what is read there is trusted until this session writes to it.
    """

    def __init__(
        self,
        specs: Mapping[str, ToolSpec] | None = None,
        principal: Principal = ANONYMOUS,
        *,
        trusted_paths: tuple[str, ...] = (),
        workspace: str = "/workspace",
        references: References | None = None,
        labels: LabelStore | None = None,
        by_reference: bool = False,
    ) -> None:
        self._known = Knowledge(
            specs if specs is not None else {}, principal, workspace=workspace, references=references or References()
        )
        self._kept = Kept(labels, principal)
        self._lasting = Lasting(self._known, self._kept, trusted_paths)
        self.handles: Handles | None = Handles() if by_reference else None
        self._runs: dict[int, Call] = {}
        self._told_by_parent = False

    def reconfigure(self, trusted_paths: tuple[str, ...], references: References) -> None:
        """Follow another policy's trusted paths and lists from here on; what was read keeps the labels it has."""
        self._lasting.trusted_paths, self._known.references = trusted_paths, references

    @property
    def context(self) -> Label:
        """The join of everything the agent has read."""
        return self._known.context

    def prompt(self, text: str) -> None:
        """Take a message of the user; it may widen the scope, nothing else may. In a sub-agent's session nothing does:
        whoever says it there, its parent told it.
        """
        if not self._told_by_parent:
            self._known.prompt(text)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The messages of the user, oldest first."""
        return tuple(self._known.prompts)

    @property
    def task(self) -> str:
        """The last of them, or nothing."""
        return self._known.prompts[-1] if self._known.prompts else ""

    def untrusted(self, text: str, source: str) -> None:
        """Take untrusted text that reaches the model beside results: descriptions, memories, names of files."""
        self._known.untrusted(text, source)

    def observe(self, action: Action, outcome: Outcome, found: Found | None = ()) -> Outcome:
        """Take the outcome of an action that was carried out, and return it labelled; see `observing`."""
        work = self.observing(action, outcome, found)
        while True:
            try:
                next(work)
            except StopIteration as done:
                labelled: Outcome = done.value
                return labelled

    def observing(self, action: Action, outcome: Outcome, found: Found | None = ()) -> Generator[None, None, Outcome]:
        """Take the outcome of an action that was carried out, in pieces; the generator's value is the outcome labelled.

        `found` is what detectors found in its `examined` texts; None: nobody could look. If it fails, or is left half done,
        everything but the prompt counts as tainted from here on (fail closed), and the error is raised.
        """
        try:
            return (yield from self._observe(action, outcome, self._runs.pop(id(action), None), None, found))
        except BaseException:
            self.distrust()
            raise

    @property
    def busy(self) -> bool:
        """Whether an outcome is being taken at this moment: what is known is not whole."""
        return self._known.busy > 0

    def examined(self, action: Action, outcome: Outcome) -> Mapping[str, str] | None:
        """Return the texts of an outcome that detectors should look at, by pointer; None: more than they may be given.

        Once, with the tool's result; what the model says stands on what was looked at before.
        """
        call = _INSIDE.get()
        if action.kind == "model.call" or (call is not None and not isinstance(action, ToolCall)):
            return {}
        if not outcome.ok:
            return {"": outcome.detail} if outcome.detail else {}
        _, args, spec = kinds.call_of(action, self._known.spec)
        value = outcome.value.decode("utf-8", "replace") if isinstance(outcome.value, bytes) else outcome.value
        return texts_in(as_read(spec, args, value)[1])

    def recall(self, action: Action, outcome: Outcome) -> None:
        """Take an outcome that an earlier run recorded: what was read then has been read, and its handles are known again.

        Without a memo nobody knows what it was: everything but the prompt counts as tainted.
        """
        memo = outcome.memo
        if memo is None:
            self.distrust()
        if not memo:
            return
        try:
            found = spans_again(memo.get("found", ()))
            for _ in self._observe(action, replace(outcome, value=memo.get("value", outcome.value)), None, memo, found):
                pass
            if "suspected" in memo:
                self.suspect(action, str(memo["suspected"]))
        except Exception:
            self.distrust()
            raise

    def distrust(self) -> None:
        """Let everything but the prompt count as tainted from here on: what was read elsewhere is not known here."""
        self._known.read_untrusted = self._known.taint.saturated = True
        self._known.context = self._known.context.join(Label(Integrity.UNTRUSTED, sources=("elsewhere",)))

    def _observe(
        self, action: Action, outcome: Outcome, call: Call | None, again: Mapping[str, Any] | None,
        found: Found | None,
    ) -> Generator[None, None, Outcome]:  # fmt: skip
        tool, args, spec = kinds.call_of(action, self._known.spec)
        if self.handles is not None and tool in READS_HANDLES - {"ref_read"} and outcome.ok:
            self._restore(self.handles, again or {})
            memo = {"taken": True, **(call.memo() if call is not None else {})}
            # handles, and what the runtime chose among trusted fields
            return replace(outcome, label=TRUSTED, leaves=(), memo=memo)
        if tool == "model.call":  # the model's words stand on what it has read, and that is known already
            return replace(outcome, label=self._known.context, leaves=(), memo={})
        handles = self.handles if outcome.ok and tool not in READS_HANDLES else None
        within = _INSIDE.get() if not isinstance(action, ToolCall) else None
        within = within if within is not None and within.known is self._known else None
        kept = self._lasting.label_of(tool, args, outcome, again)
        if outcome.ok and (
            again.get("whole", False) if again is not None else self._lasting.own_text(tool, args, kept)
        ):
            for text in texts_of(outcome.value):
                self._known.own_texts.add(hash(text))
            label = replace(TRUSTED, sources=(kinds.source_of(tool, args),))
            if kept is not None:
                label = label.join(kept)
                self._known.guard(texts_of(outcome.value), kept)
            return replace(outcome, label=label, leaves=(), memo=said_of(whole=True, kept=kept))
        if again is not None and outcome.ok:
            read_again(self._known, again.get("reads", ()), texts_of(outcome.value))
        result = outcome.value if outcome.ok else outcome.detail
        reads = handles is not None and isinstance(action, ToolCall) and spec.effect is Effect.READ
        by_handle = reads or (handles is not None and within is not None)
        taken = yield from taking(
            self._known,
            tool,
            args,
            result,
            spec=spec,
            failed=not outcome.ok,
            unread=by_handle,
            again=again,
            found=found,
        )
        label = taken.label
        if kept is not None:
            label = label.join(kept)
            self._known.guard(texts_of(outcome.value), kept)
        if outcome.ok:
            self._lasting.remember(tool, args, again=again is not None)
        if within is not None:
            path = str(args.get("path", ""))
            within.read("file:" + path.removeprefix(self._known.workspace + "/"), path, kept, taken.listed)
        memo = said_of(listed=taken.listed, own=taken.own, kept=kept, found=found) | (
            call.memo() if call is not None else {}
        )
        if reads and handles is not None and label.integrity is Integrity.UNTRUSTED:
            return self._by_handle(handles, outcome, replace(taken, label=label), spec, memo, again)
        leaves_kept = tuple((leaf.pointer, leaf.label) for leaf in taken.leaves if leaf.label != label)
        return replace(outcome, label=label, leaves=leaves_kept, memo=memo)

    def _by_handle(
        self, handles: Handles, outcome: Outcome, taken: Taken, spec: ToolSpec, memo: Mapping[str, Any],
        again: Mapping[str, Any] | None,
    ) -> Outcome:  # fmt: skip
        """Return an outcome whose untrusted parts are handles: what the model sees has not spoken to it."""
        value = outcome.value.decode("utf-8", "replace") if isinstance(outcome.value, bytes) else outcome.value
        structured = forms.read(value, spec)
        if spec.derived or not any(leaf.pointer for leaf in taken.leaves):
            structured = value
        number = int(again.get("handle", 0)) if again is not None else 0
        handle = handles.keep(structured, taken.label, {leaf.pointer: leaf.label for leaf in taken.leaves}, number)
        seen, seen_label = shown(structured, handle, taken.leaves, drafted=spec.derived)
        memo = {**memo, "value": outcome.value, "handle": handles.held(handle)[0]}
        return replace(outcome, value=seen, label=seen_label, leaves=(), memo=memo)

    def _restore(self, handles: Handles, again: Mapping[str, Any]) -> None:
        """Keep again what a recalled reference tool handed out, and let what it chose vouch."""
        for form in again.get("held", ()):
            number, held = held_of(form)
            handles.keep(held.value, held.label, held.leaves, number)
        self._known.chosen.update(again.get("chosen", ()))

    def keep(self, value: Any, label: Label, held_leaves: Mapping[str, Label]) -> str:
        """Keep a value that a reference tool made; return its handle. Raises ActionError in a session without handles."""
        if self.handles is None:
            raise ActionError("this session has no handles", field="ref")
        handle = self.handles.keep(value, label, held_leaves)
        call = _INSIDE.get()
        if call is not None and call.known is self._known:
            call.held.append(held_form(*self.handles.held(handle)))
        return handle

    def begin_handles(self, number: int) -> None:
        """Let handles of this session begin after a number: those of another session mean nothing here."""
        if self.handles is not None:
            self.handles.begin(number)

    def resolve(self, action: Action) -> Action:
        """Return a tool call with the handles among its arguments filled in. Raises ActionError for an unknown one."""
        if self.handles is None or not isinstance(action, ToolCall) or action.target in READS_HANDLES:
            return action
        args, filled = self.handles.fill(action.args)
        if not filled:
            return action
        for entry in filled:
            self._known.filled[action.target, entry.argument] = entry
        return action.rewritten(args=args)

    @contextlib.contextmanager
    def inside(self, action: Action, *, warned: bool = False) -> Iterator[None]:
        """Mark what happens in here as a tool's own doing: what it reads reaches the model through its result alone.

        `warned`: a rule had something against the call and only recorded it; its arguments then vouch for nothing later.
        """
        call = None
        if isinstance(action, ToolCall):
            call = self._runs[id(action)] = Call(
                self._known, action.args, self._known.spec(action.target), warned=warned
            )
        token = _INSIDE.set(call)
        try:
            yield
        finally:
            _INSIDE.reset(token)

    def choose(self, record: Mapping[str, Any]) -> None:
        """Let the trusted values of a record that the runtime chose as the prompt asked vouch for an authority."""
        chosen = [spelling(scalar_text(value)) for value in record.values() if value not in (None, "")]
        self._known.chosen.update(chosen)
        call = _INSIDE.get()
        if call is not None and call.known is self._known:
            call.chosen.extend(chosen)

    @property
    def words(self) -> Prompt:
        """The user's words, for checking that a choice is the one asked for."""
        return self._known.words

    def facts(self, action: Action) -> tuple[Mapping[str, Label], Label, tuple[FlowConcern, ...]]:
        """Return labels of the arguments, the context's label and the concerns of an action."""
        tool, args, spec = kinds.call_of(action, self._known.spec)
        judgement = judge(self._known, tool, args, spec)
        concerns = judgement.concerns
        if tool == "memory.write" and judgement.labels.get("/value", TRUSTED).integrity is Integrity.UNTRUSTED:
            concerns = (*concerns, FlowConcern("memory_poisoning", "/value", "", "untrusted text is remembered"))
        call = _INSIDE.get() if not isinstance(action, ToolCall) else None
        if call is not None and call.known is self._known and concerns:
            concerns = call.unsettled(concerns, args, spec)
        return judgement.labels, self._known.context, concerns

    @property
    def watched(self) -> tuple[str, ...]:
        """The workspace, and trusted places outside it."""
        return self._lasting.watched

    def programs_wrote(self, paths: Sequence[str] | None) -> None:
        """Take which files a program changed: what it wrote is as untrusted as what it may have read, in every session.

        Where nobody can say, no place is trusted any more in this session, and no list. Raises EffectError.
        """
        try:
            self._lasting.changed(paths)
        except Exception:
            self.distrust()
            raise

    def unlooked(self, action: Action, outcome: Outcome) -> tuple[str, ...]:
        """Return the texts of an outcome that the model now reads and that nobody vouches for; once, with the tool's result."""
        call = _INSIDE.get()
        if action.kind == "model.call" or (call is not None and not isinstance(action, ToolCall)):
            return ()
        if outcome.label.integrity is not Integrity.UNTRUSTED:
            return ()
        texts = texts_of(outcome.value) if outcome.ok else [outcome.detail]
        own = self._known.own_texts
        return tuple(text for text in texts if text.strip() and hash(text) not in own)

    def suspect(self, action: Action, why: str) -> None:
        """Take a classifier's suspicion of what an action returned."""
        tool, args, _ = kinds.call_of(action, self._known.spec)
        if len(self._known.suspected) < SUSPECTED_MAX:
            self._known.suspected.setdefault(kinds.source_of(tool, args), why)

    def answer(self, text: str) -> tuple[FlowConcern, ...]:
        """Return the concerns of what the agent says to its user. Changes nothing."""
        return tuple(answer_concerns(self._known, text))

    def judge(self, tool: str, args: Mapping[str, Any]) -> Judgement:
        """Judge a tool call from what was taken before it. Changes nothing."""
        return judge(self._known, tool, args)

    def take(
        self,
        tool: str,
        args: Mapping[str, Any],
        result: Any,
        *,
        failed: bool = False,
        performed: bool = True,
        found: Found | None = (),
    ) -> tuple[Label, list[leaves.Leaf]]:
        """Take the result of a tool call; `performed` false: it was stopped, and vouches for nothing."""
        taken = take(self._known, tool, args, result, failed=failed, performed=performed, found=found)
        return taken.label, taken.leaves

    def child(self, task: str = "") -> FlowSession:
        """Return the guard of a sub-agent.

        It shares what its parent knows, both ways, and has its parent's prompt and scope and no more. Its `task` is the
        parent's words: it vouches for nothing and widens nothing.
        """
        other = FlowSession()
        other._known, other._kept, other.handles = self._known, self._kept, self.handles
        other._lasting = Lasting(self._known, self._kept, self._lasting.trusted_paths)
        other._told_by_parent = True
        return other
