"""LangChain tools behind the door.

A `GovernedTool` is what the agent, a bare `tool.invoke`, a `ToolNode`, a retry or a sub-agent gets to hold: each call
of it is a `tool.call` for the monitor, and the tool inside runs only as the body of a permitted one, with the
arguments that were judged.

A refused call that came as a model's tool call returns a message the model can act on; one made by Python code raises.
Threats: a dict schema that LangChain does not check; forged injected arguments; one call id used twice; the tool that
answers with something else than data.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, cast

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, ToolException
from langchain_core.tools.base import FILTERED_ARGS, _is_injected_arg_type, get_all_basemodel_annotations
from pydantic import ConfigDict, Field, PrivateAttr

from agent_os.adapters.langchain.identity import code_digest, inferred_spec, json_schema
from agent_os.adapters.langchain.messages import jsonable
from agent_os.adapters.langchain.session import Session, perform_async, perform_sync
from agent_os.adapters.langchain.told import denial_text, noted, outcome_of, pending_text, plain_value, replaced
from agent_os.adapters.langchain.tracing import silence_tracing, without_tracers
from agent_os.core import canonical
from agent_os.core.action import Action, ToolCall
from agent_os.core.errors import ActionError, DeniedError, EffectError
from agent_os.core.manifest import ToolSpec
from agent_os.core.ports import Outcome, Pending

ATTEMPTS_REMEMBERED: Final = 4096


@dataclass(slots=True)
class _Call:
    """One call of a governed tool, from `run` down to `_run`."""

    id: str
    config: RunnableConfig | None
    refusal: dict[str, Any] = field(default_factory=dict)
    note: str = ""


_CALL: ContextVar[_Call | None] = ContextVar("agentos_call", default=None)


class Refused(ToolException):
    """A call that was not carried out; its text is for the model."""


class GovernedTool(BaseTool):
    """A tool whose calls go through the monitor. `inner` is the tool inside; None: the session's own tool."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    session: Any = Field(exclude=True, repr=False)
    inner: Any = Field(default=None, exclude=True, repr=False)
    handle_tool_error: Any = True
    _attempts: OrderedDict[str, int] = PrivateAttr(default_factory=OrderedDict)

    # ---- what LangChain asks of a tool ------------------------------------------------------------------------------

    @property
    def tool_call_schema(self) -> Any:
        """The schema shown to the model: the inner tool's."""
        return self.inner.tool_call_schema if self.inner is not None else super().tool_call_schema

    @property
    def _injected_args_keys(self) -> frozenset[str]:
        return cast("frozenset[str]", self.inner._injected_args_keys) if self.inner is not None else frozenset()

    def get_input_schema(self, config: RunnableConfig | None = None) -> Any:
        """Return the whole input schema, injected arguments included."""
        return self.inner.get_input_schema(config) if self.inner is not None else super().get_input_schema(config)

    @property
    def func(self) -> Any:
        """The inner tool's function: LangGraph reads its annotations to know what to inject. Never called here."""
        return getattr(self.inner, "func", None)

    def run(self, tool_input: str | dict[str, Any], *args: Any, tool_call_id: str | None = None, **kwargs: Any) -> Any:
        """Run a call through the door (called by `invoke` and by LangGraph)."""
        call = _Call(tool_call_id or "", kwargs.get("config"))
        token = _CALL.set(call)
        try:
            self._quiet(kwargs)
            return _with_refusal(super().run(tool_input, *args, tool_call_id=tool_call_id, **kwargs), call)
        finally:
            _CALL.reset(token)

    async def arun(
        self, tool_input: str | dict[str, Any], *args: Any, tool_call_id: str | None = None, **kwargs: Any
    ) -> Any:
        """Run a call through the door (called by `ainvoke` and by LangGraph)."""
        call = _Call(tool_call_id or "", kwargs.get("config"))
        token = _CALL.set(call)
        try:
            self._quiet(kwargs)
            return _with_refusal(await super().arun(tool_input, *args, tool_call_id=tool_call_id, **kwargs), call)
        finally:
            _CALL.reset(token)

    @staticmethod
    def _quiet(kwargs: dict[str, Any]) -> None:
        if "callbacks" in kwargs:
            kwargs["callbacks"] = without_tracers(kwargs["callbacks"])

    # ---- through the door -------------------------------------------------------------------------------------------

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        asked = self._asked(args, kwargs)
        kept: list[Any] = []

        def body(final: Action) -> Outcome:
            kept.append(self._inner_sync(cast("ToolCall", final), asked))
            return outcome_of(kept[-1])

        try:
            done = perform_sync(self.session, asked.action, None if self.inner is None else body, key=asked.key)
        except Exception as error:
            raise self._failed(error, asked) from None if isinstance(error, DeniedError) else error
        return self._result(done, kept, asked)

    async def _arun(self, *args: Any, **kwargs: Any) -> Any:
        asked = self._asked(args, kwargs)
        kept: list[Any] = []

        async def body(final: Action) -> Outcome:
            kept.append(await self._inner_async(cast("ToolCall", final), asked))
            return outcome_of(kept[-1])

        try:
            done = await perform_async(self.session, asked.action, None if self.inner is None else body, key=asked.key)
        except Exception as error:
            raise self._failed(error, asked) from None if isinstance(error, DeniedError) else error
        return self._result(done, kept, asked)

    def _asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Asked:
        """Return the action that this call asks for, and what is injected beside its arguments."""
        call = _CALL.get() or _Call("", None)
        if args:  # a tool with one text argument may be called with the bare text
            names = list(self.args)
            if len(args) > 1 or len(names) != 1:
                raise self._told(call, ActionError("pass arguments by name", field="args"))
            kwargs = {**kwargs, names[0]: args[0]}
        injected_keys = self._injected()
        injected = {name: value for name, value in kwargs.items() if name in injected_keys}
        given = {name: value for name, value in kwargs.items() if name not in injected_keys}
        try:
            plain = {name: jsonable(value) for name, value in given.items()}
            self.session.toolbox.check(self.name, plain)
            action = ToolCall(
                tool=canonical.name(self.name, field="tool"),
                args=canonical.json_value(plain, field="args"),
                principal=self.session.principal,
                call_id=canonical.name(call.id, field="tool_call_id"),
            )
        except (ActionError, EffectError) as error:
            raise self._told(call, error) from None
        return _Asked(action, injected, call, self._key(action, call))

    def _injected(self) -> frozenset[str]:
        if self.inner is None:
            return frozenset(FILTERED_ARGS)
        names = set(FILTERED_ARGS) | set(self.inner._injected_args_keys)
        if self.inner.args_schema is not None and not isinstance(self.inner.args_schema, dict):
            annotations = get_all_basemodel_annotations(self.inner.args_schema)
            names.update(name for name, kind in annotations.items() if _is_injected_arg_type(kind))
        return frozenset(names)

    def _key(self, action: ToolCall, call: _Call) -> str:
        """Return the idempotency key of a call: one effect per session, thread, call id, arguments and attempt."""
        if not call.id:
            return ""
        thread = str(((call.config or {}).get("configurable") or {}).get("thread_id", ""))
        parts = [self.session.principal.session, thread, self.name, call.id, action.digest]
        base = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        return f"lc:{base}:{self._attempts.get(base, 0)}"

    def _inner_sync(self, final: ToolCall, asked: _Asked) -> Any:
        return self.inner.run(
            {**final.args, **asked.injected}, callbacks=[], config=_quiet_config(asked.call.config),
            tool_call_id=self._inner_call_id(asked),
        )  # fmt: skip

    async def _inner_async(self, final: ToolCall, asked: _Asked) -> Any:
        return await self.inner.arun(
            {**final.args, **asked.injected}, callbacks=[], config=_quiet_config(asked.call.config),
            tool_call_id=self._inner_call_id(asked),
        )  # fmt: skip

    def _inner_call_id(self, asked: _Asked) -> str | None:
        """Return the call id for inner tools that need it; others answer with their raw value without one."""
        needs = self.inner.response_format == "content_and_artifact" or self._wants_call_id()
        return asked.call.id or "call" if needs else None

    def _wants_call_id(self) -> bool:
        return "tool_call_id" in self._injected() - frozenset(FILTERED_ARGS)

    # ---- back to the caller -----------------------------------------------------------------------------------------

    def _failed(self, error: Exception, asked: _Asked) -> Exception:
        """Return what to raise for a call that did not come back with an outcome."""
        if isinstance(error, (DeniedError, ActionError, EffectError)):
            return self._told(asked.call, error)
        if asked.key:  # the tool itself raised, or paused its graph: the next try is an effect under a key of its own
            base = asked.key.split(":")[1]
            self._attempts[base] = self._attempts.get(base, 0) + 1
            while len(self._attempts) > ATTEMPTS_REMEMBERED:
                self._attempts.popitem(last=False)
        return error

    def _told(self, call: _Call, error: Exception) -> Exception:
        """Return the error itself for Python callers, a message for the model where the call was a model's."""
        if not call.id:
            return error
        if isinstance(error, DeniedError):
            call.refusal = {"agentos": error.decision.to_json()}
            return Refused(denial_text(error.decision))
        call.refusal = {"agentos": {"error": type(error).__name__}}
        return Refused(f"error: {error}")

    def _result(self, done: Outcome | Pending, kept: list[Any], asked: _Asked) -> Any:
        if isinstance(done, Pending):
            call = asked.call
            if not call.id:
                raise EffectError(f"waits for approval {done.approval_id}")
            call.refusal = {"agentos": {"pending": done.approval_id, **done.decision.to_json()}}
            raise Refused(pending_text(done))
        if not done.ok:
            raise self._told(asked.call, EffectError(done.detail or done.error))
        asked.call.note = done.note
        if not kept:
            return _shown(done.value)
        raw = kept[-1]
        if plain_value(raw) == done.value:
            return raw
        return replaced(raw, done.value)


