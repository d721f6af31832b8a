"""Operations inside requests, end to end: GraphQL, JSON-RPC and MCP by a real policy, allowed, denied and watched."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.network.test_policy import Session, opened

KNOWN = hashlib.sha256(b"query Known { news }").hexdigest()
UNKNOWN = hashlib.sha256(b"query Other { payroll }").hexdigest()
ENDPOINTS = """
version: 1
network_policies:
  graph:
    endpoints:
      - host: erp.test
        port: {port}
        local: true
        protocol: graphql
        enforcement: enforce
        path: /graphql
        persisted_queries: allow_registered
        graphql_persisted_queries:
          KNOWN_HASH: {{operation_type: query, operation_name: Known, fields: [news]}}
          weekly: {{operation_type: query, fields: [report]}}
        rules: [{{allow: {{operation_type: query, fields: [news, report]}}}}]
      - host: watched.test
        port: {port}
        local: true
        protocol: graphql
        enforcement: audit
        path: /graphql
        rules: [{{allow: {{operation_type: query, fields: [news]}}}}]
  rpc:
    endpoints:
      - host: git.test
        port: {port}
        local: true
        protocol: json-rpc
        enforcement: enforce
        path: /rpc
        rules: [{{allow: {{method: get_block}}}}, {{allow: {{method: get_a}}}}, {{allow: {{method: get_b}}}}, {{allow: {{method: get_secret}}}}]
        deny_rules: [{{method: get_secret}}]
  mcp:
    endpoints:
      - host: mcp.test
        port: {port}
        local: true
        protocol: mcp
        enforcement: enforce
        path: /mcp
        rules:
          - {{allow: {{method: initialize}}}}
          - {{allow: {{method: tools/call, tool: read_file, params: {{arguments: {{path: "docs/**"}}}}}}}}
          - {{allow: {{method: tools/call, tool: search}}}}
        deny_rules:
          - {{method: tools/call, tool: search, params: {{arguments.scope: all}}}}
  rest:
    endpoints:
      - host: tight.test
        port: {port}
        local: true
        protocol: rest
        enforcement: enforce
        rules:
          - allow: {{method: POST, path: /transfers, headers: {{X-Env: test}}, body: {{payee.iban: "DE*", amount: {{max: 100}}}}}}
        deny_rules: [{{method: POST, path: /transfers, body: {{note: "*urgent*"}}}}]
