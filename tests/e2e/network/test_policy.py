"""The guard under a real policy file, with the real monitor and its audit as the door."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets import ConnectionClosed
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from agent_os.core.principal import Principal
from agent_os.effects.proxy import Limits
from agent_os.policy import Policy
from agent_os.runtime.compose import compose, needs_of
from agent_os.runtime.egress_rules import PolicyRules
from agent_os.runtime.network import open_guard, reload_guard, serve_loopback
from tests.e2e.network.authority import TestAuthority
from tests.e2e.network.world import Client, TableResolver, Upstream, response

POLICY = """
version: 1
network_policies:
  erp:
    endpoints:
      - {{host: erp.test, port: {port}, protocol: rest, enforcement: enforce, local: true,
          rules: [{{allow: {{method: GET, path: "/invoices/**"}}}}]}}
  git:
    endpoints:
      - {{host: git.test, port: {port}, local: true}}
    binaries: [{{path: {curl}}}]
  mcp:
    endpoints:
      - {{host: mcp.test, port: {port}, protocol: mcp, enforcement: enforce, path: /mcp, local: true,
          rules: [{{allow: {{method: tools/call, tool: search}}}}]}}
  watched:
    endpoints:
      - {{host: watched.test, port: {port}, protocol: rest, enforcement: audit, local: true,
          rules: [{{allow: {{method: GET, path: /ok}}}}]}}
  tight:
    endpoints:
      - {{host: tight.test, port: {port}, protocol: rest, enforcement: enforce, local: true, access: full,
          content: {{request_bytes: 10, response_types: [text/plain]}}}}
      - {{host: pinned.test, port: {port}, local: true, upstream_tls: {{pins: ["sha256:{zeros}"]}}}}
network_middlewares:
  keys: {{middleware: openshell/regex, order: 1, endpoints: {{include: [watched.test]}}}}
secrets:
  ERP_KEY: {{from: env, destinations: [erp.test]}}
"""
CURL = os.path.realpath(shutil.which("curl") or "/usr/bin/curl")


def policy(port: int = 443, text: str = POLICY) -> Policy:
    return Policy.parse(text.format(port=port, curl=CURL, zeros="0" * 64))


class Session:
    """A guard under a policy, with the session's real monitor as its door, and a proxy for this user's programs."""

    def __init__(self, guard: Any, composition: Any, upstream: Upstream, url: str, folder: Path) -> None:
        self.guard, self.composition, self.upstream, self.url, self.folder = guard, composition, upstream, url, folder

    async def curl(self, *arguments: str) -> tuple[int, str, str]:
        """Run the real curl through the guard: its exit status, its output, the last response's status."""
        environment = {**self.guard.environment(proxy=self.url), "PATH": os.environ["PATH"]}
        return await run(CURL, "-sS", "-m", "10", "-w", "\n%{http_code}", *arguments, env=environment)


