"""MCP over stdio with a server in its sandbox: answers matched to questions, every breach of the protocol ends the server."""

from __future__ import annotations

import asyncio

from agent_os.adapters.mcp.protocol import Answer, Client
from agent_os.core.errors import EffectError
from agent_os.effects.mcp_pipes import ServerPipes
from agent_os.effects.sandbox.launch import Running
from agent_os.runtime.sandbox.prepare import Prepared


class SandboxedTransport:
    """Implements `Transport` over the pipes of a running sandbox, which it owns and ends."""

    def __init__(self, client: Client, running: Running, prepared: Prepared, pipes: ServerPipes) -> None:
        self._client, self._running, self._prepared, self._pipes = client, running, prepared, pipes
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._failure = ""
        pipes.start(self._arrived, self._fail)

    @property
    def alive(self) -> bool:
        """Whether the server runs and has kept to the protocol."""
        return not self._failure and not self._running.ended.done()

    @property
    def said(self) -> str:
        """The end of what it wrote to stderr."""
        return bytes(self._pipes.stderr).decode(errors="replace").strip()

    async def ask(self, number: int, data: bytes, seconds: float) -> Answer:
        """Send a request and wait for its answer; a server that is too slow is ended."""
        if self._failure:
            raise EffectError(self._failure)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._pipes.write(data)
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            self._fail("the tool server did not answer in time")
            raise EffectError("the tool server did not answer in time") from None

    async def tell(self, data: bytes) -> None:
        """Send a notification."""
        self._pipes.write(data)

    async def aclose(self) -> None:
        """End the server and its sandbox."""
        self._fail("closed")
        await self._running.wait()
        self._pipes.close()
        self._prepared.close()

    def _arrived(self, data: bytes) -> None:
        try:
            for answer in self._client.feed(data):
                future = self._waiting.pop(answer.id, None)
                if future is not None and not future.done():
                    future.set_result(answer)
        except EffectError as error:
            self._fail(str(error))
        while self._client.refusals and not self._failure:
            self._pipes.write(self._client.refusals.pop(0))

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self._pipes.stop()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(EffectError(self._failure))
        self._waiting.clear()
        self._running.kill("protocol")
