"""Server and load of the network benchmark: asyncio protocols, small on purpose, each in a process of its own.

`python -m bench.net_load server …` serves until killed; `… load …` prints one JSON line. Both on one core, the proxy under
test on the other, as in FINDINGS of the project: ratios within one run count, nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import statistics
import sys
import time
from typing import Any

BODY = b"x" * 100
SMALL = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n" + BODY
PIECE = b"\0" * 262_144


class Server(asyncio.Protocol):
    """Answers each head; `/big/N` with N bytes."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer, self.left = transport, b"", 0

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head, rest = self.buffer[:end], self.buffer[end + 4 :]
            if head.startswith(b"POST "):
                size = int(head.rpartition(b"Content-Length: ")[2])
                if len(rest) < size:
                    return
                rest = rest[size:]
            self.buffer = rest
            if head.startswith(b"GET /big/"):
                self.left = int(head.split(b" ")[1].removeprefix(b"/big/"))
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.left)
                self.pump()
            else:
                self.transport.write(SMALL)

    def pump(self) -> None:
        self.paused = False
        while self.left > 0 and not self.paused:
            piece = PIECE if self.left >= len(PIECE) else PIECE[: self.left]
            self.left -= len(piece)
            self.transport.write(piece)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.pump()


class Load(asyncio.Protocol):
    """One keep-alive connection, through a CONNECT tunnel or not, that asks again as soon as it was answered."""

    def __init__(self, run: Run) -> None:
        self.run, self.buffer, self.tunnel = run, b"", bool(run.proxy)
        self.sent, self.asked = 0.0, 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.tunnel:
            transport.write(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (self.run.target, self.run.target))
        else:
            self.ready()

    def ready(self) -> None:
        if self.run.mode == "connect":
            self.run.count += 1
            self.transport.abort()
            return
        if self.run.tls is not None and not isinstance(self.transport, _Tls):
            self.run.keep(self.secure())
        else:
            self.ask()

    async def secure(self) -> None:
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(self.transport, self, self.run.tls, server_hostname=self.run.host)
        self.transport, self.tunnel = transport, False
        self.ask()

    def ask(self) -> None:
        if self.run.over:
            self.transport.abort()
            return
        self.sent = time.perf_counter()
        self.asked += 1
        self.transport.write(self.run.requests[self.asked % len(self.run.requests)])

    def data_received(self, data: bytes) -> None:
        if self.run.mode == "bulk" and not self.tunnel:
            self.run.count += len(data)
            if self.run.count >= self.run.bulk:
                self.run.finish()
            return
        self.buffer += data
        if self.tunnel:
            if b"\r\n\r\n" in self.buffer:
                if b" 200 " not in self.buffer[:20]:
                    self.run.failed = self.buffer[:300].decode("latin-1")
                    self.run.finish()
                    return
                self.buffer, self.tunnel = b"", False
                self.ready()
            return
        if self.buffer.endswith(BODY):
            if b" 200 " not in self.buffer[:20]:
                self.run.failed = self.buffer[:300].decode("latin-1")
            self.buffer = b""
            self.run.count += 1
            self.run.times.append(time.perf_counter() - self.sent)
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.run.mode == "connect" and not self.run.over:
            self.run.keep(self.run.open())
        elif not self.run.over:
            self.run.lost += 1


_Tls: Any = asyncio.sslproto._SSLProtocolTransport  # type: ignore[attr-defined]


class Run:
    """One measurement."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.mode, self.seconds, self.bulk = options.mode, options.seconds, options.bulk
        self.host, self.port = options.host, options.port
        self.proxy = (options.proxy_host, options.proxy) if options.proxy else None
        self.target = f"{self.host}:{self.port}".encode()
        path = f"/big/{self.bulk}" if self.mode == "bulk" else options.path
        paths = [path] if options.paths == 1 else [f"{path}/{number}" for number in range(options.paths)]
        if options.post:
            self.requests = [
                b"POST %s HTTP/1.1\r\nHost: %s\r\nX-Number: %d\r\nContent-Length: %d\r\n\r\n%s"
                % (path.encode(), self.target, number, size, b"y" * size)
                for number, (path, size) in enumerate(
                    zip(paths, range(options.post, options.post + len(paths)), strict=True)
                )
            ]
        else:
            self.requests = [
                b"GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\n\r\n" % (path.encode(), self.target)
                for path in paths
            ]
        self.tls = ssl.create_default_context(cafile=options.ca) if options.ca else None
        self.count, self.lost, self.times, self.over, self.failed = 0, 0, [], False, ""
        self.done: asyncio.Future[None] | None = None
        self.tasks: set[asyncio.Future[None]] = set()

    def keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def finish(self) -> None:
        self.over = True
        if self.done is not None and not self.done.done():
            self.done.set_result(None)

    async def open(self) -> None:
        host, port = self.proxy or ("127.0.0.1", self.port)
        try:
            await asyncio.get_running_loop().create_connection(lambda: Load(self), host, port)
        except OSError as error:
            self.failed = str(error)
            self.finish()

    async def measure(self, connections: int) -> dict[str, Any]:
        self.done = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        await asyncio.gather(*(self.open() for _ in range(connections)))
        if self.mode == "hold":
            print(json.dumps({"open": True}), flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            return {"lost": self.lost, "count": self.count, "failed": self.failed}
        if self.mode != "connect":
            await asyncio.sleep(0.2 if self.mode != "bulk" else 0)  # the tunnels stand
            self.count, self.times, started = (0 if self.mode != "bulk" else self.count), [], time.perf_counter()
        try:
            await asyncio.wait_for(self.done, self.seconds if self.mode != "bulk" else 60)
        except TimeoutError:
            pass
        took, self.over = time.perf_counter() - started, True
        times = sorted(self.times)
        p50 = statistics.median(times) if times else 0.0
        p99 = times[int(len(times) * 0.99)] if times else 0.0
        return {"rate": self.count / took, "count": self.count, "p50_us": p50 * 1e6, "p99_us": p99 * 1e6, "failed": self.failed,
                "lost": self.lost}  # fmt: skip


def main() -> None:
    """Serve, or load."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["server", "load"])
    parser.add_argument("--mode", default="keep", choices=["keep", "connect", "bulk", "hold"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--proxy", type=int, default=0)
    parser.add_argument("--proxy-host", default="127.0.0.1")
    parser.add_argument("--path", default="/ok")
    parser.add_argument("--paths", type=int, default=1, help="different requests of a connection, one after the other")
    parser.add_argument(
        "--post", type=int, default=0, help="a body of so many bytes and more, and a field that differs"
    )
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--bulk", type=int, default=256 << 20)
    parser.add_argument("--ca", default="")
    parser.add_argument("--certificate", default="")
    parser.add_argument("--core", type=int, default=-1)
    options = parser.parse_args()
    if options.core >= 0:
        os.sched_setaffinity(0, {options.core % (os.cpu_count() or 1)})
    try:
        import uvloop

        runner: Any = asyncio.Runner(loop_factory=uvloop.new_event_loop) if not options.ca else asyncio.Runner()
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        if options.role == "server":
            runner.run(_serve(options))
        else:
            print(json.dumps(runner.run(Run(options).measure(options.connections))), flush=True)


async def _serve(options: argparse.Namespace) -> None:
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, ssl=context, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