async def run(*argv: str, env: Mapping[str, str]) -> tuple[int, str, str]:
    """Run a program; return its status, output without the last line, and the last line."""
    process = await asyncio.create_subprocess_exec(
        *argv, env=dict(env), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    text, _, last = output.decode().rpartition("\n")
    return process.returncode or 0, text, last


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[Session]:
    """The session, with one TLS upstream for every name of the policy."""
    async with opened(tmp_path, POLICY) as made:
        yield made


@asynccontextmanager
async def opened(tmp_path: Path, text: str, limits: Limits | None = None) -> AsyncIterator[Session]:
    """A session under a policy text."""
    authority = TestAuthority(tmp_path / "upstream")
    names = ("erp.test", "git.test", "mcp.test", "watched.test", "tight.test", "pinned.test")
    upstream = await Upstream(response(b"hello"), authority.context(*names)).start()
    folder = tmp_path / "state"
    parsed = policy(upstream.port, text)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    composition = await compose(parsed, Principal(user="tester"), str(workspace), state=folder)
    guard = await open_guard(
        parsed,
        composition.monitor,
        state=folder,
        resolver=TableResolver(),
        limits=limits or Limits(drain_seconds=0.3),
        roots=authority.root,
        environment={"ERP_KEY": "secret-of-the-erp"},
    )
    _, url = await serve_loopback(guard, composition.monitor.principal)
    yield Session(guard, composition, upstream, url, folder)
    await guard.stop()
    await composition.aclose()
    await upstream.stop()


def test_treatment_follows_the_policy() -> None:
    """Entries with requests are inspected, opaque ones passed; nothing else resolves; secrets stay at their host."""
    rules = PolicyRules(policy())
    assert rules.treatment("erp.test", 443).inspect
    assert not rules.treatment("git.test", 443).inspect
    assert rules.treatment("mcp.test", 443).body
    assert rules.resolvable("erp.test")
    assert not rules.resolvable("evil.test")
    assert rules.secret_places("ERP_KEY", "erp.test", 443) == {"header", "basic"}
    assert not rules.secret_places("ERP_KEY", "git.test", 443)
    assert {row["host"] for row in rules.reachable()} == {
        "erp.test", "git.test", "mcp.test", "watched.test", "tight.test", "pinned.test",
    }  # fmt: skip


async def test_curl_is_held_to_the_policy(session: Session) -> None:
    """An allowed invoice is fetched over inspected TLS; another path and another host are readable 403s."""
    port = session.upstream.port
    assert await session.curl(f"https://erp.test:{port}/invoices/1") == (0, "hello", "200")
    status, said, code = await session.curl(f"https://erp.test:{port}/payroll")
    assert (status, code) == (0, "403")
    assert json.loads(said)["title"] == "denied by policy"
    status, said, code = await session.curl("https://evil.test/")
    assert status == 56
    assert "403" in said
    assert b"payroll" not in session.upstream.text
    assert session.upstream.connections == 1


async def test_a_secret_goes_to_its_host_only(session: Session) -> None:
    """The placeholder is filled for erp.test; towards another allowed, inspected host it is denied."""
    port = session.upstream.port
    mark = "X-Key: agentos-secret:ERP_KEY"
    assert (await session.curl("-H", mark, f"https://erp.test:{port}/invoices/1"))[2] == "200"
    assert b"secret-of-the-erp" in session.upstream.text
    assert (await session.curl("-H", mark, f"https://watched.test:{port}/ok"))[2] == "403"
    assert session.upstream.text.count(b"secret-of-the-erp") == 1


async def test_mcp_tools_are_judged_by_name(session: Session) -> None:
    """A tools/call of an allowed tool passes, another tool does not, and a batch with one of each does not."""
    url = f"https://mcp.test:{session.upstream.port}/mcp"

    def call(tool: str) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}}

    async def post(body: Any) -> str:
        return (await session.curl("--json", json.dumps(body), url))[2]

    assert await post(call("search")) == "200"
    assert await post(call("delete")) == "403"
    assert await post([call("search"), call("delete")]) == "403"
    assert b"delete" not in session.upstream.text


async def test_audit_enforcement_lets_pass_and_records(session: Session) -> None:
    """Under `enforcement: audit` a violation is forwarded."""
    port = session.upstream.port
    assert (await session.curl(f"https://watched.test:{port}/other"))[2] == "200"


async def test_content_limits_pins_and_the_key_middleware(session: Session) -> None:
    """Sizes and types per endpoint, a pin that does not match, and keys taken out of a body before it is judged."""
    port = session.upstream.port
    tight = f"https://tight.test:{port}/x"
    assert (await session.curl("--data", "x" * 11, tight))[2] == "403"
    assert (await session.curl("--data", "x" * 9, tight))[2] == "403"  # a response without the listed type
    session.upstream.answer = response(b"ok", extra="Content-Type: text/plain; charset=utf-8\r\n")
    assert (await session.curl("--data", "x" * 9, tight))[2] == "200"
    assert (await session.curl(f"https://pinned.test:{port}/x"))[2] == "502"
    key = "sk-" + "a1b2c3d4" * 4
    assert (await session.curl("--data", f"key={key}", f"https://watched.test:{port}/ok"))[2] == "200"
    assert key.encode() not in session.upstream.text
    assert b"[REDACTED]" in session.upstream.text


