"""`enforcement: audit` over every protocol: the violation goes out and is recorded; what no policy may let pass does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.e2e.network.test_operations_judged import call, query, tool
from tests.e2e.network.test_policy import Session, opened
from tests.e2e.network.world import Client

ENDPOINT = "{{host: {host}, port: {port}, local: true, protocol: {protocol}, enforcement: {how}, {more}}}"
RULES = {
    "rest": 'path: "/rest/**", rules: [{{allow: {{method: GET, path: "/rest/public/**"}}}}]',
    "graphql": "path: /graphql, rules: [{{allow: {{operation_type: query, fields: [news]}}}}]",
    "json-rpc": "path: /rpc, rules: [{{allow: {{method: get_a}}}}]",
    "mcp": "path: /mcp, rules: [{{allow: {{method: tools/call, tool: search}}}}]",
}
ASKED: dict[str, tuple[list[str], str, list[str], str]] = {
    "rest": ([], "/rest/payroll", [], "/rest/public/a"),
    "graphql": (["--json", json.dumps(query("{ payroll }"))], "/graphql", ["--json", json.dumps(query("{ news }"))], "/graphql"),
    "json-rpc": (["--json", json.dumps(call("send"))], "/rpc", ["--json", json.dumps(call("get_a"))], "/rpc"),
    "mcp": (["--json", json.dumps(tool("delete"))], "/mcp", ["--json", json.dumps(tool("search"))], "/mcp"),
}  # fmt: skip
"""Protocol: what violates the rules (arguments of curl, path), and what they allow."""


def text() -> str:
    """A policy of which one host is watched and another is held, for every protocol."""
    endpoints = [
        "      - " + ENDPOINT.replace("{host}", host).replace("{protocol}", protocol).replace("{how}", how).replace("{more}", more)
        for host, how in (("watched.test", "audit"), ("erp.test", "enforce"))
        for protocol, more in RULES.items()
    ]  # fmt: skip
    shut = "      - {{host: tight.test, port: {port}, protocol: rest, enforcement: audit, rules: [{{allow: {{method: GET, path: /x}}}}]}}"
    denied = (
        "      - {{host: mcp.test, port: {port}, local: true, protocol: rest, enforcement: audit, access: full,"
        ' deny_rules: [{{method: GET, path: "/closed/**"}}]}}'
    )
    return (
        "version: 1\nnetwork_policies:\n  all:\n    endpoints:\n"
        + "\n".join([*endpoints, shut, denied])
        + "\nsecrets:\n  ERP_KEY: {{from: env, destinations: [erp.test]}}\n"
    )


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[Session]:
    async with opened(tmp_path, text()) as made:
        yield made


def recorded(session: Session) -> list[dict[str, Any]]:
    """The intents on record."""
    lines = [
        json.loads(line).get("record", {})
        for path in sorted((session.folder / "audit").rglob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return [record for record in lines if record.get("type") == "intent" and record["action"]["kind"] == "net.request"]


@pytest.mark.parametrize("protocol", RULES)
async def test_a_violation_goes_out_and_its_record_names_the_rule(session: Session, protocol: str) -> None:
    """Watched: the violation passes with the rule on record, what is allowed passes without; held: 403."""
    bad, path, good, fine = ASKED[protocol]
    base = f":{session.upstream.port}"
    assert (await session.curl(*bad, f"https://watched.test{base}{path}"))[2] == "200"
    assert (await session.curl(*good, f"https://watched.test{base}{fine}"))[2] == "200"
    first, second = [record.get("audit_only", []) for record in recorded(session)]
    assert first
    assert not second
    assert (await session.curl(*bad, f"https://erp.test{base}{path}"))[2] == "403"
    assert (await session.curl(*good, f"https://erp.test{base}{fine}"))[2] == "200"


async def test_a_rule_that_denies_is_watched_too(session: Session) -> None:
    """`deny_rules` of a watched endpoint are recorded and pass."""
    assert (await session.curl(f"https://mcp.test:{session.upstream.port}/closed/x"))[2] == "200"
    assert recorded(session)[0]["audit_only"]


async def test_websocket_messages_are_watched(tmp_path: Path) -> None:
    """A message that no rule allows goes out where the endpoint is watched, and ends the connection where it is held."""
    got: list[str | bytes] = []

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            got.append(message)
            await connection.send("ack")

    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        rows = [
            f"      - {{{{host: {host}, port: {port}, local: true, protocol: websocket, enforcement: {how},"
            " rules: [{{allow: {{method: GET, path: /ws}}}}]}}"
            for host, how in (("watched.test", "audit"), ("erp.test", "enforce"))
        ]
        async with opened(
            tmp_path, "version: 1\nnetwork_policies:\n  live:\n    endpoints:\n" + "\n".join(rows) + "\n"
        ) as made:
            async with connect(f"ws://watched.test:{port}/ws", proxy=made.url) as client:
                for message in ("text", b"binary"):
                    await client.send(message)
                    assert await client.recv() == "ack"
            async with connect(f"ws://erp.test:{port}/ws", proxy=made.url) as client:
                await client.send("text")
                await asyncio.wait_for(client.wait_closed(), 5)
                assert client.close_code == 1008
            assert len([record for record in recorded(made) if record.get("audit_only")]) == 2
    assert got == ["text", b"binary"]


NEVER = {
    "an address nobody declared": ("GET https://tight.test:{port}/x", "", 403),
    "another host in the request": ("GET http://watched.test:{port}/rest/x", "Host: erp.test:{port}", 400),
    "two lengths": ("POST http://watched.test:{port}/rest/x", "Content-Length: 1\r\nTransfer-Encoding: chunked", 400),
    "a method named twice": ("GET http://watched.test:{port}/rest/x", "X-HTTP-Method-Override: DELETE", 400),
    "a slash in disguise": ("GET http://watched.test:{port}/rest/a%2fb", "", 400),
    "a secret that is another host's": ("GET http://watched.test:{port}/rest/x", "X-Key: agentos-secret:ERP_KEY", 403),
    "a host without a rule": ("GET http://evil.test:{port}/rest/x", "", 403),
}


@pytest.mark.parametrize("name", NEVER)
async def test_what_is_never_only_watched(session: Session, name: str) -> None:
    """ATTACK: addresses, framing, two meanings, secrets, unknown hosts are denied whatever `enforcement` says."""
    line, fields, status = NEVER[name]
    port = session.upstream.port
    client = await Client.to(("127.0.0.1", int(session.url.rsplit(":", 1)[1])))
    method, url = line.format(port=port).split(" ")
    if url.startswith("https"):
        assert await client.connect(url.split("/")[2]) == status
    else:
        given = fields.format(port=port)
        host = "" if given.startswith("Host:") else f"Host: {url.split('/')[2]}\r\n"
        client.send(f"{method} {url} HTTP/1.1\r\n{host}{given}{chr(13) + chr(10) if given else ''}\r\n".encode())
        assert (await client.answer())[0] == status
    client.close()
    assert session.upstream.connections == 0


async def test_a_name_without_a_rule_does_not_exist_beside_watched_ones(session: Session) -> None:
    """What `policy.local` says of a watched host is that it may be reached; of another that it may not."""
    for host, verdict in (("watched.test", "allow"), ("evil.test", "deny")):
        client = await Client.to(("127.0.0.1", int(session.url.rsplit(":", 1)[1])))
        target = f"http://policy.local/may?host={host}&port={session.upstream.port}"
        _, _, body = await client.send(f"GET {target} HTTP/1.1\r\nHost: policy.local\r\n\r\n".encode()).answer()
        assert json.loads(body)["verdict"] == verdict
        client.close()