@dataclass(frozen=True, slots=True)
class _Asked:
    action: ToolCall
    injected: Mapping[str, Any]
    call: _Call
    key: str


def wrap_tools(session: Session, tools: Iterable[Any], manifests: Iterable[ToolSpec] = ()) -> list[Any]:
    """Return governed tools of LangChain tools, plain functions and already governed ones.

    `manifests` give semantics by name; a tool without one is the worst case. Dicts (tools a provider executes) stay as
    they are: the governed model denies those the policy does not name. Raises ActionError for two tools of one name.
    """
    from langchain_core.tools import tool as make_tool  # noqa: PLC0415

    silence_tracing()
    specs = {spec.name: spec for spec in manifests}
    governed: list[Any] = []
    for given in tools:
        if isinstance(given, (dict, GovernedTool)):
            governed.append(given)
            continue
        inner = given if isinstance(given, BaseTool) else make_tool(given)
        governed.append(govern_tool(session, inner, specs.get(inner.name)))
    return governed


def govern_tool(session: Session, inner: BaseTool, spec: ToolSpec | None = None) -> GovernedTool:
    """Register one LangChain tool with the session and return it governed."""
    quiet = inner.model_copy(update={"callbacks": None})
    if spec is None:
        known = session.toolbox.find(inner.name)
        spec = known.spec if known is not None else inferred_spec(inner)
    elif spec.input_schema is None:
        spec = spec.model_copy(update={"input_schema": json_schema(inner)})

    async def run(args: Mapping[str, Any]) -> Any:
        return plain_value(await quiet.arun(dict(args), callbacks=[]))

    session.toolbox.register(spec, run, code=code_digest(inner))
    return GovernedTool(
        name=inner.name,
        description=inner.description,
        args_schema=inner.args_schema,
        return_direct=inner.return_direct,
        extras=inner.extras,
        session=session,
        inner=quiet,
    )


