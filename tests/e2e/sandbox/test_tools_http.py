"""Tool servers elsewhere: MCP over streamable HTTP, through the egress guard, against the reference implementation's server.

The server is a program of its own with a certificate of a test authority; hostile ones answer by hand.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS
from agent_os.core.errors import EffectError
from agent_os.core.manifest import Needs
from agent_os.core.ports import Outcome
from agent_os.runtime.tools_desk import ToolsDesk
from tests.e2e.network.authority import TestAuthority

NAME = socket.gethostname()
SERVER = Path(__file__).with_name("mcp_http_server.py")
ROOT = Path(__file__).parents[3]


def wait_for(path: Path) -> str:
    """Return what a file holds once it is there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if path.exists():
            return path.read_text()
        time.sleep(0.02)
    raise AssertionError(f"{path} never came")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace, a state and an authority that the guard is told to trust for upstreams."""
    (tmp_path / "ws").mkdir()
    (tmp_path / "server").mkdir()
    authority = TestAuthority(tmp_path / "authority")
    authority.context(NAME)
    pem = (tmp_path / "authority" / f"{NAME}.pem").read_text()
    (tmp_path / "server" / "cert.pem").write_text(pem)
    (tmp_path / "server" / "key.pem").write_text(pem)
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("AGENTOS_UPSTREAM_CA", str(authority.root))
    monkeypatch.setenv("UNITS_TOKEN", "real-token-of-the-test")
    return tmp_path


Start = Callable[..., int]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start the reference server; returns its port. One that runs is ended first."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(kind: str = "events") -> int:
        stop()
        (folder / "server" / "port").unlink(missing_ok=True)
        command = [sys.executable, str(SERVER), str(folder / "server"), kind]
        running.append(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}))
        return int(wait_for(folder / "server" / "port"))

    def stop() -> None:
        while running:
            process = running.pop()
            process.kill()
            process.wait()

    yield begin
    stop()


RULES = "[{allow: {method: initialize}}, {allow: {method: notifications/initialized}}, {allow: {method: tools/list}}, {allow: {method: tools/call, tool: add}}]"


def policy(folder: Path, port: int, *, rules: str = RULES, more: str = "", roles: str = "") -> Path:
    """Return a policy that lets the runtime speak MCP to the server, and every tool of it be called."""
    path = folder / "policy.yaml"
    path.write_text(
        f"""version: 1
extends: [pack:baseline]
tools: {{"units/*": {{allow: true}}}}
network_policies:
  units:
    endpoints:
      - {{host: {NAME}, port: {port}, path: /mcp, protocol: mcp, enforcement: enforce, local: true, rules: {rules}}}
      - {{host: {NAME}, port: {port}, path: /mcp, protocol: rest, enforcement: enforce, local: true, rules: [{{allow: {{method: DELETE, path: /mcp}}}}]}}
{more}secrets: {{UNITS_TOKEN: {{from: env, destinations: [{NAME}]}}}}
{roles}"""
    )
    return path


def desk(folder: Path, path: Path) -> ToolsDesk:
    return ToolsDesk(str(folder / "ws"), [str(path)])


def add(folder: Path, path: Path, port: int, *headers: str) -> dict[str, Any]:
    url = f"https://{NAME}:{port}/mcp"
    return desk(folder, path).add("units", [], Needs(), url=url, headers=headers)


def session(folder: Path, path: Path) -> AgentOS:
    return AgentOS.open(path, principal="ana@corp.example", workspace=folder / "ws")


def call(runtime: AgentOS, tool: str, **args: Any) -> Outcome:
    outcome = runtime.perform({"kind": "tool.call", "server": "units", "tool": tool, "args": args})
    assert isinstance(outcome, Outcome)
    return outcome


@pytest.mark.parametrize("kind", ["json", "events"])
def test_a_server_elsewhere_at_work(folder: Path, start: Start, kind: str) -> None:
    """Added, approved and called, with a secret that only the server sees; answers as JSON or as events."""
    port = start(kind)
    path = policy(folder, port)
    seen = add(folder, path, port, "Authorization: Bearer agentos-secret:UNITS_TOKEN")
    assert [tool["name"] for tool in seen["tools"]] == ["add", "read"]
    assert seen["needs"]["hosts"] == [NAME]
    desk(folder, path).approve("units")
    with session(folder, path) as runtime:
        for a in (1, 700):  # 700: the server says how far it is before it answers
            outcome = call(runtime, "add", a=a, b=2)
            assert outcome.value == {"sum": a + 2}, outcome.detail
    sent = [json.loads(line) for line in (folder / "server" / "headers").read_text().splitlines()]
    assert [headers["authorization"] for headers in sent] == ["Bearer real-token-of-the-test"] * 2
    assert len({headers["mcp-session-id"] for headers in sent}) == 1
    assert sent[0]["mcp-protocol-version"] == "2025-06-18"
    kept = "".join(file.read_text(errors="replace") for file in (folder / "state").rglob("*") if file.is_file())
    assert "real-token-of-the-test" not in kept
    assert '"tools/call"' not in kept


def test_the_guard_judges_the_tool_inside_the_message(folder: Path, start: Start) -> None:
    """A tool that the `tools` section allows and the endpoint's rules do not is denied at the wire; the session goes on."""
    port = start()
    path = policy(folder, port)
    add(folder, path, port)
    desk(folder, path).approve("units")
    with session(folder, path) as runtime:
        denied = call(runtime, "read", path="src/main.py")
        assert not denied.ok
        assert "network guard denied it" in denied.detail
        assert call(runtime, "add", a=1, b=1).value == {"sum": 2}


