"""One tool server's conversation: opening, listing, calling; over any transport that carries messages.

Threats: a server that answers without end or not at all, lists tools without end, or changes what it lists while it runs
(`tools/list_changed`): its tools are listed again before the next call, and a difference ends the connection. A call
of an agent that a person stopped is cut off (`cut`): it may have happened, whole or in part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

from agent_os.adapters.mcp.protocol import (
    PAGES_MAX,
    TOOLS_MAX,
    VERSIONS_SPOKEN,
    Answer,
    Client,
    ServerTool,
    parse_tools,
    value_of,
)
from agent_os.core.errors import EffectError, StoppedError

CALL_SECONDS_MAX: Final = 3600.0
HELLO_SECONDS: Final = 30.0


class Transport(Protocol):
    """What carries one connection's messages. `said` is what the server told its operator (stderr)."""

    @property
    def alive(self) -> bool:
        """Whether calls can be made."""
        ...

    @property
    def said(self) -> str: ...

    async def ask(self, number: int, data: bytes, seconds: float) -> Answer:
        """Send a request and return its answer. Raises EffectError."""
        ...

    async def tell(self, data: bytes) -> None:
        """Send a notification."""
        ...

    async def aclose(self) -> None:
        """End the connection, and the server if it is ours."""
        ...


class ToolServer:
    """One connected tool server."""

    def __init__(self, client: Client, transport: Transport) -> None:
        self._client, self._transport = client, transport
        self._asking: set[asyncio.Future[Answer]] = set()
        self._cut = ""

    @property
    def calls(self) -> int:
        """Calls under way."""
        return len(self._asking)

    @property
    def alive(self) -> bool:
        """Whether calls can be made."""
        return not self._cut and self._transport.alive

    @property
    def changed(self) -> bool:
        """Whether the server says that its list of tools is another one since `tools` was called."""
        return self._client.list_changed

    @property
    def said(self) -> str:
        """The end of what the server wrote to stderr."""
        return self._transport.said

    async def hello(self) -> list[ServerTool]:
        """Open the connection and return the server's tools. Raises EffectError."""
        answer = await self._transport.ask(*self._client.hello(), HELLO_SECONDS)
        if answer.error:
            raise EffectError(f"the tool server refuses: {answer.error}")
        if answer.result.get("protocolVersion") not in VERSIONS_SPOKEN:
            raise EffectError("the tool server speaks a version of the protocol that is not known here")
        await self._transport.tell(self._client.ready())
        return await self.tools()

    async def tools(self) -> list[ServerTool]:
        """Return the tools as the server lists them now. Raises EffectError."""
        self._client.list_changed = False
        tools: list[ServerTool] = []
        cursor = ""
        for _ in range(PAGES_MAX):
            params = {"cursor": cursor} if cursor else {}
            answer = await self._transport.ask(*self._client.call("tools/list", params), HELLO_SECONDS)
            if answer.error:
                raise EffectError(f"the tool server does not list its tools: {answer.error}")
            page, cursor = parse_tools(answer.result)
            tools += page
            if len(tools) > TOOLS_MAX:
                raise EffectError(f"the tool server lists more than {TOOLS_MAX} tools")
            if not cursor:
                return tools
        raise EffectError(f"the tool server lists more than {PAGES_MAX} pages")

    async def call(self, name: str, args: Mapping[str, Any]) -> Any:
        """Call a tool and return its value.

        Raises EffectError with what the tool says went wrong, StoppedError when the call was cut off.
        """
        if self._cut:
            raise StoppedError(self._cut)
        number, data = self._client.call("tools/call", {"name": name, "arguments": dict(args)})
        asking = asyncio.ensure_future(self._transport.ask(number, data, CALL_SECONDS_MAX))
        self._asking.add(asking)
        try:
            await asyncio.wait({asking})
        finally:
            self._asking.discard(asking)
            asking.cancel()
        if asking.cancelled() or (self._cut and asking.exception() is not None):
            raise StoppedError(self._cut)
        answer = asking.result()
        if answer.error:
            raise EffectError(f"the tool server refused the call: {answer.error}")
        value, failed = value_of(answer.result)
        if failed:
            raise EffectError(f"the tool failed: {str(value)[:2000]}")
        return value

    async def cut(self, why: str) -> None:
        """End the connection, its calls, and the server if it is ours: their caller was stopped."""
        self._cut = self._cut or why
        for asking in self._asking:
            asking.cancel()
        await self._transport.aclose()

    async def aclose(self) -> None:
        """End the connection."""
        await self._transport.aclose()
