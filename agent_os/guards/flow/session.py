"""The flow guard of one session: what the agent has read, and what an action's arguments stand on. Pure but stateful.

`prompt` takes trusted text, `observe` takes results, `facts` judges an action from what was taken before it; no clock,
no I/O. Threat: indirect prompt injection. Text that an attacker could have written may inform the agent, but it never
becomes authority: it cannot name a recipient, an account, an address, a file or a command, and it cannot bring about
an effect that the user's own words do not ask for (law 12).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final

from agent_os.core.action import Action, ToolCall
from agent_os.core.facts import FlowConcern
from agent_os.core.label import TRUSTED, Integrity, Label
from agent_os.core.manifest import Effect, ToolSpec
from agent_os.core.ports import LabelStore, Outcome
from agent_os.core.principal import ANONYMOUS, Principal
from agent_os.guards.flow import kinds, leaves
from agent_os.guards.flow.evidence import scalar_text
from agent_os.guards.flow.handles import Handles, shown
from agent_os.guards.flow.judge import Judgement, judge
from agent_os.guards.flow.kept import Kept, trusted
from agent_os.guards.flow.knowledge import Knowledge, scalars
from agent_os.guards.flow.prompt import Prompt
from agent_os.guards.flow.references import References, spelling

READS_HANDLES: Final = frozenset({"ref_read", "ref_select", "ref_extract"})
"""Tools that take handles as they are (agents/builtin_refs.py)."""
_INSIDE: Final[ContextVar[Knowledge | None]] = ContextVar("agentos_flow_inside", default=None)
"""Whose tool is running here; lost across threads without a context, where reading then counts as the model's."""


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
        self._trusted_paths = trusted_paths
        self._kept = Kept(labels, principal)
        self.handles: Handles | None = Handles() if by_reference else None

    @property
    def context(self) -> Label:
        """The join of everything the agent has read."""
        return self._known.context

    def prompt(self, text: str) -> None:
        """Take a message of the user; it may widen the scope, nothing else may."""
        self._known.prompt(text)

    def untrusted(self, text: str, source: str) -> None:
        """Take untrusted text that reaches the model beside results: descriptions, memories, names of files."""
        self._known.untrusted(text, source)

    def observe(self, action: Action, outcome: Outcome) -> Outcome:
        """Take the outcome of an action that was carried out, and return it labelled.

        If that fails, everything but the prompt counts as tainted from here on (fail closed), and the error is raised.
        """
        try:
            return self._observe(action, outcome)
        except Exception:
            self.distrust()
            raise

    def distrust(self) -> None:
        """Let everything but the prompt count as tainted from here on: what was read elsewhere is not known here."""
        self._known.read_untrusted = self._known.taint.saturated = True

    def _observe(self, action: Action, outcome: Outcome) -> Outcome:
        tool, args, spec = kinds.call_of(action, self._known.spec)
        if self.handles is not None and tool in READS_HANDLES - {"ref_read"} and outcome.ok:
            return replace(
                outcome, label=TRUSTED, leaves=()
            )  # handles, and what the runtime chose among trusted fields
        if tool == "model.call":  # the model's words stand on what it has read, and that is known already
            return replace(outcome, label=self._known.context, leaves=())
        handles = self.handles if outcome.ok and tool not in READS_HANDLES else None
        inside = handles is not None and not isinstance(action, ToolCall) and _INSIDE.get() is self._known
        kept = self._kept_label(tool, args, outcome)
        if outcome.ok and self._own_text(tool, args, kept):
            for text in _texts(outcome.value):
                self._known.own_texts.add(hash(text))
            label = replace(TRUSTED, sources=(kinds.source_of(tool, args),))
            return replace(outcome, label=label if kept is None else label.join(kept), leaves=())
        result = outcome.value if outcome.ok else outcome.detail
        by_handle = inside or (handles is not None and isinstance(action, ToolCall) and spec.effect is Effect.READ)
        label, found = self._known.take(tool, args, result, spec, failed=not outcome.ok, unread=by_handle)
        if kept is not None:
            label = label.join(kept)
            self._known.guard(_texts(outcome.value), kept)
        if outcome.ok:
            self._remember(tool, args)
        if by_handle and not inside and handles is not None and label.integrity is Integrity.UNTRUSTED:
            return self._by_handle(handles, outcome, label, found, spec)
        leaves_kept = tuple((leaf.pointer, leaf.label) for leaf in found if leaf.label != label)
        return replace(outcome, label=label, leaves=leaves_kept)

    def _by_handle(
        self, handles: Handles, outcome: Outcome, label: Label, found: list[leaves.Leaf], spec: ToolSpec
    ) -> Outcome:
        """Return an outcome whose untrusted parts are handles: what the model sees has not spoken to it."""
        value = outcome.value.decode("utf-8", "replace") if isinstance(outcome.value, bytes) else outcome.value
        structured = leaves.structured(value, bool(spec.results))
        if spec.derived or not any(leaf.pointer for leaf in found):
            structured = value
        handle = handles.keep(structured, label, {leaf.pointer: leaf.label for leaf in found})
        seen, seen_label = shown(structured, handle, found, drafted=spec.derived)
        return replace(outcome, value=seen, label=seen_label, leaves=())

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
    def inside(self, action: Action) -> Iterator[None]:
        """Mark what happens in here as a tool's own doing: what it reads reaches the model through its result alone."""
        token = _INSIDE.set(self._known if isinstance(action, ToolCall) else None)
        try:
            yield
        finally:
            _INSIDE.reset(token)

    def choose(self, record: Mapping[str, Any]) -> None:
        """Let the trusted values of a record that the runtime chose as the prompt asked vouch for an authority."""
        self._known.chosen.update(spelling(scalar_text(value)) for value in record.values() if value not in (None, ""))

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
        return judgement.labels, self._known.context, concerns

    def judge(self, tool: str, args: Mapping[str, Any]) -> Judgement:
        """Judge a tool call from what was taken before it. Changes nothing."""
        return judge(self._known, tool, args)

    def take(
        self, tool: str, args: Mapping[str, Any], result: Any, *, failed: bool = False, performed: bool = True
    ) -> tuple[Label, list[leaves.Leaf]]:
        """Take the result of a tool call; `performed` false: it was stopped, and vouches for nothing."""
        return self._known.take(tool, args, result, failed=failed, performed=performed)

    def child(self, task: str = "") -> FlowSession:
        """Return the guard of a sub-agent.

        It shares what its parent knows, both ways, and has its parent's prompt and scope and no more. Its `task` is the
        parent's words: it vouches for nothing and widens nothing.
        """
        other = FlowSession(trusted_paths=self._trusted_paths)
        other._known, other._kept, other.handles = self._known, self._kept, self.handles
        return other

    def _kept_label(self, tool: str, args: Mapping[str, Any], outcome: Outcome) -> Label | None:
        """Return the label that an earlier write left on what was read."""
        if not outcome.ok:
            return None
        if tool == "memory.read":
            return self._kept.of_memory(str(args.get("key", "")), outcome.value)
        if tool != "fs.read":
            return None
        return self._kept.of_file(
            str(args.get("path", "")), outcome.value if isinstance(outcome.value, bytes) else None
        )

    def _own_text(self, tool: str, args: Mapping[str, Any], kept: Label | None) -> bool:
        """Return whether what was read is the user's own: a trusted path, or a memory of trusted text."""
        if tool == "memory.read":
            return trusted(kept)
        path = str(args.get("path", ""))
        if tool != "fs.read" or kept is not None or path in self._known.written:
            if kept is not None and tool == "fs.read":
                self._known.written.add(path)  # no reference list either
            return False
        return any(path == known or path.startswith(known.rstrip("/") + "/") for known in self._trusted_paths)

    def _remember(self, tool: str, args: Mapping[str, Any]) -> None:
        """Keep the label of what was written: a memory keeps it for ever, a file has lost its trust."""
        path = str(args.get("path", ""))
        if tool == "memory.write":
            value = args.get("value")
            self._kept.remembered(str(args.get("key", "")), value, self._known.label_of(value))
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
        for text in _texts(args) if paths else ():
            found = self._known.secrets.found_in(text)
            if found is not None:
                for path in paths:
                    self._kept.wrote(path, replace(found, integrity=Integrity.UNTRUSTED), "")


def _texts(value: Any) -> list[str]:
    """Return the texts in a value, bytes read as text."""
    if isinstance(value, bytes):
        return [value.decode("utf-8", "replace")]
    return [item for _, _, item in scalars({"": value}) if isinstance(item, str)]
