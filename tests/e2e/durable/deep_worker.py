"""A worker whose program is a deep agent of deepagents: files and a list in its own state, sub-agents, a file of the workspace.

`python -m tests.e2e.durable.deep_worker STATE LEASE` works until it is killed.
"""

from __future__ import annotations

import asyncio
from typing import Any

from agent_os.runtime.tasks.runtime import TaskSession
from tests.e2e.durable.worker import _append, main

POLICY = """
version: 1
filesystem_policy: {include_workdir: true}
tools: {append_note: {allow: true}, write_todos: {allow: true}, "unwrapped/*": {allow: true}}
models: {providers: {scripted: {kind: scripted, models: ["*"]}}}
agents: {max_depth: 2, roles: {scribe: {tools: [append_note], write: [.], budgets: {calls: 8}}}}
"""


async def deep(session: TaskSession) -> Any:
    """Plans, notes in a file of its own state, hands two parts to a sub-agent each, reads its file again, answers."""
    from langchain.agents.middleware.todo import TodoListMiddleware

    from agent_os.adapters.langchain import ScriptedModel
    from agent_os.adapters.langchain.deep import governed_deep_agent

    def script(messages: list[Any]) -> Any:
        asked = next(message.text for message in messages if message.type == "human")
        told = [str(message.content) for message in messages if message.type == "tool"]
        _append(session.workspace, f"model {asked} {len(told)}")
        if asked.startswith("write "):
            assert "You are a scribe." in messages[0].text, "the agent of its spec"
            if told and "interrupted" in told[-1]:
                return "interrupted"  # killed between its claim and its effect: told, and not done blindly again
            return f"wrote {asked[6:]}" if told else [("append_note", {"text": asked[6:]})]
        turns: list[Any] = [
            [("write_todos", {"todos": [{"content": "parts", "status": "in_progress"}]})],
            [("write_file", {"file_path": "/plan.md", "content": "two parts"})],
            [("task", {"description": f"write {part}", "subagent_type": "scribe"}) for part in "ab"],
            [("task", {"description": "write c", "subagent_type": "nobody"})],
            [("read_file", {"file_path": "/plan.md"})],
        ]
        counts = (0, 1, 2, 4, 5)
        return turns[counts.index(len(told))] if len(told) in counts else " | ".join(told[2:])

    async def append_note(text: str) -> str:
        """Append a note."""
        return _append(session.workspace, f"note {text}")

    agent = governed_deep_agent(
        session, ScriptedModel(script=script), [append_note],
        subagents=[{"name": "scribe", "description": "writes", "system_prompt": "You are a scribe."}],
        middleware=[TodoListMiddleware()],
    )  # fmt: skip
    state = await agent.ainvoke({"messages": [("user", session.task.input["task"])]}, {"recursion_limit": 60})
    return {
        "answer": str(state["messages"][-1].text),
        "files": sorted(state.get("files", {})),
        "todos": state.get("todos"),
    }


if __name__ == "__main__":
    asyncio.run(main({"deep": deep}))
