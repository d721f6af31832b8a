"""What only a LangChain middleware can do for a session: hide, catch what nobody wrapped, ask, pass the prompt on.

It is not the boundary (`tools.py` and `model.py` are). It hides forbidden tools from the model; puts tools that other
middlewares brought (todo lists, file systems, sub-agents) through the door as `tool.call`s of their name; wraps a raw
model that a fallback put in; and, with `approvals="interrupt"`, pauses the graph for a person instead of answering
"waits".

Threats: a hidden tool that the model names anyway (its call is judged like any other); a tool that nobody wrapped; an
approval that the agent gives itself (answers come through `Command(resume=…)`, which the application sends, and bind
to one digest).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, cast

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain.agents.middleware.types import AgentState, ToolCallRequest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from agent_os.adapters.langchain.deep_tools import delegation_of, keeps_state, starts_agent
from agent_os.adapters.langchain.delegating import DelegateTool, Wanted
from agent_os.adapters.langchain.identity import inferred_spec
from agent_os.adapters.langchain.messages import jsonable
from agent_os.adapters.langchain.model import GovernedModel, govern_model
from agent_os.adapters.langchain.session import Session, perform_async, perform_sync
from agent_os.adapters.langchain.told import denial_text, noted, outcome_of, pending_text, plain_value, replaced
from agent_os.adapters.langchain.tools import GovernedTool, offered
from agent_os.adapters.langchain.tracing import silence_tracing
from agent_os.core.action import Action, AgentSpawn, ToolCall
from agent_os.core.approval import Answer as PersonsAnswer
from agent_os.core.errors import ActionError, DeniedError, EffectError
from agent_os.core.manifest import Effect, ToolSpec
from agent_os.core.ports import Outcome, Pending
from agent_os.monitor.asking import answer as record_answer
from agent_os.monitor.shown import shown

ANSWERS_MAX: Final = 8
"""Times one call may be paused for a person in one run of its node."""
UNWRAPPED: Final = "unwrapped"
"""The server name of a tool nobody wrapped whose own name is taken."""
Answer = ToolMessage | Command[Any]


class AgentOSMiddleware(AgentMiddleware[Any, Any, Any]):
    """The middleware of a session for `create_agent`.

    `approvals` is "message" (an unanswered ask comes back as a tool message) or "interrupt" (the graph pauses; resume
    it with `Command(resume={"type": "approve" | "reject" | "edit", "by": "person@…", "note": "…", "args": {…}})`;
    needs a checkpointer). `prompt` passes the newest user message to the session as its trusted prompt: off for
    sub-agents, whose task another model wrote.
    """

    def __init__(
        self, session: Session, *, approvals: Literal["message", "interrupt"] = "message", prompt: bool = True
    ) -> None:
        super().__init__()
        silence_tracing()
        self._session, self._approvals, self._prompt = session, approvals, prompt

    # ---- the prompt -------------------------------------------------------------------------------------------------

    def before_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Tell the session what its user asked."""
        if self._prompt:
            asked = [message for message in state["messages"] if isinstance(message, HumanMessage)]
            if asked:
                self._session.prompt(asked[-1].text)
        return None

    async def abefore_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Tell the session what its user asked."""
        return self.before_agent(state, runtime)

    # ---- models -----------------------------------------------------------------------------------------------------

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Hide forbidden tools, and govern a model that nobody wrapped."""
        response = handler(self._governed(request))
        return self._session.loop.run(self._shown(response)) if self._says(response) else response

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Hide forbidden tools, and govern a model that nobody wrapped."""
        response = await handler(self._governed(request))
        return await self._session.loop.call(self._shown(response)) if self._says(response) else response

    def _says(self, response: ModelResponse[Any]) -> bool:
        """Return whether a model's response holds text that a guard must look at before it is shown."""
        watched = self._session.monitor.session.flow is not None
        return watched and any(message.type == "ai" and message.text for message in response.result)

    async def _shown(self, response: ModelResponse[Any]) -> ModelResponse[Any]:
        """Return a response whose text is as the user may be shown it."""
        for place, message in enumerate(response.result):
            if message.type == "ai":
                content = await self._rendered(message.content)
                if content != message.content:
                    response.result[place] = message.model_copy(update={"content": content})
        return response

    async def _rendered(self, content: Any) -> Any:
        if isinstance(content, str):
            return await shown(self._session.monitor, content)
        done = []
        for block in content:
            text = block.get("text") if isinstance(block, dict) else block
            said = await shown(self._session.monitor, text) if isinstance(text, str) else text
            done.append(block if said == text else {**block, "text": said} if isinstance(block, dict) else said)
        return done

    def _governed(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        shown = [tool for tool in request.tools if not isinstance(tool, BaseTool) or self._offered(tool)]
        changes: dict[str, Any] = {}
        if len(shown) != len(request.tools):
            changes["tools"] = shown
        if not isinstance(request.model, GovernedModel):
            changes["model"] = govern_model(self._session, request.model)
        return request.override(**changes) if changes else request

    def _offered(self, tool: BaseTool) -> bool:
        if isinstance(tool, DelegateTool):  # made only for who may start some role; each start is judged
            return True
        if starts_agent(tool):
            return any(section.roles for section, _, _ in self._session.monitor.policy.sections("agents"))
        return offered(self._session, tool.name)

    # ---- tools ------------------------------------------------------------------------------------------------------

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Answer]) -> Answer:
        """Carry a call out through the door; pause for a person where that is asked for."""
        for _ in range(ANSWERS_MAX):
            answer = handler(request) if _is_governed(request) else self._through_sync(request, handler)
            changed = self._asked_person(request, answer)
            if changed is None:
                return answer
            if isinstance(changed, ToolMessage):
                return changed
            request = changed
        return answer

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Answer]]
    ) -> Answer:
        """Carry a call out through the door; pause for a person where that is asked for."""
        if (
            isinstance(request.tool, BaseTool)
            and starts_agent(request.tool)
            and delegation_of(self._session) is not None
        ):
            return await self._delegated(request)
        for _ in range(ANSWERS_MAX):
            answer = await (handler(request) if _is_governed(request) else self._through_async(request, handler))
            asked = self._person(request, answer)
            if asked is None:
                return answer
            await self._session.loop.call(self._answer(*asked))
            changed = self._after(request, *asked)
            if isinstance(changed, ToolMessage):
                return changed
            request = changed
        return answer

    def _through_sync(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Answer]) -> Answer:
        kept: list[Answer] = []

        def body(final: Action) -> Outcome:
            with self._child(final):
                kept.append(handler(_final(request, final)))
            return outcome_of(kept[-1])

        try:
            return _answer(request, perform_sync(self._session, self._action(request), body), kept)
        except (DeniedError, ActionError, EffectError) as error:
            return _refused(request, error)

    async def _delegated(self, request: ToolCallRequest) -> Answer:
        """Start a sub-agent of a durable task as a task of its own, in the place of the one that deepagents would run."""
        action = self._action(request)
        if not isinstance(action, AgentSpawn):
            raise ActionError("starts no sub-agent", field="tool")
        wanted = [Wanted(action.role, action.task)]
        (done,) = await self._session.loop.call(delegation_of(self._session).run_all(wanted))
        if not done["ok"]:
            return _message(request, str(done["error"]), {})
        said = done["answer"]
        return _message(request, said if isinstance(said, str) else json.dumps(said), {}, status="success")

    async def _through_async(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Answer]]
    ) -> Answer:
        kept: list[Answer] = []

        async def body(final: Action) -> Outcome:
            with self._child(final):
                kept.append(await handler(_final(request, final)))
            return outcome_of(kept[-1])

        try:
            done = await perform_async(self._session, self._action(request), body)
            if not kept and isinstance(done, Outcome) and done.ok and keeps_state(request.tool):
                kept.append(
                    await handler(request)
                )  # a recorded outcome: what it changed was in the graph's state alone
            return _answer(request, done, kept)
        except (DeniedError, ActionError, EffectError) as error:
            return _refused(request, error)

    @contextmanager
    def _child(self, final: Action) -> Iterator[None]:
        """Count a sub-agent among the session's children while it works."""
        own = self._session.monitor.session
        started = isinstance(final, AgentSpawn)
        if isinstance(final, AgentSpawn):
            self._count(final.role)
        own.children += started
        try:
            yield
        finally:
            own.children -= started

    def _count(self, role: str) -> None:
        """Count a sub-agent; one that nobody governed is not started: its own tools would run past the guard."""
        roles: Any = getattr(self._session, "roles", None)
        if roles is None or role not in roles:
            raise ActionError(
                "the sub-agent is not governed, so its tools would run past the guard", field=f"subagents.{role}",
                hint="build the agent with governed_deep_agent, or its specs with govern_subagents",
            )  # fmt: skip
        roles.count()

    def _action(self, request: ToolCallRequest) -> ToolCall | AgentSpawn:
        """Return the `tool.call` of a tool nobody wrapped, registered as the worst case; of deepagents' `task`, which starts
        a sub-agent, the `agent.spawn`.

        Where its name is taken by another tool it is `unwrapped/NAME`: it cannot pass for that one.
        """
        if isinstance(request.tool, BaseTool) and starts_agent(request.tool):
            given = jsonable(request.tool_call["args"])
            wire = {"kind": "agent.spawn", "role": given.get("subagent_type"), "task": given.get("description", "")}
            return cast("AgentSpawn", Action.parse(wire, principal=self._session.principal))
        name, server, toolbox = request.tool_call["name"], "", self._session.toolbox
        if isinstance(request.tool, BaseTool):
            spec, code = _unwrapped_spec(request.tool), _code_of(request.tool)
            try:
                toolbox.register(spec, _only_here, code=code)
            except ActionError:
                server = UNWRAPPED
                toolbox.register(spec, _only_here, code=code, server=server)
        return ToolCall(
            tool=name,
            server=server,
            args=jsonable(request.tool_call["args"]),
            principal=self._session.principal,
            call_id=request.tool_call.get("id") or "",
        )

    # ---- people -----------------------------------------------------------------------------------------------------

    def _asked_person(self, request: ToolCallRequest, answer: Answer) -> ToolCallRequest | ToolMessage | None:
        asked = self._person(request, answer)
        if asked is None:
            return None
        self._session.loop.run(self._answer(*asked))
        return self._after(request, *asked)

    def _person(self, request: ToolCallRequest, answer: Answer) -> tuple[str, Mapping[str, Any]] | None:
        """Pause the graph for a call that waits; return the approval's id and the application's answer on resume."""
        said = answer.artifact if isinstance(answer, ToolMessage) and isinstance(answer.artifact, Mapping) else {}
        waiting = said.get("agentos", {}).get("pending") if isinstance(said.get("agentos"), Mapping) else None
        if waiting is None or self._approvals != "interrupt":
            return None
        call = request.tool_call
        resumed = interrupt(
            {
                "type": "approval",
                "approval": waiting,
                "tool": call["name"],
                "args": call["args"],
                "rules": said["agentos"].get("rules", []),
                "reason": said["agentos"].get("reason", ""),
            }
        )
        if not isinstance(resumed, Mapping) or resumed.get("type") not in ("approve", "reject", "edit"):
            raise ActionError("must be {'type': 'approve' | 'reject' | 'edit', 'by': …}", field="resume")
        return waiting, resumed

    async def _answer(self, approval: str, resumed: Mapping[str, Any]) -> None:
        ports = self._session.monitor.ports
        asked = await ports.approvals.get(approval) if ports.approvals is not None else None
        if asked is None:
            raise EffectError("the approval that waits is not in the store")
        given = PersonsAnswer(
            approve=resumed["type"] != "reject",
            approver=str(resumed.get("by") or self._session.principal.user),
            note=str(resumed.get("note", "")),
            lasting=str(resumed.get("lasting", "once")),
            width=str(resumed.get("width", "exact")),
            arguments=jsonable(resumed.get("args", {})) if resumed["type"] == "edit" else None,
        )
        await record_answer(ports, asked, given)

    @staticmethod
    def _after(request: ToolCallRequest, approval: str, resumed: Mapping[str, Any]) -> ToolCallRequest | ToolMessage:
        """Return the call to make now (the door puts changed arguments in and judges them), or the person's refusal."""
        if resumed["type"] in ("approve", "edit"):
            return request
        note = f": {resumed['note']}" if resumed.get("note") else ""
        return _message(request, f"a person denied this call{note}. Do not repeat it.", {"denied": approval})