def test_arguments_are_judged_at_the_wire_too(folder: Path, start: Start) -> None:
    """A rule on an argument inside the message holds, whoever speaks to the server."""
    narrowed = RULES.replace("tool: add}", "tool: add, params: {arguments.a: {any: ['1', '2']}}}")
    port = start()
    path = policy(folder, port, rules=narrowed)
    add(folder, path, port)
    desk(folder, path).approve("units")
    with session(folder, path) as runtime:
        assert call(runtime, "add", a=1, b=1).ok
        assert "network guard denied it" in call(runtime, "add", a=3, b=1).detail


def test_what_a_server_elsewhere_calls_a_path_is_its_own(folder: Path, start: Start) -> None:
    """A path among the arguments goes out as it was written, not as a path of this workspace."""
    port = start()
    path = policy(folder, port, rules=RULES.replace("tool: add", "tool: '*'"))
    add(folder, path, port)
    desk(folder, path).approve("units")
    with session(folder, path) as runtime:
        assert call(runtime, "read", path="src/main.py").value == {"path": "src/main.py"}


def test_a_server_that_turns_is_quarantined(folder: Path, start: Start) -> None:
    """Another description than the accepted one stops every call until a person accepts the difference."""
    port = start()
    path = policy(folder, port)
    add(folder, path, port)
    desk(folder, path).approve("units")
    (folder / "server" / "turned").touch()
    second = start()
    path = policy(folder, second)
    record = folder / "state" / "tools" / "units.json"
    record.write_text(record.read_text().replace(f":{port}/", f":{second}/"))
    with session(folder, path) as runtime:
        moved = call(runtime, "add", a=1, b=1)
        assert "quarantined" in moved.detail  # the address is pinned too
    changed = "\n".join(desk(folder, path).inspect("units")["changed"])
    assert "IMPORTANT" in changed
    assert "code changed" in changed


def test_an_address_the_policy_does_not_name(folder: Path, start: Start) -> None:
    """Adding a server that the policy's network does not reach fails, and says what would be needed."""
    port = start()
    path = policy(folder, port + 1)
    with pytest.raises(EffectError, match="network guard denied it"):
        add(folder, path, port)
    (folder / "policy.yaml").write_text("version: 1\nextends: [pack:baseline]\n")
    with pytest.raises(EffectError, match="names no endpoint"):
        add(folder, folder / "policy.yaml", port)
    assert desk(folder, path).list()["servers"] == []


async def test_a_sub_agent_needs_the_host_itself(folder: Path, start: Start) -> None:
    """A role with the tool and the host calls it; one with the tool alone is denied by its own rights."""
    port = start()
    roles = f"""agents:
  roles:
    caller: {{tools: ["units/*"], hosts: ["{NAME}:{port}"]}}
    other: {{tools: ["units/*"], hosts: ["elsewhere.example:443"]}}
    offline: {{tools: ["units/*"]}}
"""
    path = policy(folder, port, roles=roles)
    thread = threading.Thread(target=lambda: (add(folder, path, port), desk(folder, path).approve("units")))
    thread.start()
    thread.join()

    async def run(child: AgentOS, task: str) -> Any:
        outcome = await child.aperform(
            {"kind": "tool.call", "server": "units", "tool": "add", "args": {"a": 1, "b": 1}}
        )
        assert isinstance(outcome, Outcome)
        return outcome.value if outcome.ok else outcome.detail

    async with AgentOS.open(path, principal="ana", workspace=folder / "ws") as system:
        assert await system.aspawn("caller", "add", run) == {"sum": 2}
        assert "not given the right" in await system.aspawn("other", "add", run)
        assert "no right" in await system.aspawn("offline", "add", run)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (["Authorization: Bearer abc"], "not kept in the clear"),
        (["X-Api-Key: abc"], "not kept in the clear"),
        (["Host: other.example"], "set by the runtime"),
        (["Mcp-Session-Id: 1"], "set by the runtime"),
        (["X: a\r\nY: b"], "visible ASCII"),
        (["no colon"], "Name: value"),
    ],
)
def test_headers_that_are_refused(folder: Path, headers: list[str], said: str) -> None:
    """Credentials in the clear, headers of ours and broken ones are refused by name, before anything is sent."""
    path = policy(folder, 1)
    with pytest.raises(EffectError, match=said):
        add(folder, path, 1, *headers)


@pytest.mark.parametrize(
    "url", ["ftp://a.example/", "https://", "https://u:p@a.example/", "https://a.example\\@b/", "x"]
)
def test_addresses_that_are_refused(folder: Path, url: str) -> None:
    """What is no plain http(s) address is refused with the option named."""
    with pytest.raises(EffectError, match="--url"):
        desk(folder, policy(folder, 1)).add("units", [], Needs(), url=url)


