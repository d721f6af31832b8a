"""A chat model behind the door.

`GovernedModel` is a `BaseChatModel` around the real one: each call is a `model.call` for the monitor, and the inner
model is called as the body of a permitted one, with the messages that were judged (redacted or pseudonymised ones
where the policy says so), without callbacks and without caches. Answers come back restored, streams included.

Threats: a summary, a fallback or a sub-agent that calls a model past the middleware (every model is wrapped); tools
that the provider executes on its own machines (denied unless the policy names them); a stream that shows what the
whole answer would not; a tracer or callback that gets the raw prompt.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field

from agent_os.adapters.langchain.asked import (
    CLIENT_TOOL_TYPES,
    LENGTHS,
    PROVIDER_ARGUMENTS,
    REQUEST_ROLE,
    length_limit,
    rest_of_request,
    tool_name,
)
from agent_os.adapters.langchain.messages import (
    message_usage,
    neutral_message,
    neutral_messages,
    recorded_message,
    restored_message,
    rewritten_messages,
)
from agent_os.adapters.langchain.named import named
from agent_os.adapters.langchain.session import Session, perform_async, perform_sync
from agent_os.adapters.langchain.streaming import AnswerStream, shown_token, whole_as_chunks
from agent_os.adapters.langchain.tracing import silence_tracing, without_tracers
from agent_os.core import canonical
from agent_os.core.action import Action, ModelCall
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import ActionError, DeniedError, EffectError, StoppedError
from agent_os.core.ports import Admission, Outcome, Pending
from agent_os.guards.models.neutral import estimated_tokens
from agent_os.monitor.stopping import unless_halted


class GovernedModel(BaseChatModel):
    """A chat model whose calls go through the monitor.

    `inner` is the model inside. `routes` are other models by `provider/model` (or model) that the policy may route to.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    session: Any = Field(exclude=True, repr=False)
    inner: Any = Field(exclude=True, repr=False)
    routes: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)
    purpose: str = ""
    cache: Any = False

    # ---- what LangChain asks of a model -----------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "agent-os"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"inner": getattr(self.inner, "_llm_type", "unknown")}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return cast("LangSmithParams", self.inner._get_ls_params(stop=stop, **kwargs))

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools as the inner model does. Raises DeniedError for a provider-executed tool no rule allows."""
        for given in tools:
            if isinstance(given, dict):
                self._check_provider_tool(given)
        bound = self.inner.bind_tools(tools, **kwargs)
        return cast("Runnable[LanguageModelInput, AIMessage]", self.bind(**getattr(bound, "kwargs", {})))

    def generate(
        self, messages: list[list[BaseMessage]], stop: Any = None, callbacks: Any = None, **kwargs: Any
    ) -> Any:
        """Generate answers; tracers among the callbacks are left out."""
        return super().generate(messages, stop, without_tracers(callbacks), **kwargs)

    async def agenerate(
        self, messages: list[list[BaseMessage]], stop: Any = None, callbacks: Any = None, **kwargs: Any
    ) -> Any:
        """Generate answers; tracers among the callbacks are left out."""
        return await super().agenerate(messages, stop, without_tracers(callbacks), **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Stream an answer; tracers among the callbacks are left out."""
        yield from super().stream(input, _without_tracers(config), **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Stream an answer; tracers among the callbacks are left out."""
        async for chunk in super().astream(input, _without_tracers(config), **kwargs):
            yield chunk

    # ---- whole answers ----------------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        action, kept = self._asked(messages, kwargs, stop), cast("list[AIMessage]", [])

        def body(final: Action) -> Outcome:
            call = self._call(cast("ModelCall", final), action, messages, kwargs)
            answer = call.model.invoke(call.messages, config={"callbacks": []}, **call.kwargs)
            return _kept(answer, kept)

        return _result(perform_sync(self.session, action, body), kept)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        action, kept = self._asked(messages, kwargs, stop), cast("list[AIMessage]", [])

        async def body(final: Action) -> Outcome:
            call = self._call(cast("ModelCall", final), action, messages, kwargs)
            answer = await call.model.ainvoke(call.messages, config={"callbacks": []}, **call.kwargs)
            return _kept(answer, kept)

        return _result(await perform_async(self.session, action, body), kept)

    # ---- streams ----------------------------------------------------------------------------------------------------

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        if _recorded(self.session):
            yield from whole_as_chunks(self._generate(messages, stop, run_manager, **kwargs))
            return
        action = self._asked(messages, kwargs, stop)
        admission: Admission = self.session.loop.run(self.session.monitor.admit(action))
        flow = AnswerStream(self.session)
        try:
            call = self._call(cast("ModelCall", admission.action), action, messages, kwargs)
            for chunk in call.model.stream(call.messages, config={"callbacks": []}, **call.kwargs):
                halt = self.session.monitor.halted()
                if halt is not None:  # between two pieces: nothing cuts off what a thread waits for
                    raise StoppedError(f"cut off: {halt.reason}")
                for out in flow.feed(chunk):
                    if run_manager is not None:
                        run_manager.on_llm_new_token(shown_token(out), chunk=out)
                    yield out
            flow.ended = True
            for out in flow.flush():
                if run_manager is not None:
                    run_manager.on_llm_new_token(shown_token(out), chunk=out)
                yield out
        finally:
            self.session.loop.run(flow.settled(admission))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        if _recorded(self.session):
            async for out in self._recorded_stream(messages, stop, kwargs):
                if run_manager is not None:
                    await run_manager.on_llm_new_token(shown_token(out), chunk=out)
                yield out
            return
        action = self._asked(messages, kwargs, stop)
        admission: Admission = await self.session.loop.call(self.session.monitor.admit(action))
        flow = AnswerStream(self.session)
        try:
            call = self._call(cast("ModelCall", admission.action), action, messages, kwargs)
            pieces = call.model.astream(call.messages, config={"callbacks": []}, **call.kwargs)
            async for chunk in unless_halted(pieces, self.session.monitor.halted):
                for out in flow.feed(chunk):
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(shown_token(out), chunk=out)
                    yield out
            flow.ended = True
            for out in flow.flush():
                if run_manager is not None:
                    await run_manager.on_llm_new_token(shown_token(out), chunk=out)
                yield out
        finally:
            settling = self.session.loop.call(flow.settled(admission))
            await asyncio.shield(asyncio.ensure_future(settling))

    async def _recorded_stream(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> AsyncIterator[ChatGenerationChunk]:
        """Stream an answer that is recorded whole: chunks pass as they come, and an answer that an earlier run of the task
        has recorded is one chunk, without another call.
        """
        action, kept = self._asked(messages, kwargs, stop), cast("list[AIMessage]", [])
        passed: asyncio.Queue[ChatGenerationChunk | None] = asyncio.Queue()

        async def body(final: Action) -> Outcome:
            call, flow = self._call(cast("ModelCall", final), action, messages, kwargs), AnswerStream(self.session)
            async for chunk in call.model.astream(call.messages, config={"callbacks": []}, **call.kwargs):
                for out in flow.feed(chunk):
                    passed.put_nowait(out)
            flow.ended = True
            for out in flow.flush():
                passed.put_nowait(out)
            await flow.recorded()
            return flow.outcome()

        performed = asyncio.ensure_future(perform_async(self.session, action, body))
        performed.add_done_callback(lambda _: passed.put_nowait(None))
        shown = False
        try:
            while (out := await passed.get()) is not None:
                shown = True
                yield out
            result = _result(performed.result(), kept)
        finally:
            if not performed.done():
                performed.cancel()
                await asyncio.wait({performed})
        if not shown:
            for whole in whole_as_chunks(result):
                yield whole

    # ---- from a call to an action and back --------------------------------------------------------------------------

    def _asked(self, messages: list[BaseMessage], kwargs: Mapping[str, Any], stop: list[str] | None) -> ModelCall:
        """Return the action of a call. Raises ActionError, and DeniedError for provider-executed tools."""
        for given in kwargs.get("tools") or ():
            if isinstance(given, Mapping):
                self._check_provider_tool(given)
        for name in PROVIDER_ARGUMENTS:
            if kwargs.get(name) or getattr(self.inner, name, None):
                self._check_named(name)
        neutral = [*rest_of_request({**kwargs, "stop": stop} if stop else kwargs), *neutral_messages(messages)]
        provider, model = model_name(self.inner)
        return ModelCall(
            model=model,
            provider=provider,
            messages=neutral,
            tools=tuple(tool_name(given) for given in kwargs.get("tools") or ()),
            input_tokens=estimated_tokens(neutral),
            max_tokens=length_limit(self.inner, kwargs),
            purpose=self.purpose,
            principal=self.session.principal,
        )

    def _call(
        self, final: ModelCall, asked: ModelCall, messages: list[BaseMessage], kwargs: Mapping[str, Any]
    ) -> _Call:
        """Return how to call which model for an action as it was finally judged."""
        model, sent = self.inner, dict(kwargs)
        if (final.provider, final.model) != (asked.provider, asked.model):
            model = self.routes.get(f"{final.provider}/{final.model}", self.routes.get(final.model))
            if model is None:
                raise EffectError(f"the policy routes this call to {final.provider}/{final.model}, which is not here")
        conversation = list(final.messages)
        if conversation and conversation[0].get("role") == REQUEST_ROLE:
            sent.update(conversation.pop(0)["content"])
        if final.max_tokens != asked.max_tokens:
            sent[next((name for name in LENGTHS if hasattr(model, name)), LENGTHS[0])] = final.max_tokens
        return _Call(model, rewritten_messages(messages, conversation), sent)

    def _check_provider_tool(self, given: Mapping[str, Any]) -> None:
        kind = given.get("type")
        if kind in CLIENT_TOOL_TYPES or (kind is None and tool_name(given)):
            return
        self._check_named(kind if isinstance(kind, str) else "unnamed")

    def _check_named(self, name: str) -> None:
        """Raise DeniedError unless every layer of the policy lists this provider-executed tool in `provider_tools`."""
        policy = self.session.monitor.policy
        listed = [
            {tool for unit in layer.units if unit.file.models is not None for tool in unit.file.models.provider_tools}
            for layer in policy.layers
        ]
        if listed and all(name in tools for tools in listed):
            return
        reason = f"the model's provider would execute {name!r} outside every guard, and models.provider_tools omits it"
        advice = "tools of this session, which are judged call by call"
        raise DeniedError(
            Decision(Verdict.DENY, ("models.provider_tools",), reason, policy_digest=policy.digest, advice=advice)
        )


@dataclass(frozen=True, slots=True)
class _Call:
    model: Any
    messages: list[BaseMessage]
    kwargs: dict[str, Any]


def govern_model(
    session: Session, model: Any, *, routes: Mapping[str, Any] | None = None, **options: Any
) -> GovernedModel:
    """Return a governed chat model of a LangChain chat model or of its name (`openai:gpt-5`, `nvidia:…`).

    A name that LangChain does not know, or has no package for here, may be `PROVIDER:MODEL` of the policy's `models`. `options`
    go to LangChain's `init_chat_model`. Raises EffectError naming the package to install.
    """
    silence_tracing()
    if isinstance(model, GovernedModel):
        return model
    if isinstance(model, str):
        model = named(session, model, options)
    if not isinstance(model, BaseChatModel):
        raise ActionError("must be a LangChain chat model or its name", field="model")
    profile = getattr(model, "profile", None)
    return GovernedModel(
        session=session,
        inner=_quiet(model),
        routes={name: _quiet(other) for name, other in (routes or {}).items()},
        profile=profile,
        disable_streaming=model.disable_streaming,
    )


def model_name(inner: Any) -> tuple[str, str]:
    """Return (provider, model) of a LangChain chat model."""
    said = inner._get_ls_params()
    provider = str(said.get("ls_provider") or getattr(inner, "_llm_type", "unknown"))
    model = said.get("ls_model_name") or getattr(inner, "model_name", None) or getattr(inner, "model", None) or provider
    return canonical.name(provider.lower(), field="provider"), canonical.name(str(model), field="model")


def _quiet(model: BaseChatModel) -> BaseChatModel:
    """Return a model without callbacks and cache of its own: nothing beside the door sees a prompt."""
    return model.model_copy(update={"callbacks": None, "cache": False})


def _without_tracers(config: RunnableConfig | None) -> RunnableConfig | None:
    if config is None or "callbacks" not in config:
        return config
    return cast("RunnableConfig", {**config, "callbacks": without_tracers(config["callbacks"])})


def _kept(answer: Any, kept: list[AIMessage]) -> Outcome:
    if not isinstance(answer, AIMessage):
        raise EffectError("the model answered with something else than a message")
    kept.append(answer)
    return Outcome(neutral_message(answer), usage=message_usage(answer))


def _recorded(session: Session) -> bool:
    """Return whether this session records answers to be replayed (a durable task's)."""
    return bool(getattr(session, "records_streams", False))


def _result(done: Outcome | Pending, kept: Iterable[AIMessage]) -> ChatResult:
    if isinstance(done, Pending):
        raise DeniedError(
            replace(done.decision, reason=f"waits for approval {done.approval_id}: {done.decision.reason}")
        )
    if not done.ok:
        raise EffectError(f"model.call: {done.detail or done.error}")
    answers = list(kept)
    if not answers:  # recorded under its idempotency key by an earlier run
        recorded = recorded_message(done.value)
        return ChatResult(generations=[ChatGeneration(message=recorded)])
    return ChatResult(generations=[ChatGeneration(message=restored_message(answers[-1], done.value))])