def _is_governed(request: ToolCallRequest) -> bool:
    return isinstance(request.tool, GovernedTool | DelegateTool)


def _final(request: ToolCallRequest, final: Action) -> ToolCallRequest:
    """Return the call to make for an action as it was finally judged."""
    if isinstance(final, AgentSpawn):
        return _with_args(
            request, {**request.tool_call["args"], "description": final.task, "subagent_type": final.role}
        )
    return _with_args(request, cast("ToolCall", final).args)


def _with_args(request: ToolCallRequest, args: Mapping[str, Any]) -> ToolCallRequest:
    if args == request.tool_call["args"]:
        return request
    return request.override(tool_call={**request.tool_call, "args": dict(args)})


def _answer(request: ToolCallRequest, done: Outcome | Pending, kept: list[Answer]) -> Answer:
    if isinstance(done, Pending):
        artifact = {"pending": done.approval_id, **done.decision.to_json()}
        return _message(request, pending_text(done), artifact)
    if not done.ok:
        return _refused(request, EffectError(done.detail or done.error))
    if not kept:
        return cast("Answer", noted(_message(request, str(done.value), {}, status="success"), done.note))
    raw = kept[-1]
    answer = raw if plain_value(raw) == done.value else cast("Answer", replaced(raw, done.value))
    return cast("Answer", noted(answer, done.note))


