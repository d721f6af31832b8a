"""A wire over real sockets, on both loops: back-pressure, half-close, resets, refused and late connections."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from agent_os.effects.proxy.stream import Stream
from agent_os.effects.proxy.wire import Wire, connect_wire


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> Any:
    """Both loops; uvloop where it is installed."""
    if request.param == "asyncio":
        return asyncio.DefaultEventLoopPolicy()
    return pytest.importorskip("uvloop").EventLoopPolicy()


class Ear:
    """Writes down what a wire tells."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.data = b""
        self.error: Exception | None = None
        self.wire: Wire | None = None

    def connection_made(self, transport: Any) -> None:
        self.wire = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.told.append("eof")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.error = exc

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


def pair() -> tuple[Wire, Ear, socket.socket]:
    """A wire over one end of a TCP connection, and the other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = socket.create_connection(server.getsockname())
        mine, _ = server.accept()
    mine.setblocking(False)
    ear = Ear()
    return Wire(asyncio.get_running_loop(), mine, ear), ear, other


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def drained(other: socket.socket) -> bytes:
    """Everything up to the end."""
    pieces = []
    while piece := await asyncio.to_thread(other.recv, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


async def test_a_writer_is_told_to_stop_and_to_go_on_and_nothing_is_lost() -> None:
    """Past the high-water mark: pause; below the low one: resume; a close in between still sends what is kept."""
    wire, ear, other = pair()
    wire.set_write_buffer_limits(high=100_000, low=10_000)
    body = bytes(range(256)) * 4096 * 32
    wire.write(body)
    assert ear.told == ["pause"]
    wire.close()
    wire.write(b"not any more")
    assert await drained(other) == body
    await until(lambda: "lost" in ear.told)
    assert ear.told == ["pause", "resume", "lost"]
    assert ear.error is None
    other.close()


async def test_a_half_close_leaves_the_other_direction_open() -> None:
    """write_eof ends our side after what is kept; the peer's bytes still come, then its end is told once."""
    wire, ear, other = pair()
    wire.write(b"question")
    wire.write_eof()
    wire.write(b"too late")
    assert await drained(other) == b"question"
    other.sendall(b"answer")
    other.shutdown(socket.SHUT_WR)
    await until(lambda: ear.told == ["eof"])
    assert ear.data == b"answer"
    wire.close()
    await until(lambda: ear.told == ["eof", "lost"])
    other.close()


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_an_abort_is_a_reset_and_a_close_is_not(how: str) -> None:
    """The peer of an aborted wire meets an error; the twin's peer an orderly end."""
    wire, ear, other = pair()
    getattr(wire, how)()
    await until(lambda: ear.told == ["lost"])
    if how == "abort":
        with pytest.raises(ConnectionResetError):
            other.recv(1)
    else:
        assert other.recv(1) == b""
    other.close()


async def test_a_paused_wire_takes_nothing() -> None:
    """Bytes wait in the kernel until reading goes on."""
    wire, ear, other = pair()
    wire.pause_reading()
    other.sendall(b"x" * 1000)
    await asyncio.sleep(0.05)
    assert ear.data == b""
    wire.resume_reading()
    await until(lambda: len(ear.data) == 1000)
    wire.abort()
    other.close()


async def test_connections_that_do_not_come_about() -> None:
    """A closed port raises at once, a silent one after its seconds; a name is never looked up."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    loop = asyncio.get_running_loop()
    with pytest.raises(ConnectionRefusedError):
        await connect_wire(loop, "127.0.0.1", port, Ear(), 5)
    with pytest.raises(OSError, match="illegal IP"):
        await connect_wire(loop, "localhost", port, Ear(), 5)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fill = [socket.socket() for _ in range(4)]
        for each in fill:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        with pytest.raises(TimeoutError):
            await connect_wire(loop, "127.0.0.1", full.getsockname()[1], Ear(), 0.2)
        for each in fill:
            each.close()


STARVED = """
import asyncio, resource, socket, sys
from tests.unit.effects.proxy.test_wire import Ear
from agent_os.effects.proxy.stream import Stream
from agent_os.effects.proxy.accepting import Accepting
async def main():
    ears = []
    def ear():
        ears.append(Ear())
        return ears[-1]
    sock = socket.create_server(("127.0.0.1", 0), backlog=64)
    address = sock.getsockname()
    accepting = Accepting(asyncio.get_running_loop(), sock, ear)
    clients = []
    for _ in range(12):
        clients.append(socket.socket())
        clients[-1].setblocking(False)
        clients[-1].connect_ex(address)
    used = max(client.fileno() for client in clients)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 6, used + 6))
    async with asyncio.timeout(20):
        while len(ears) < 5:
            await asyncio.sleep(0.01)
        starved = len(ears)
        for ear in ears:
            ear.wire.abort()
        while len(ears) < 12:
            for ear in ears:
                ear.wire.abort()
            await asyncio.sleep(0.01)
    accepting.close()
    print(starved, len(ears))
asyncio.run(main())
"""


def test_a_machine_without_descriptors_serves_again_when_there_are_some() -> None:
    """Connections that cannot be taken wait in the kernel's queue and are served later; the loop does not spin or die."""
    said = subprocess.run([sys.executable, "-c", STARVED], capture_output=True, text=True, timeout=60, check=True)
    starved, served = map(int, said.stdout.split())
    assert starved < 12
    assert served == 12


@pytest.mark.parametrize(("error", "told"), [(ConnectionResetError(), ["lost"]), (None, ["end", "lost"])])
async def test_a_break_is_not_told_as_an_end(error: Exception | None, told: list[str]) -> None:
    """A side that broke off is lost and nothing else: passed on as an end, a part would be taken for the whole."""
    heard: list[str] = []
    stream = Stream(asyncio.get_running_loop())
    stream.on_eof, stream.on_lost = lambda: heard.append("end"), lambda: heard.append("lost")
    stream.connection_lost(error)
    assert heard == told
