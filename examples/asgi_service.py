"""A web service that embeds the runtime: one session for each (tenant, user), and every error of the runtime an answer of HTTP.

Any ASGI server runs `app`, and FastAPI or Starlette mount it. Started by itself it asks itself a few things:

    python examples/asgi_service.py
    uvicorn examples.asgi_service:app

Who calls is what the gateway in front has authenticated: here two header fields, which it must set and never pass on.
"""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
from langchain.agents import create_agent

from agent_os import ActionError, AgentOS, AgentOSError, DeniedError, Pending, Policy, Principal
from agent_os.adapters.langchain import ScriptedModel

POLICY = Policy.parse("""
version: 1
filesystem_policy: {include_workdir: true}
tools:
  read_file: {allow: {path: {under: notes}}}
  write_file: {allow: {path: {under: out}}, ask: {path: {under: out/final}}}
models: {providers: {scripted: {kind: scripted, models: ["*"], tier: high}}}
budgets: [{per: user, window: day, tokens: 20000}, {per: tenant, window: month, usd: 50}]
""")
SESSIONS_MAX = 200
STATUS = {DeniedError: 403, ActionError: 400}
FOLDER = Path(tempfile.mkdtemp())

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Service:
    """The sessions of this process, and what is answered over them."""

    def __init__(self) -> None:
        self._open = AsyncExitStack()
        self._sessions: dict[tuple[str, str], AgentOS] = {}
        self._opening = asyncio.Lock()

    async def session(self, tenant: str, user: str) -> AgentOS:
        """Return the session of a user; budgets, labels, pseudonyms and asks of two of them never meet."""
        async with self._opening:
            if (tenant, user) not in self._sessions:
                if len(self._sessions) >= SESSIONS_MAX:
                    raise ActionError("has too many users at once", field="service")
                principal = Principal(tenant=tenant, user=user)
                opened = AgentOS.open(POLICY, principal=principal, workspace=FOLDER / "desk", state=FOLDER / "state")
                self._sessions[tenant, user] = await self._open.enter_async_context(opened)
            return self._sessions[tenant, user]

    async def answer(self, system: AgentOS, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return status and JSON for one request."""
        if path == "/ask":
            model = system.model(ScriptedModel(script=["Nothing is due today."]))
            agent: Any = create_agent(model, tools=system.tools(), middleware=[system.middleware()])
            said = await agent.ainvoke({"messages": [{"role": "user", "content": str(body.get("text", ""))}]})
            return 200, {"answer": said["messages"][-1].content}
        if path == "/do":
            done = await system.aperform(body)
            if isinstance(done, Pending):
                return 202, {"waits": done.approval_id, "reason": done.decision.reason}
            return (200, {"value": done.value}) if done.ok else (502, {"error": done.error, "detail": done.detail})
        return 404, {"error": "no such place"}

    async def close(self) -> None:
        """Close every session; their audit is complete then."""
        await self._open.aclose()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await SERVICE.close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    head = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    whole, more = b"", True
    while more and len(whole) < 2**20:
        part = await receive()
        whole, more = whole + part.get("body", b""), part.get("more_body", False)
    try:
        system = await SERVICE.session(head["x-tenant"], head["x-user"])
        status, said = await SERVICE.answer(system, scope["path"], json.loads(whole or b"{}"))
    except DeniedError as error:  # what policy says, and what it would have allowed: for the agent and for people
        decision = error.decision
        status, said = 403, {"rules": list(decision.rules), "reason": decision.reason, "advice": decision.advice}
    except (KeyError, ValueError) as error:
        status, said = 400, {"error": f"malformed request: {error}"}
    except AgentOSError as error:
        status, said = STATUS.get(type(error), 503), {"error": str(error)}
    data = json.dumps(said).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": data})


SERVICE = Service()


async def main() -> None:
    """Ask the service over its own interface."""
    (FOLDER / "desk/notes").mkdir(parents=True)
    (FOLDER / "desk/notes/todo.txt").write_text("call the bank\n")
    asks: list[tuple[str, str, dict[str, Any]]] = [
        ("acme", "/ask", {"text": "What is due?"}),
        ("acme", "/do", {"kind": "tool.call", "tool": "read_file", "args": {"path": "notes/todo.txt"}}),
        ("acme", "/do", {"kind": "tool.call", "tool": "read_file", "args": {"path": "../payroll.csv"}}),
        (
            "umbra",
            "/do",
            {"kind": "tool.call", "tool": "write_file", "args": {"path": "out/final/a.md", "content": "x"}},
        ),
        ("umbra", "/do", {"kind": "tool.cal"}),
    ]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service") as client:
        for tenant, path, body in asks:
            answer = await client.post(path, json=body, headers={"x-tenant": tenant, "x-user": "ana"})
            print(tenant, path, answer.status_code, answer.text)
    await SERVICE.close()


if __name__ == "__main__":
    asyncio.run(main())
