"""`AgentOS`: the runtime as an application embeds it.

    with AgentOS.open("policy.yaml", principal="ana@corp.example") as system:
        agent = create_agent(system.model("openai:gpt-5"), tools=system.tools(), middleware=[system.middleware()])

The application is trusted: it asserts the principal. Everything else goes through `perform`. Synchronous methods are a thin
face over one loop thread; `async with AgentOS.open(...)` adopts the running loop instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, Unpack, overload

from agent_os.core import canonical
from agent_os.core.action import Action
from agent_os.core.approval import Approver
from agent_os.core.carried import Carried
from agent_os.core.errors import AgentOSError, EffectError
from agent_os.core.manifest import ToolSpec
from agent_os.core.ports import Outcome, Pending
from agent_os.core.principal import Principal
from agent_os.monitor import Monitor
from agent_os.policy import Policy
from agent_os.runtime.guarded import guarded, value_of
from agent_os.runtime.loop import LoopThread
from agent_os.runtime.policies import load_policy, policy_names
from agent_os.runtime.roles import Roles

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool

    from agent_os.adapters.langchain import AgentOSMiddleware
    from agent_os.agents.toolbox import Toolbox
    from agent_os.core.schedule import Schedule
    from agent_os.runtime.compose import Composition
    from agent_os.runtime.spawn import Family
    from agent_os.runtime.stopping import SessionStops
    from agent_os.runtime.tasks.handle import TaskHandle
    from agent_os.runtime.tasks.runtime import TaskRuntime
    from agent_os.runtime.tasks.sdk import ScheduleOptions, SessionTasks, TaskOptions

P = ParamSpec("P")
R = TypeVar("R")
PROMPTS_KEPT: Final = 200
"""Prompts of one session that are kept for replay; of a longer one, the last."""


class AgentOS:
    """One session of one principal under one policy. Open it, use it as a context manager, let it close."""

    def __init__(
        self,
        policy: Policy,
        principal: Principal,
        workspace: Path,
        options: Mapping[str, Any],
        named: tuple[str, ...] | None = None,
    ) -> None:
        self._policy, self._principal, self._workspace, self._named = policy, principal, workspace, named
        self._options = dict(options)
        self._loop: LoopThread | None = None
        self._composition: Composition | None = None
        self._family: Family | None = None
        self.roles = Roles(self)
        self._tasks: SessionTasks | None = None
        self._prompts: list[str] = []

    @classmethod
    def open(
        cls,
        policy: Policy | str | Path | Sequence[str | Path],
        *,
        principal: Principal | str | Mapping[str, Any] = "anonymous",
        workspace: str | Path = ".",
        state: str | Path | None = None,
        approver: Approver | Callable[..., Any] | None = None,
        session: str = "",
    ) -> AgentOS:
        """Return a session that opens with `with` or `async with`.

        `policy` is a Policy, a file, or several files (layers: an action must be allowed by each). `principal` is who
        the application says is acting: a user id, or a Principal. `workspace` is the folder relative paths are taken
        against. `state` is the state directory (default: `$AGENTOS_STATE`, else the XDG state folder). `approver`
        answers asks at once; without one they park as `Pending`. `session` is an id of the application's own, by which a
        session goes on after a restart: its asks are found again, answered or not. Raises PolicyError, ActionError.
        """
        named: tuple[str, ...] | None = None
        if not isinstance(policy, Policy):
            named = policy_names(policy)
            policy = load_policy(policy)
        if isinstance(principal, str):
            principal = Principal(user=principal)
        principal = Principal.parse(principal.to_json() if isinstance(principal, Principal) else principal)
        if session:
            principal = replace(principal, session=canonical.name(session, field="session"))
        folder = Path(workspace).expanduser().resolve()
        if not folder.is_dir():
            raise EffectError(f"the workspace is no folder: {folder}")
        state = Path(state).expanduser().resolve() if state is not None else None
        return cls(policy, principal, folder, {"state": state, "approver": approver}, named)

    # ---- opening and closing ----------------------------------------------------------------------------------------

    def __enter__(self) -> AgentOS:
        self._once()
        self._loop = LoopThread()
        try:
            self._composition = self._loop.run(self._compose())
        except BaseException:
            self._loop.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._composition is not None:
            self._loop.run(self._aclose(self._composition))
            self._loop.stop()
        self._composition = None

    async def __aenter__(self) -> AgentOS:
        self._once()
        self._loop = LoopThread(asyncio.get_running_loop())
        self._composition = await self._compose()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._composition is not None:
            await self._aclose(self._composition)
        self._composition = None

    async def _aclose(self, composition: Composition) -> None:
        await self.roles.end()
        if self._tasks is not None:
            self._tasks.close()
        await composition.aclose()

    async def _compose(self) -> Composition:
        from agent_os.runtime.compose import compose  # noqa: PLC0415 - the effects load when a session opens

        return await compose(self._policy, self._principal, str(self._workspace), **self._options)

    def _once(self) -> None:
        if self._composition is not None:
            raise AgentOSError("this session is open already: open a second one for a second `with`")

    def _open(self) -> Composition:
        if self._composition is None:
            raise AgentOSError("this session is not open: use `with AgentOS.open(...) as system:`")
        return self._composition

    @property
    def composition(self) -> Composition:
        """What this open session is made of (for the runtime's own rooms)."""
        return self._open()

    @property
    def family(self) -> Family:
        """Every agent below one root, this session's sub-agents among them."""
        if self._family is None:
            from agent_os.runtime.spawn import Family  # noqa: PLC0415 - only sessions with sub-agents pay for it

            self._family = Family()
        return self._family

    @property
    def loop(self) -> LoopThread:
        """The loop this session runs on."""
        if self._loop is None:
            raise AgentOSError("this session is not open: use `with AgentOS.open(...) as system:`")
        return self._loop

    def reload(self, policy: Policy) -> None:
        """Put another policy in force in this open session (`runtime.reload` reads files and says what changed).

        It holds whole, or (PolicyError, EffectError, ActionError) not at all.
        """
        self.prepared(policy)()

    def prepared(self, policy: Policy) -> Callable[[], None]:
        """Make everything of another policy; return what puts it in force. Raises as `reload` does: nothing has changed."""
        take = self._open().prepared(policy)

        def taken() -> None:
            take()
            self._policy = policy

        return taken

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def monitor(self) -> Monitor:
        """The reference monitor of this session."""
        return self._open().monitor

    @property
    def toolbox(self) -> Toolbox:
        """The registry of tools."""
        return self._open().toolbox

    @property
    def carried(self) -> Carried:
        """Bytes in flight."""
        return self._open().carried

    @property
    def providers(self) -> Any:
        """The providers of the policy's `models` section that are reached over HTTP."""
        return self._open().models

    @property
    def state(self) -> Any:
        """The state directory this session is open on."""
        return self._open().state

    @property
    def stores(self) -> Any:
        """The stores of the state directory this session is open on."""
        return self._open().state.stores

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.monitor.policy if self._composition else self._policy

    @property
    def principal(self) -> Principal:
        """On whose behalf this session acts."""
        return self._principal

    @property
    def workspace(self) -> str:
        """Absolute path that relative paths are taken against."""
        return str(self._workspace)

    @property
    def stops(self) -> SessionStops:
        """Halting, quarantining and releasing agents; for the application alone."""
        from agent_os.runtime.stopping import SessionStops  # noqa: PLC0415 - only who stops agents pays for it

        return SessionStops(self.monitor, self.state, self.loop)

    # ---- the door ---------------------------------------------------------------------------------------------------

    def perform(self, action: Action | Mapping[str, Any], *, key: str = "") -> Outcome | Pending:
        """Do one action and return its outcome; synchronous. Raises as `aperform`, and AgentOSError on the loop thread."""
        return self.loop.run(self.monitor.perform(action, key=key))

    async def aperform(
        self,
        action: Action | Mapping[str, Any],
        *,
        key: str = "",
        body: Callable[[Action], Awaitable[Any]] | None = None,
    ) -> Outcome | Pending:
        """Do one action and return its outcome, or `Pending` when a person must answer first.

        `key` is an idempotency key. Raises DeniedError, ActionError, EffectError.
        """
        return await self.loop.call(self.monitor.perform(action, key=key, body=body))

    def prompt(self, text: str) -> None:
        """Tell the session what the user asked: trusted text, from which the scope of effects is taken.

        In a sub-agent's session it changes nothing: what a sub-agent is told are its parent's words.
        """
        if self.monitor.principal.parents:
            return
        if self.monitor.session.flow is not None:
            self.monitor.session.flow.prompt(text)
        payloads = self.monitor.ports.payloads
        if payloads is not None and text not in self._prompts:  # a trace of this session can be replayed only with it
            self._prompts = [*self._prompts[1 - PROMPTS_KEPT :], text]
            reference = f"prompt/{self.monitor.principal.session}"
            stored = payloads.put(reference, {"prompt": "\n".join(self._prompts)})
            asyncio.run_coroutine_threadsafe(_stored(stored), self.loop.loop)

    def answer(self, text: str) -> str:
        """Return what the agent says to its user, with the addresses taken out that the policy does not let through."""
        from agent_os.monitor.shown import shown  # noqa: PLC0415 - only sessions that render answers pay for it

        return self.loop.run(shown(self.monitor, text))

    # ---- sub-agents -------------------------------------------------------------------------------------------------

    def spawn(
        self,
        role: str,
        task: str,
        run: Callable[[AgentOS, str], Any],
        *,
        capabilities: Sequence[Mapping[str, Any]] | None = None,
        budgets: Mapping[str, float] | None = None,
    ) -> Any:
        """Start a sub-agent, wait for it and return its result; synchronous. Raises as `aspawn`."""
        return self.loop.run(self._spawn(role, task, run, capabilities, budgets))

    async def aspawn(
        self,
        role: str,
        task: str,
        run: Callable[[AgentOS, str], Any],
        *,
        capabilities: Sequence[Mapping[str, Any]] | None = None,
        budgets: Mapping[str, float] | None = None,
    ) -> Any:
        """Start a sub-agent of a role of the policy's `agents:` section and return what `run(child, task)` returns.

        `child` is a session of its own: it holds what the role grants, what `capabilities` (`{"verb", "scope"}`) and
        `budgets` (unit -> amount) narrow that to, and never more than this session. A synchronous `run` has a thread of
        its own. Raises DeniedError, ActionError, and EffectError when the child failed or waits for a person.
        """
        return await self.loop.call(self._spawn(role, task, run, capabilities, budgets))

    async def _spawn(
        self,
        role: str,
        task: str,
        run: Callable[[AgentOS, str], Any],
        capabilities: Sequence[Mapping[str, Any]] | None,
        budgets: Mapping[str, float] | None,
    ) -> Any:
        from agent_os.runtime.spawn import run_child  # noqa: PLC0415 - only sessions with sub-agents pay for it

        composition = self._open()
        wire: dict[str, Any] = {"kind": "agent.spawn", "role": role, "task": task, "budgets": dict(budgets or {})}
        if capabilities is not None:
            wire["capabilities"] = [dict(each) for each in capabilities]

        async def start(action: Action) -> Any:
            return await run_child(self, composition, action, run, self.family)

        return value_of(await self.monitor.perform(wire, body=start))["result"]

    def as_child(self, composition: Composition, family: Any) -> AgentOS:
        """Return the session of a sub-agent over its own monitor and tools; its parent closes what both share."""
        child = AgentOS(self._policy, composition.monitor.principal, self._workspace, self._options, self._named)
        child._loop, child._composition, child._family = self._loop, composition, family
        return child

    # ---- durable tasks ----------------------------------------------------------------------------------------------

    def submit(self, task: str = "", **options: Unpack[TaskOptions]) -> TaskHandle:
        """Submit a durable task; it is stored when this returns, and survives this process. Raises as `asubmit`."""
        return self.loop.run(self._durable().submit(task, options))

    async def asubmit(self, task: str = "", **options: Unpack[TaskOptions]) -> TaskHandle:
        """Submit a durable task that runs for this principal under this session's policy files, read again at each run.

        `task` is a text for the built-in agent; options: runtime/tasks/sdk.py. A worker is started if none lives.
        Raises ActionError, EffectError (the queue is full), DeniedError for a sub-agent (it spawns).
        """
        return await self.loop.call(self._durable().submit(task, options))

    def schedule(
        self, name: str, when: Mapping[str, Any] | str, task: str = "", **options: Unpack[ScheduleOptions]
    ) -> Schedule:
        """Make a schedule; judged as `task.schedule`. Raises as `aschedule`."""
        return self.loop.run(self._durable().schedule(name, when, task, options))

    async def aschedule(
        self, name: str, when: Mapping[str, Any] | str, task: str = "", **options: Unpack[ScheduleOptions]
    ) -> Schedule:
        """Make a schedule whose runs have this principal's rights as they are when they run; judged as `task.schedule`.

        `when` is `{"cron": "0 2 * * *", "zone": "Europe/Berlin"}`, `{"every": "15m"}`, `{"at": <time>}` or `{"event":
        {"file": "inbox/*.pdf"}}`. Raises DeniedError, ActionError, EffectError.
        """
        return await self.loop.call(self._durable().schedule(name, when, task, options))

    def task(self, task_id: str) -> TaskHandle:
        """Return a handle of a task of this tenant and user, by its id or the one that was chosen for it."""
        return self._durable().handle(task_id)

    def worker(self, programs: Mapping[str, Any], *, queues: Sequence[str] = ("default",)) -> TaskRuntime:
        """Return a worker of this process for `async with`: it runs an application's own programs (name -> `async def
        program(session)`) beside the built-in ones.
        """
        return self._durable().worker(programs, queues)

    def _durable(self) -> SessionTasks:
        from agent_os.runtime.tasks.sdk import SessionTasks  # noqa: PLC0415 - only sessions with tasks pay for it

        if self._tasks is None:
            self._tasks = SessionTasks(self._open(), self.loop, self._named, str(self._workspace))
        return self._tasks

    # ---- LangChain --------------------------------------------------------------------------------------------------

    def tools(self, *names: str) -> list[BaseTool]:
        """Return the built-in tools (or those named) as governed LangChain tools; forbidden ones are left out."""
        from agent_os.adapters.langchain import builtin_tools  # noqa: PLC0415

        return builtin_tools(self, names)

    def wrap(self, tools: Iterable[Any], manifests: Iterable[ToolSpec] = ()) -> list[Any]:
        """Return LangChain tools governed by this session; one without a manifest is treated as the worst case."""
        from agent_os.adapters.langchain import wrap_tools  # noqa: PLC0415

        return wrap_tools(self, tools, manifests)

    def model(self, model: BaseChatModel | str, **options: Any) -> BaseChatModel:
        """Return a governed chat model of a LangChain model or its name (`openai:gpt-5`).

        `routes` are models that the policy may route to, by `provider/model`; what else is given goes to the model of that
        name (`temperature=0`). Raises MissingPartError with the install line where its integration is not installed.
        """
        from agent_os.adapters.langchain import govern_model  # noqa: PLC0415

        return govern_model(self, model, **options)

    def middleware(self) -> AgentOSMiddleware:
        """Return the middleware for `create_agent`: hides forbidden tools, turns denials into messages, asks people."""
        from agent_os.adapters.langchain import AgentOSMiddleware as Middleware  # noqa: PLC0415

        return Middleware(self)

    # ---- plain functions --------------------------------------------------------------------------------------------

    @overload
    def guarded(self, function: Callable[P, R]) -> Callable[P, R]: ...

    @overload
    def guarded(self, *, spec: ToolSpec | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def guarded(self, function: Callable[..., Any] | None = None, *, spec: ToolSpec | None = None) -> Any:
        """Decorate a plain function so that each call is a `tool.call` of its name.

        Arguments must be plain JSON. Without `spec` every argument is authority and the effect is the worst case. The
        wrapped function raises DeniedError instead of running, EffectError while it waits for a person.
        """
        return functools.partial(self.guarded, spec=spec) if function is None else guarded(self, function, spec)


async def _stored(payload: Awaitable[None]) -> None:
    """Store a payload; without it a trace says that it cannot be evaluated, and nothing else is lost."""
    with contextlib.suppress(AgentOSError):
        await payload
