"""A plain function as a governed tool: each call of it is a `tool.call` of its name, judged before it runs.

The function is the application's own code (in-process tools are trusted); its arguments come from an agent and are not.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from agent_os.core.errors import EffectError
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec
from agent_os.core.ports import Outcome, Pending
from agent_os.core.tool_identity import code_of


class Door(Protocol):
    """A session as a governed function needs it (`AgentOS`)."""

    @property
    def toolbox(self) -> Any: ...
    def perform(self, action: Mapping[str, Any]) -> Outcome | Pending: ...
    async def aperform(self, action: Mapping[str, Any]) -> Outcome | Pending: ...


def guarded(session: Door, function: Callable[..., Any], spec: ToolSpec | None) -> Any:
    """Return a function that puts its call through the session's door first (`AgentOS.guarded`)."""
    signature = inspect.signature(function)
    semantics = spec or ToolSpec(
        name=function.__name__,
        description=inspect.getdoc(function) or "",
        effect=Effect.EXECUTE,
        arguments={name: Argument(role=Role.AUTHORITY) for name in signature.parameters},
    )

    async def run(args: Mapping[str, Any]) -> Any:
        if inspect.iscoroutinefunction(function):
            return await function(**args)
        return await asyncio.to_thread(function, **args)

    session.toolbox.register(semantics, run, code=code_of(function))

    def call_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return {"kind": "tool.call", "tool": semantics.name, "args": dict(bound.arguments)}

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def governed_async(*args: Any, **kwargs: Any) -> Any:
            return value_of(await session.aperform(call_of(args, kwargs)))

        return governed_async

    @functools.wraps(function)
    def governed(*args: Any, **kwargs: Any) -> Any:
        return value_of(session.perform(call_of(args, kwargs)))

    return governed


def value_of(outcome: Outcome | Pending) -> Any:
    """Return what an action returned. Raises EffectError for one that failed or waits for a person."""
    if isinstance(outcome, Pending):
        raise EffectError(outcome.detail)
    if not outcome.ok:
        raise EffectError(outcome.detail or outcome.error)
    return outcome.value