""".replace("KNOWN_HASH", KNOWN)


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[Session]:
    async with opened(tmp_path, ENDPOINTS) as made:
        yield made


def query(text: str, **more: Any) -> dict[str, Any]:
    return {"query": text, **more}


def persisted(digest: str, **more: Any) -> dict[str, Any]:
    return {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}, **more}


def call(method: str, params: Any = None, number: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, **({"params": params} if params is not None else {})}


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    return call("tools/call", {"name": name, "arguments": arguments})


GRAPHQL = {
    "a field that is allowed": (query("{ news { title } }"), 200),
    "a field that is not": (query("{ payroll { iban } }"), 403),
    "under an alias": (query("{ news: payroll { iban } }"), 403),
    "the allowed field under an alias": (query("{ payroll: news { title } }"), 200),
    "beside an allowed one": (query("{ news payroll }"), 403),
    "in a fragment": (query("query { ...f } fragment f on Query { payroll }"), 403),
    "the allowed field in a fragment": (query("query { ...f } fragment f on Query { news }"), 200),
    "in an inline fragment": (query("{ ... on Query { payroll } }"), 403),
    "a mutation": (query("mutation { news }"), 403),
    "the other operation of a document": (
        query("query A { news } query B { payroll }", operationName="B"), 403),
    "a document of which the allowed one is run": (query("query A { news } query B { report }", operationName="A"), 200),
    "a batch of allowed ones": ([query("{ news }"), query("{ report }")], 200),
    "a batch with another": ([query("{ news }"), query("{ payroll }")], 403),
    "a hash that is registered": (persisted(KNOWN), 200),
    "a hash that is not": (persisted(UNKNOWN), 403),
    "an id that is registered": ({"id": "weekly"}, 200),
    "an id that is not": ({"id": "monthly"}, 403),
    "a registered hash with another text": (persisted(KNOWN, query="{ payroll }"), 403),
    "another hash with an allowed text": (persisted(KNOWN, query="{ report }"), 403),
    "its own hash with an allowed text": (
        persisted(hashlib.sha256(b"{ report }").hexdigest(), query="{ report }"), 200),
    "two ids": ({"id": "weekly", "documentId": "monthly"}, 403),
    "no operation": ({"variables": {}}, 403),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHQL)
async def test_graphql(session: Session, name: str) -> None:
    """What is run is judged: through aliases, fragments, batches, several operations and persisted queries."""
    body, status = GRAPHQL[name]
    url = f"https://erp.test:{session.upstream.port}/graphql"
    said = await session.curl("--json", json.dumps(body), url)
    assert said[2] == str(status), said
    assert (len(session.upstream.received) > 0) == (status == 200)


async def test_graphql_by_get(session: Session) -> None:
    """The query of a GET is judged as well, its persisted form too."""
    url = f"https://erp.test:{session.upstream.port}/graphql"
    assert (await session.curl("-G", "--data-urlencode", "query={ news }", url))[2] == "200"
    assert (await session.curl("-G", "--data-urlencode", "query={ payroll }", url))[2] == "403"
    for digest, status in ((KNOWN, "200"), (UNKNOWN, "403")):
        extensions = json.dumps(persisted(digest)["extensions"])
        assert (await session.curl("-G", "--data-urlencode", f"extensions={extensions}", url))[2] == status


async def test_what_is_watched_passes_and_is_recorded(session: Session) -> None:
    """`enforcement: audit`: the operation goes out, and the record names the violation."""
    url = f"https://watched.test:{session.upstream.port}/graphql"
    assert (await session.curl("--json", json.dumps(query("{ payroll }")), url))[2] == "200"
    session.composition.state.close  # noqa: B018 - the audit is read while it is open
    texts = [
        path.read_text() for path in (session.folder / "audit").rglob("*") if path.is_file() and path.suffix != ".db"
    ]
    assert any("watched.test" in text and "audit" in text for text in texts)


JSON_RPC = {
    "an allowed method": (call("get_block"), 200),
    "another method": (call("send_transaction"), 403),
    "a method that a rule denies": (call("get_secret"), 403),
    "a batch of allowed ones": ([call("get_a"), call("get_b", number=2)], 200),
    "a batch with another": ([call("get_a"), call("send_transaction", number=2)], 403),
    "a batch with a denied one": ([call("get_a"), call("get_secret", number=2)], 403),
    "an empty batch": ([], 403),
    "a notification": ({"jsonrpc": "2.0", "method": "send_transaction"}, 403),
    "no version": ({"id": 1, "method": "get_block"}, 403),
    "a batch in a batch": ([[call("get_a")]], 403),
}


@pytest.mark.parametrize("name", JSON_RPC)
async def test_json_rpc(session: Session, name: str) -> None:
    """Every call of a batch counts."""
    body, status = JSON_RPC[name]
    url = f"https://git.test:{session.upstream.port}/rpc"
    said = await session.curl("--json", json.dumps(body), url)
    assert said[2] == str(status), said
    assert (len(session.upstream.received) > 0) == (status == 200)


MCP = {
    "an argument that is allowed": (tool("read_file", path="docs/a/b.md"), 200),
    "an argument that is not": (tool("read_file", path="payroll.csv"), 403),
    "the argument is missing": (tool("read_file"), 403),
    "a list of allowed arguments": (tool("read_file", path=["docs/a.md", "docs/b.md"]), 200),
    "a list with another": (tool("read_file", path=["docs/a.md", "payroll.csv"]), 403),
    "an object for the argument": (tool("read_file", path={"0": "docs/a.md"}), 403),
    "no rule over arguments": (tool("search", scope="mine"), 200),
    "an argument that a rule denies": (tool("search", scope="all"), 403),
    "a batch with a denied argument": ([tool("search", scope="mine"), tool("search", scope="all")], 403),
    "another tool": (tool("delete_file", path="docs/a.md"), 403),
    "the handshake": (call("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {}}), 200),
    "a method nobody allowed": (call("resources/read", {"uri": "file:///etc/passwd"}), 403),
    "a name that looks like another": (tool("read_file\u200b", path="docs/a.md"), 403),
}


@pytest.mark.parametrize("name", MCP)
async def test_mcp(session: Session, name: str) -> None:
    """Tools are judged with their arguments, also within a batch."""
    body, status = MCP[name]
    url = f"https://mcp.test:{session.upstream.port}/mcp"
    said = await session.curl("--json", json.dumps(body), url)
    assert said[2] == str(status), said
    assert (len(session.upstream.received) > 0) == (status == 200)


async def test_coded_and_cut_bodies_are_judged_like_plain_ones(session: Session, tmp_path: Path) -> None:
    """Chunked, and packed: the operation inside counts."""
    url = f"https://erp.test:{session.upstream.port}/graphql"
    for text, status in (("{ news }", "200"), ("{ payroll }", "403")):
        plain = json.dumps(query(text))
        chunked = ["-H", "Transfer-Encoding: chunked", "-H", "Content-Type: application/json", "-d", plain]
        assert (await session.curl(*chunked, url))[2] == status
        (tmp_path / "packed").write_bytes(gzip.compress(plain.encode()))
        packed = ["-H", "Content-Encoding: gzip", "-H", "Content-Type: application/json"]
        assert (await session.curl(*packed, "--data-binary", f"@{tmp_path / 'packed'}", url))[2] == status


TRANSFER = {"payee": {"iban": "DE1"}, "amount": 100}
REST = {
    "what the rule says": (TRANSFER, "test", 200),
    "a greater amount": ({**TRANSFER, "amount": 101}, "test", 403),
    "another payee": ({**TRANSFER, "payee": {"iban": "FR1"}}, "test", 403),
    "an amount in other letters beside it": ({**TRANSFER, "Amount": 101}, "test", 403),
    "one of two transfers": ([TRANSFER, {**TRANSFER, "amount": 101}], "test", 403),
    "two transfers": ([TRANSFER, TRANSFER], "test", 200),
    "what a rule denies": ({**TRANSFER, "note": "very urgent"}, "test", 403),
    "another environment": (TRANSFER, "prod", 403),
    "two environments": (TRANSFER, "test, prod", 403),
}


@pytest.mark.parametrize("name", REST)
async def test_rest_fields(session: Session, tmp_path: Path, name: str) -> None:
    """Header and body fields decide, plain, chunked and packed alike."""
    body, env, status = REST[name]
    url = f"https://tight.test:{session.upstream.port}/transfers"
    plain, fields = json.dumps(body), ["-H", f"X-Env: {env}", "-H", "Content-Type: application/json"]
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(plain.encode()))
    for sent in (
        ["-d", plain],
        ["-H", "Transfer-Encoding: chunked", "-d", plain],
        ["-H", "Content-Encoding: gzip", "--data-binary", f"@{packed}"],
    ):
        said = await session.curl(*fields, *sent, url)
        assert said[2] == str(status), said
    assert (len(session.upstream.received) > 0) == (status == 200)
