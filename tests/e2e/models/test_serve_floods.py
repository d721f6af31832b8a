"""Callers that take more of a served gateway than is theirs: bodies of nobody, and one tenant that pushes another out."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_os.core.principal import Principal
from agent_os.effects.models import server
from agent_os.runtime.serving import sessions
from agent_os.runtime.serving.callers import Caller
from agent_os.runtime.serving.start import Serving
from tests.e2e.models.providers import openai_reply, provider
from tests.e2e.models.serving import serving
from tests.e2e.models.test_attacks import ONE

MIB = 1 << 20


def answered(url: str, path: str, size: int, token: str = "") -> int:
    """Return the status that a body of some size gets."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.post(url + path, content=b"x" * size, headers=headers, timeout=20).status_code


def wait_until(done: Any, seconds: float = 20.0) -> None:
    """Wait for a condition; it must come."""
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_bodies_of_callers_nobody_knows_are_not_kept(tmp_path: Path) -> None:
    """ATTACK: large bodies without a token: each is answered 401 once its sender is known for a stranger, and nothing stays."""
    with (
        provider(lambda asked: openai_reply("fine", asked)) as near,
        serving(tmp_path, ONE.format(url=near.url, retries=0, more="")) as served,
    ):
        for path in ("/v1/chat/completions", "/v1/messages", "/v1/approvals/x/approve"):
            for token in ("", "wrong"):
                assert answered(served.url, path, 5 * MIB, token) == 401, path
        assert answered(served.url, "/v1/hooks/deploy", 5 * MIB) == 413
        assert answered(served.url, "/v1/approvals/x/approve", 5 * MIB, served.approver_token) == 413
        assert answered(served.url, "/v1/chat/completions", 5 * MIB, served.token) == 400, "the twin is read to its end"
        assert served.server._bodies == 0
        many = [socket.create_connection(("127.0.0.1", served.server.port)) for _ in range(8)]
        for each in many:
            each.sendall(
                b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50000000\r\n\r\n" + b"x" * 60_000
            )
        wait_until(lambda: served.server._bodies == 8 * 60_000)
        for each in many:
            each.sendall(b"x" * 60_000)
        wait_until(lambda: served.server._bodies == 0)
        for each in many:
            assert each.recv(12) == b"HTTP/1.1 401"
            each.close()


def test_known_callers_together_fill_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound of all bodies under way a further one is told to come again; when there is room it is served."""
    monkeypatch.setattr(server, "BODIES_BYTES_MAX", 2 * MIB)
    with (
        provider(lambda asked: openai_reply("fine", asked)) as near,
        serving(tmp_path, ONE.format(url=near.url, retries=0, more="")) as served,
    ):
        head = f"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {served.token}\r\ncontent-length: 9000000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", served.server.port)) as slow:
            slow.sendall(head.encode() + b"x" * (3 * MIB // 2))
            wait_until(lambda: served.server._bodies >= 3 * MIB // 2)
            assert answered(served.url, "/v1/chat/completions", MIB, served.token) == 503
        wait_until(lambda: served.server._bodies == 0)
        assert answered(served.url, "/v1/chat/completions", MIB, served.token) == 400


def on_loop(served: Serving, work: Coroutine[Any, Any, Any]) -> Any:
    loop = served.session.loop.loop
    return asyncio.run_coroutine_threadsafe(work, loop).result(20)


def test_a_tenant_with_many_users_pushes_out_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ATTACK: a tenant opens session after session; the other's keeps its session, though it called longest ago."""
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 6)

    async def call(served: Serving, tenant: str, user: str) -> int:
        caller = Caller(Principal(tenant=tenant, user=user))
        async with served.sessions.of(caller) as gateway:
            return id(gateway)

    with (
        provider(lambda asked: openai_reply("fine", asked)) as near,
        serving(tmp_path, ONE.format(url=near.url, retries=0, more="")) as served,
    ):
        ours = on_loop(served, call(served, "small", "ana"))
        first = on_loop(served, call(served, "large", "user-0"))
        for number in range(1, 20):
            on_loop(served, call(served, "large", f"user-{number}"))
        assert on_loop(served, call(served, "small", "ana")) == ours
        assert len(served.sessions._open) <= 6
        assert ("large", "user-0", "main") not in served.sessions._open, first


def test_what_is_said_twice_is_not_believed(tmp_path: Path) -> None:
    """ATTACK: two credentials, or two lengths, of which a proxy in front and this server would each believe another; said once, and one
    credential in both fields, are served.
    """
    with (
        provider(lambda asked: openai_reply("fine", asked)) as near,
        serving(tmp_path, ONE.format(url=near.url, retries=0, more="")) as served,
    ):
        good, bearer, key = served.token, "authorization: Bearer ", "x-api-key: "
        asked = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        chunked = f"transfer-encoding: chunked\r\n{key}{good}\r\n"
        for fields, status in (
            (f"{bearer}{good}\r\n{bearer}wrong\r\n", 400),
            (f"{bearer}wrong\r\n{bearer}{good}\r\n", 400),
            (f"{bearer}{good}\r\n{bearer}{good}\r\n", 400),
            (f"{key}{good}\r\n{bearer}wrong\r\n", 401),
            (f"{key}wrong\r\n{bearer}{good}\r\n", 401),
            (f"{key}{good}\r\n{bearer}{good}\r\n", 200),
            (f"{key}{good}\r\n", 200),
            (f"content-length: 5\r\n{chunked}\r\n0\r\n\r\n{asked}", 400),
            (f"{chunked}\r\n0\r\n", 200),
        ):
            with socket.create_connection(("127.0.0.1", served.server.port)) as sock:
                sock.settimeout(10)
                sock.sendall(f"{asked}{fields}\r\n".encode())
                told = b"".join(iter(lambda sock=sock: sock.recv(65536), b""))
            assert told.split()[1] == str(status).encode(), fields
            assert told.count(b"HTTP/1.1") == 1, "what hides behind a body is not answered"


def test_who_asks_before_sending_is_told_before_sending(tmp_path: Path) -> None:
    """`Expect: 100-continue`: a known caller is told to go on at once; a stranger, and a body too long, are refused unread."""
    body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
    with (
        provider(lambda asked: openai_reply("fine", asked)) as near,
        serving(tmp_path, ONE.format(url=near.url, retries=0, more="")) as served,
    ):

        def ask(token: str, size: int) -> socket.socket:
            sock = socket.create_connection(("127.0.0.1", served.server.port))
            sock.settimeout(10)
            fields = f"authorization: Bearer {token}\r\ncontent-length: {size}\r\nexpect: 100-continue\r\n"
            sock.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n".encode())
            return sock

        for token, size, status in (("wrong", len(body), 401), (served.token, server.BODY_BYTES_MAX + 1, 413)):
            with ask(token, size) as sock:
                told = b""
                while piece := sock.recv(4096):
                    told += piece
                assert told.startswith(b"HTTP/1.1 %d" % status), told[:40]
        assert served.server._bodies == 0
        with ask(served.token, len(body)) as sock:
            assert sock.recv(4096).startswith(b"HTTP/1.1 100")
            sock.sendall(body)
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")
