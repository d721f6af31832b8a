"""The built-in agent: LangChain's own loop with the session's tools, model and middleware.

Nothing here is allowed to decide: what the agent may do stands in the policy. Where no policy is named it works under
the `baseline` pack and may call the one model its user named. Threat: a policy or configuration lying in the workspace
that grants itself; neither is read unless the user names it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.errors import AgentOSError, EffectError, IntegrityError
from agent_os.policy import Policy
from agent_os.runtime.agent_terms import STEPS_MAX, local_user, system_prompt
from agent_os.runtime.delegating import delegate_tools, failed, role_prompt, said
from agent_os.runtime.sdk import AgentOS

if TYPE_CHECKING:
    from agent_os.adapters.langchain.delegating import Wanted

ERROR_CHARS_MAX: Final = 300
"""Of what a provider's library says of its failure."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Something that happened: `kind` is text, call, result or refused."""

    kind: str
    text: str
    tool: str = ""


def run_agent(
    task: str,
    *,
    model: Any,
    policy: Policy,
    workspace: Path,
    approver: Callable[..., Any] | None = None,
    tell: Callable[[Heard], None] = lambda _: None,
    session: str = "",
) -> str:
    """Give the built-in agent a task and return its last words.

    `session` is an id by which a later run finds the answers to what this one asked.

    `model` is a LangChain name or chat model. Raises DeniedError when a model call is denied, EffectError for failures
    and when the agent takes more than STEPS_MAX steps.
    """
    from langgraph.errors import GraphRecursionError  # noqa: PLC0415

    last = ""
    with AgentOS.open(
        policy, principal=local_user(), workspace=workspace, approver=approver, session=session
    ) as opened:
        agent = _built(opened, model)
        given = {"messages": [{"role": "user", "content": task}]}
        try:
            for update in agent.stream(given, {"recursion_limit": 2 * STEPS_MAX}, stream_mode="updates"):
                for part in update.values():
                    for message in (part or {}).get("messages", []):
                        last = _heard(message, tell) or last
        except GraphRecursionError:
            raise EffectError(f"the agent took more than {STEPS_MAX} steps") from None
        except AgentOSError:
            raise
        except Exception as error:  # whatever a provider's library raises: no key, no connection, a refusal
            said = " ".join(str(error).split())[:ERROR_CHARS_MAX]
            raise EffectError(f"the model failed: {type(error).__name__}: {said}") from error
    return last


def _built(session: AgentOS, model: Any) -> Any:
    """Return the built-in agent of a session; where policy has roles for it, it may start sub-agents, which are the same."""
    from langchain.agents import create_agent  # noqa: PLC0415 - a second of imports

    def work(child: AgentOS, task: str) -> str:
        config = {"recursion_limit": 2 * STEPS_MAX}
        state = _built(child, model).invoke({"messages": [{"role": "user", "content": task}]}, config)
        return str(state["messages"][-1].text)

    role = session.principal.agent.rpartition("-")[0] if session.principal.parents else ""
    return create_agent(
        session.model(model),
        tools=[*session.tools(), *delegate_tools(session.monitor, SessionDelegation(session, work))],
        system_prompt=system_prompt(session.workspace, role_prompt(session.monitor, role) if role else ""),
        middleware=[session.middleware()],
    )


class SessionDelegation:
    """Sub-agents of an open session. `run` is what each does: its own session and its task to its answer."""

    def __init__(self, session: AgentOS, run: Callable[[AgentOS, str], Any]) -> None:
        self._session, self._run = session, run

    async def run_all(self, wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
        """Run all side by side and return how each ended."""
        return await asyncio.gather(*(self._one(each) for each in wanted))

    def run_all_sync(self, wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
        """The same from another thread than the session's loop."""
        return self._session.loop.run(self.run_all(wanted))

    async def _one(self, each: Wanted) -> dict[str, Any]:
        try:
            answer = await self._session.aspawn(each.role, each.task, self._run, budgets=each.budgets)
        except IntegrityError:
            raise
        except AgentOSError as error:
            return failed(each.role, said(error))
        return {"agent": each.role, "ok": True, "answer": answer}


def _heard(message: Any, tell: Callable[[Heard], None]) -> str:
    if message.type == "tool":
        tell(Heard("refused" if message.status == "error" else "result", str(message.content), str(message.name)))
        return ""
    if message.type != "ai":
        return ""
    if message.text:
        tell(Heard("text", message.text))
    for call in message.tool_calls:
        tell(Heard("call", json.dumps(call["args"], ensure_ascii=False), call["name"]))
    return str(message.text)