def builtin_tools(session: Session, names: Iterable[str] = ()) -> list[Any]:
    """Return the session's own registered tools (or those named) as governed tools; forbidden ones are left out."""
    silence_tracing()
    wanted = list(names) or sorted(name for name in session.toolbox.names() if "/" not in name)
    governed = []
    for name in wanted:
        registered = session.toolbox.find(name)
        if registered is None:
            raise ActionError("no such tool is registered", field="tools", hint=name)
        if offered(session, name):
            schema = registered.spec.input_schema or {"type": "object", "properties": {}}
            described = {**schema, "title": name, "description": registered.spec.description}
            governed.append(
                GovernedTool(name=name, description=registered.spec.description, args_schema=described, session=session)
            )
    return governed


def offered(session: Session, name: str) -> bool:
    """Return whether some call of this tool could be let through; False hides the tool from the model."""
    ask = getattr(session.monitor.policy, "offers", None)
    return True if ask is None else bool(ask(name))


def _quiet_config(config: RunnableConfig | None) -> RunnableConfig:
    """Return the caller's config without callbacks: nothing beside the door sees arguments or results."""
    return cast("RunnableConfig", {**(config or {}), "callbacks": []})


def _shown(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _with_refusal(output: Any, call: _Call) -> Any:
    if call.refusal and isinstance(output, ToolMessage):
        output.artifact = call.refusal
    return noted(output, call.note)
