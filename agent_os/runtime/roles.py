"""The sessions of roles whose sub-agents a framework starts by itself (deepagents' `task`): one a role, ended with its parent.

Threat: a sub-agent of such a framework that has its parent's rights because nobody put it into a session of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from agent_os.runtime.compose import Composition
    from agent_os.runtime.spawn import Family


class Session(Protocol):
    """A session whose framework starts sub-agents by itself (`AgentOS`)."""

    @property
    def composition(self) -> Composition: ...
    @property
    def family(self) -> Family: ...
    def as_child(self, composition: Composition, family: Any) -> Any: ...


class Roles:
    """The roles of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._open: dict[str, Any] = {}

    def __contains__(self, role: object) -> bool:
        """Whether the sub-agents of this role run in a session of their own."""
        return role in self._open

    def of(self, role: str) -> Any:
        """Return the session of every sub-agent of a role: it holds what the policy's role and the parent's session hold."""
        from agent_os.runtime.spawn import role_session  # noqa: PLC0415 - only sessions with sub-agents pay for it

        if role not in self._open:
            self._open[role] = role_session(self._session, self._session.composition, role, self._family())
        return self._open[role]

    def count(self) -> None:
        """Count a sub-agent that is started. Raises DeniedError past the policy's bounds."""
        from agent_os.runtime.spawn import count_start  # noqa: PLC0415

        count_start(self._session.composition, self._family())

    async def end(self) -> None:
        """End the sessions, those below them first: whatever their sub-agents left behind acts no more."""
        if not self._open:
            return
        from agent_os.runtime.spawn import end_role  # noqa: PLC0415

        for session in self._open.values():
            await session.roles.end()
            await end_role(session.composition)
        self._open = {}

    def _family(self) -> Family:
        return self._session.family
