"""The tool by which an agent hands parts of its work to sub-agents: several at once, each one's end told, a failure too.

The tool itself does nothing to the world: each sub-agent it starts is an `agent.spawn` of its own, judged by the door, with a
part of the caller's rights and budget. Its calls are therefore no `tool.call`s. Threat: a model that names a role nobody gave it
(denied at the door, whatever the tool's description lists).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field

from agent_os.core.errors import ActionError

NAME: Final = "delegate"
AT_ONCE_MAX: Final = 32
"""Sub-agents that one call starts; of more the call is refused."""
TASK_CHARS_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A sub-agent that is asked for."""

    role: str
    task: str
    budgets: Mapping[str, float] = field(default_factory=dict)


class Delegation(Protocol):
    """Starts sub-agents for one session and waits for all of them."""

    async def run_all(self, wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
        """Return in the order asked for `{"agent", "ok", "answer"}`, or `{"agent", "ok": false, "error"}`. What is denied or
        fails is told there, never raised.
        """
        ...

    def run_all_sync(self, wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
        """The same for a caller without an event loop."""
        ...


class DelegateTool(BaseTool):
    """Starts sub-agents and returns what they answered. `roles` are (name, what it is for) of those the caller may start."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str = NAME
    delegation: Any = Field(exclude=True, repr=False)

    @staticmethod
    def over(delegation: Delegation, roles: Sequence[tuple[str, str]]) -> DelegateTool:
        """Return the tool for a session that may start sub-agents of some roles."""
        listed = "\n".join(f"- {name}: {purpose}" if purpose else f"- {name}" for name, purpose in roles)
        described = (
            "Hand parts of your work to sub-agents. All named in one call work side by side; the call returns when every "
            "one has ended, with each one's answer or why it failed, in your order. A sub-agent knows nothing but the task "
            f"you write: say everything it needs. It has a part of your rights and budget.\nRoles:\n{listed}"
        )
        one = {
            "type": "object",
            "properties": {
                "role": {"type": "string", "enum": [name for name, _ in roles]},
                "task": {"type": "string", "minLength": 1, "maxLength": TASK_CHARS_MAX},
                "budgets": {
                    "type": "object",
                    "additionalProperties": {"type": "number", "minimum": 0},
                    "description": "Less than the role has, by unit: tokens, calls, seconds.",
                },
            },
            "required": ["role", "task"],
            "additionalProperties": False,
        }
        schema = {
            "title": NAME,
            "description": described,
            "type": "object",
            "properties": {"agents": {"type": "array", "items": one, "minItems": 1, "maxItems": AT_ONCE_MAX}},
            "required": ["agents"],
            "additionalProperties": False,
        }
        return DelegateTool(delegation=delegation, description=described, args_schema=schema, handle_tool_error=True)

    def _run(self, agents: Any = None, **_: Any) -> Any:
        wanted = _wanted(agents)
        return wanted if isinstance(wanted, str) else self.delegation.run_all_sync(wanted)

    async def _arun(self, agents: Any = None, **_: Any) -> Any:
        wanted = _wanted(agents)
        return wanted if isinstance(wanted, str) else await self.delegation.run_all(wanted)


def _wanted(agents: Any) -> list[Wanted] | str:
    """Return what is asked for, or what is wrong with it in words for the model."""
    try:
        if not isinstance(agents, list) or not 0 < len(agents) <= AT_ONCE_MAX:
            raise ActionError(f"must be a list of 1 to {AT_ONCE_MAX}", field="agents")
        return [_one(each, place) for place, each in enumerate(agents)]
    except ActionError as error:
        return f"error: {error}"


def _one(given: Any, place: int) -> Wanted:
    where = f"agents[{place}]"
    if not isinstance(given, Mapping) or set(given) - {"role", "task", "budgets"}:
        raise ActionError("must be {role, task, budgets}", field=where)
    role, task, budgets = given.get("role"), given.get("task"), given.get("budgets") or {}
    if not isinstance(role, str) or not isinstance(task, str) or not 0 < len(task) <= TASK_CHARS_MAX:
        raise ActionError(f"needs a role and a task of at most {TASK_CHARS_MAX} characters", field=where)
    numbers = isinstance(budgets, Mapping) and all(
        isinstance(amount, int | float) and not isinstance(amount, bool) for amount in budgets.values()
    )
    if not numbers:
        raise ActionError("must be numbers by unit", field=f"{where}.budgets")
    return Wanted(role, task, {str(unit): float(amount) for unit, amount in budgets.items()})