def _refused(request: ToolCallRequest, error: Exception) -> ToolMessage:
    if isinstance(error, DeniedError):
        return _message(request, denial_text(error.decision), error.decision.to_json())
    return _message(request, f"error: {error}", {"error": type(error).__name__})


def _message(
    request: ToolCallRequest, text: str, said: Mapping[str, Any], status: Literal["success", "error"] = "error"
) -> ToolMessage:
    return ToolMessage(
        text,
        tool_call_id=request.tool_call.get("id") or "",
        name=request.tool_call["name"],
        status=status,
        artifact={"agentos": dict(said)},
    )


def _unwrapped_spec(tool: BaseTool) -> ToolSpec:
    try:
        spec = inferred_spec(tool)
    except (ActionError, ValueError):  # a schema with parts that have no JSON form (injected state)
        spec = ToolSpec(name=tool.name, effect=Effect.EXECUTE)
    again = keeps_state(tool)  # one that a crash cut off is done again: the state is built anew anyway
    return spec.model_copy(update={"idempotent": True}) if again else spec


def _code_of(tool: BaseTool) -> bytes:
    return f"{type(tool).__module__}.{type(tool).__qualname__}:{tool.name}".encode()


async def _only_here(_: Mapping[str, Any]) -> Any:
    raise EffectError("this tool runs inside its agent only")