TOOLS = {"tools": [{"name": "add", "description": "Adds.", "inputSchema": {"type": "object"}}]}
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}


class Hostile(threading.Thread):
    """A server that answers by hand: `answer(method, id)` returns the bytes of the response to a tools/call."""

    def __init__(self, folder: Path, answer: Callable[[Any], bytes]) -> None:
        super().__init__(daemon=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(folder / "server" / "cert.pem"))
        self._context, self._answer = context, answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.paths: list[bytes] = []

    def run(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with self._context.wrap_socket(client, server_side=True) as tls, tls.makefile("rwb") as stream:
                while line := stream.readline():
                    self.paths.append(line)
                    size = 0
                    while (header := stream.readline()).strip():
                        if header.lower().startswith(b"content-length:"):
                            size = int(header.split(b":")[1])
                    body = stream.read(size)
                    message = json.loads(body) if body else {}
                    stream.write(self._reply(message))
                    stream.flush()
        except (OSError, ValueError):
            return

    def _reply(self, message: Any) -> bytes:
        method = message.get("method")
        if method == "initialize":
            return document({"jsonrpc": "2.0", "id": message["id"], "result": HELLO})
        if method == "tools/list":
            return document({"jsonrpc": "2.0", "id": message["id"], "result": TOOLS})
        if method == "tools/call":
            return self._answer(message)
        return b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


def document(form: Any, *, status: str = "200 OK", kind: str = "application/json", extra: str = "") -> bytes:
    body = form if isinstance(form, bytes) else json.dumps(form, indent=1).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def right(message: Any, value: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message["id"], "result": {"structuredContent": value or {"sum": 2}}}


def event(form: Any) -> bytes:
    return b"event: message\r\ndata: " + json.dumps(form).encode() + b"\r\n\r\n"


ASKS = {"jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage", "params": {}}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda m: document(right({"id": m["id"] + 7})), "another question"),
        (lambda m: document(b"<html>", kind="text/html"), "neither JSON nor"),
        (lambda m: document(b"{", kind="application/json"), "no JSON"),
        (lambda m: document(b"", status="307 Temporary Redirect", extra="Location: https://evil.example/\r\n"), "redirects"),
        (lambda m: document(b"", status="401 Unauthorized"), "Authorization"),
        (lambda m: document(event(right({"id": 77})), kind="text/event-stream"), "without an answer"),
        (lambda m: document(b"data: " + b"x" * 9_000_000 + b"\n\n", kind="text/event-stream"), "more than"),
        (lambda m: document(b": keep\n\n" * 2_200_000, kind="text/event-stream"), "more than"),
        (lambda m: document(event(ASKS) * 40 + event(right(m)), kind="text/event-stream"), ""),
    ],
)  # fmt: skip
def test_answers_that_break_the_protocol(folder: Path, answer: Callable[[Any], bytes], said: str) -> None:
    """A wrong answer fails that call and ends the session; the next call opens another and is answered."""
    broken = [True]

    def reply(message: Any) -> bytes:
        return answer(message) if broken[0] else document(event(right(message)), kind="text/event-stream")

    server = Hostile(folder, reply)
    server.start()
    rules = RULES.replace("tools/list}}", "tools/list}}")
    path = policy(folder, server.port, rules=rules)
    add(folder, path, server.port)
    desk(folder, path).approve("units")
    with session(folder, path) as runtime:
        outcome = call(runtime, "add", a=1, b=1)
        assert outcome.ok is (said == ""), outcome.detail
        assert said in outcome.detail
        broken[0] = False
        outcome = call(runtime, "add", a=1, b=1)
        assert outcome.value == {"sum": 2}, outcome.detail


def test_a_result_that_is_too_large_is_refused(folder: Path) -> None:
    """A result past the bound is an error, not a cut."""
    server = Hostile(folder, lambda m: document(right(m, {"text": "x" * 1_500_000})))
    server.start()
    path = policy(folder, server.port)
    add(folder, path, server.port)
    desk(folder, path).approve("units")
    with session(folder, path) as runtime:
        outcome = call(runtime, "add", a=1, b=1)
        assert not outcome.ok
        assert "larger than" in outcome.detail


def test_the_command_line_adds_an_address(folder: Path, start: Start) -> None:
    """`agentos tools add NAME --url` shows what the server says; options that make no sense with it are named."""
    port = start()
    path = policy(folder, port)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}

    def agentos(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agent_os", "tools", *arguments]
        return subprocess.run(
            command, cwd=folder / "ws", env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    url = f"https://{NAME}:{port}/mcp"
    done = agentos("add", "units", "--url", url, "--policy", str(path))
    assert done.returncode == 0, done.stderr
    assert f"units  waiting  {url}" in done.stdout
    assert agentos("approve", "units", "--policy", str(path)).returncode == 0
    wrong = agentos("add", "other", "--url", url, "--read", "x")
    assert (wrong.returncode, "--read" in wrong.stderr) == (2, True)
    assert agentos("add", "other", "--url", url, "--", "python3").returncode == 2