def test_placeholders_stand_in_the_environment(tmp_path: Path) -> None:
    """Programs find each secret of the policy as a placeholder under its name."""
    assert PolicyRules(policy()).secret_names() == {"ERP_KEY"}


async def test_programs_are_told_apart(session: Session) -> None:
    """git.test is for curl alone: curl connects, the same request from python does not."""
    port = session.upstream.port
    roots = str(session.guard.parts.authority.roots)
    status, said, code = await session.curl("--cacert", roots, f"https://git.test:{port}/x")
    assert (status, said, code) == (0, "hello", "200")
    program = f"""
import socket
s = socket.create_connection(("127.0.0.1", {session.url.rsplit(":", 1)[1]}))
s.sendall(b"CONNECT git.test:{port} HTTP/1.1\\r\\nHost: git.test:{port}\\r\\n\\r\\n")
print(s.recv(100).split()[1].decode())
"""
    assert (await run(sys.executable, "-c", program, env={}))[1] == "403"


async def test_scripts_of_an_interpreter_are_told_apart(tmp_path: Path) -> None:
    """Where a policy names a script too, the interpreter with another script, or with none, is not let through."""
    me = os.path.realpath(sys.executable)
    text = POLICY.replace(
        "binaries: [{{path: {curl}}}]", f"binaries: [{{{{path: {me}, script: '{tmp_path}/jobs/*.py'}}}}]"
    )
    async with opened(tmp_path, text) as session:
        port, own = session.upstream.port, session.url.rsplit(":", 1)[1]
        program = (
            f"import socket\ns = socket.create_connection(('127.0.0.1', {own}))\n"
            f"s.sendall(b'CONNECT git.test:{port} HTTP/1.1\\r\\nHost: git.test:{port}\\r\\n\\r\\n')\n"
            "print(s.recv(100).split()[1].decode(), end='')"
        )
        (tmp_path / "jobs").mkdir()
        for name in ("jobs/good.py", "other.py"):
            (tmp_path / name).write_text(program)
        assert (await run(me, str(tmp_path / "jobs" / "good.py"), env={}))[2] == "200"
        assert (await run(me, str(tmp_path / "other.py"), env={}))[2] == "403"
        assert (await run(me, "-c", program, env={}))[2] == "403"


async def test_the_audit_holds_the_intent_before_the_request_goes_out(session: Session) -> None:
    """When the upstream sees the first byte, the audit has the intent of the request on disk."""
    found: list[int] = []

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        text = b"".join(path.read_bytes() for path in (session.folder / "audit").rglob("*") if path.is_file())
        found.append(text.count(b"net.request"))
        writer.write(response(b"ok"))
        await writer.drain()

    session.upstream.answer = look
    port = session.upstream.port
    assert (await session.curl(f"https://erp.test:{port}/invoices/7"))[2] == "200"
    assert found == [1]


