"""What a built-in tool may reach: the door, and content on its way through it. Pure values and protocols."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent_os.core.action import Action
from agent_os.core.carried import Carried
from agent_os.core.errors import EffectError
from agent_os.core.mail import Mail
from agent_os.core.manifest import ToolSpec
from agent_os.core.ports import Outcome, Pending
from agent_os.core.principal import Principal


class MailReader(Protocol):
    """Reads an agent's own mailbox."""

    async def read(self, principal: Principal, *, after: str = "", limit: int = 20) -> Sequence[Mail]: ...


class ToolDoor(Protocol):
    """The runtime as a built-in tool sees it."""

    @property
    def principal(self) -> Principal: ...

    @property
    def workspace(self) -> str:
        """Absolute path that relative paths are taken against."""
        ...

    @property
    def carried(self) -> Carried: ...

    @property
    def mail(self) -> MailReader | None:
        """The mailboxes, where there are any."""
        ...

    async def perform(self, action: Action | Mapping[str, Any]) -> Outcome | Pending:
        """Put one action through the monitor; raises DeniedError."""
        ...


@dataclass(frozen=True, slots=True)
class BuiltinTool:
    """A built-in tool: its semantics and its body, `run(door, args)`."""

    spec: ToolSpec
    run: Callable[[ToolDoor, Mapping[str, Any]], Awaitable[Any]]


async def performed(door: ToolDoor, wire: Mapping[str, Any]) -> Any:
    """Perform an action given in its wire form and return its value.

    Raises ActionError, DeniedError, or EffectError for failures and for an action that waits for a person.
    """
    outcome = await door.perform(wire)
    if isinstance(outcome, Pending):
        raise EffectError(f"{wire['kind']} waits for approval {outcome.approval_id}: call again once it is answered")
    if not outcome.ok:
        raise EffectError(outcome.detail or outcome.error)
    return outcome.value