async def test_reload_closes_what_is_no_longer_allowed(session: Session) -> None:
    """After a reload that drops git.test its tunnel ends; the one to erp.test goes on, under the new rules."""
    port = session.upstream.port
    address = ("127.0.0.1", int(session.url.rsplit(":", 1)[1]))
    monitor, guard = session.composition.monitor, session.guard
    context = ssl.create_default_context(cafile=str(guard.parts.authority.certificate_path))
    text = POLICY.replace("binaries: [{{path: {curl}}}]", "").replace("binaries", "# binaries")
    first = policy(port, text)
    monitor.reload(first, needs_of(first))
    await reload_guard(guard, first)
    gone, kept = await Client.to(address), await Client.to(address)
    assert await gone.connect(f"git.test:{port}") == 200
    assert await kept.connect(f"erp.test:{port}") == 200
    await kept.tls(context, "erp.test")
    request = b"GET /invoices/1 HTTP/1.1\r\nHost: erp.test:%d\r\n\r\n" % port
    assert (await kept.send(request).answer())[0] == 200
    second = policy(port, text.replace("git.test", "other.test").replace("/invoices/**", "/bills/**"))
    monitor.reload(second, needs_of(second))
    assert await reload_guard(guard, second) == 1
    assert await gone.rest() == b""
    assert (await kept.send(request).answer())[0] == 403
    assert (await kept.send(request.replace(b"invoices", b"bills")).answer())[0] == 200
    kept.close()


async def test_net_top_shows_live_flows(session: Session) -> None:
    """`agentos net top --json` reads the live table of the running guard over its private socket."""
    port = session.upstream.port
    address = ("127.0.0.1", int(session.url.rsplit(":", 1)[1]))
    client = await Client.to(address)
    assert await client.connect(f"erp.test:{port}") == 200
    status, said, last = await run(
        sys.executable, "-m", "agent_os", "net", "top", "--json",
        env={"AGENTOS_STATE": str(session.folder), "PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert status == 0, said + last
    tables = json.loads(said + last)
    assert [row["host"] for table in tables for row in table["live"]] == ["erp.test"]
    assert tables[0]["live"][0]["program"] == os.path.realpath(sys.executable)
    client.close()


async def test_personal_data_goes_out_as_pseudonyms_and_comes_back(tmp_path: Path) -> None:
    """A body with an e-mail address leaves with a pseudonym; the program sees the original in the answer."""
    text = POLICY + "privacy: [{{find: [EMAIL_ADDRESS], to: any, do: pseudonymise}}]\n"
    async with opened(tmp_path, text.replace("method: GET, path: /ok", "method: '*', path: /ok")) as session:
        sent: list[bytes] = []

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            sent.append(await reader.readexactly(size))
            writer.write(response(b'{"you said": ' + sent[0] + b"}", extra="Content-Type: application/json\r\n"))
            await writer.drain()

        session.upstream.answer = echo
        body = json.dumps({"to": "jane.roe@corp.example", "note": "hello"})
        status, said, code = await session.curl("--json", body, f"https://watched.test:{session.upstream.port}/ok")
        assert (status, code) == (0, "200"), said
        assert b"jane.roe" not in sent[0]
        assert json.loads(sent[0])["note"] == "hello"
        assert json.loads(said) == {"you said": json.loads(body)}


async def test_graphql_over_websocket_by_policy(tmp_path: Path) -> None:
    """Handshake messages of the protocol pass, an allowed operation too, another one ends the connection."""
    got: list[str] = []

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            got.append(str(message))
            await connection.send("ack")

    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        text = f"""
version: 1
network_policies:
  live:
    endpoints:
      - host: live.test
        port: {port}
        local: true
        protocol: websocket
        enforcement: enforce
        rules:
          - {{{{allow: {{{{method: GET, path: /graphql}}}}}}}}
          - {{{{allow: {{{{operation_type: subscription, fields: [news]}}}}}}}}
"""
        async with (
            opened(tmp_path, text) as session,
            connect(f"ws://live.test:{port}/graphql", proxy=session.url) as client,
        ):
            for message in (
                {"type": "connection_init"},
                {"id": "1", "type": "subscribe", "payload": {"query": "subscription { news }"}},
            ):
                await client.send(json.dumps(message))
                assert await client.recv() == "ack"
            evil = {"id": "2", "type": "subscribe", "payload": {"query": "mutation { dropAll }"}}
            await client.send(json.dumps(evil))
            with pytest.raises(ConnectionClosed):
                await client.recv()
    assert len(got) == 2
