"""Attacks on network rules as data: a policy, a request that tries to pass it, and the benign twin that must pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from agent_os.core.action import Action
from agent_os.core.errors import ActionError
from agent_os.policy import Policy, decide

POLICY = """
version: 1
network_policies:
  api:
    endpoints:
      - {host: api.example.com, port: 443, protocol: rest, enforcement: enforce,
         rules: [{allow: {method: GET, path: "/public/**"}}, {allow: {method: POST, path: /upload, query: {kind: image}}}],
         deny_rules: [{method: "*", path: "/public/admin/**"}]}
      - {host: "*.cdn.example.com", port: 443, protocol: rest, access: read-only, enforcement: enforce}
      - {host: intra.example.com, port: 8080, allowed_ips: [10.0.0.0/8]}
      - {host: mcp.example.com, port: 443, path: /mcp, protocol: mcp, enforcement: enforce,
         rules: [{allow: {method: tools/call, tool: "read_*"}}], deny_rules: [{method: tools/call, tool: read_secret}]}
      - {host: gql.example.com, port: 443, protocol: graphql, enforcement: enforce,
         rules: [{allow: {operation_type: query}}]}
    binaries: [{path: /usr/bin/curl}]
"""
BASE: dict[str, Any] = {
    "kind": "net.request",
    "host": "api.example.com",
    "port": 443,
    "binary": "/usr/bin/curl",
    "method": "GET",
    "path": "/public/x",
}


@dataclass(frozen=True)
class Attack:
    """A change of the base request that must be denied, and one that must pass."""

    id: str
    attack: dict[str, Any]
    twin: dict[str, Any] = field(default_factory=dict)


def tool(name: str, **more: Any) -> dict[str, Any]:
    """Return the changes that make the base request a tool call."""
    params = {"name": name, **more}
    return {
        "host": "mcp.example.com",
        "method": "POST",
        "path": "/mcp",
        "jsonrpc": {"method": "tools/call", "params": params},
    }


def gql(body: str, **more: Any) -> dict[str, Any]:
    """Return the changes that make the base request a GraphQL request."""
    return {"host": "gql.example.com", "method": "POST", "path": "/graphql", "body": body, **more}


MCP = '{"jsonrpc":"2.0","id":1,"method":"tools/call",%s}'
ATTACKS = [
    Attack("path-dotdot", {"path": "/public/../secret"}, {"path": "/public/a/../b"}),
    Attack("path-encoded-dotdot", {"path": "/public/%2e%2e/secret"}, {"path": "/public/%61"}),
    Attack("path-params-dotdot", {"path": "/public/..;/secret"}, {"path": "/public/a;v=1"}),
    Attack("path-encoded-slash", {"path": "/public/..%2f..%2fsecret"}, {"path": "/public/a-b"}),
    Attack("path-backslash", {"path": "/public\\..\\secret"}, {"path": "/public/a.b"}),
    Attack("path-double-encoding", {"path": "/%2570ublic/x"}, {"path": "/%70ublic/x"}),
    Attack("path-overlong-utf8", {"path": "/public/%c0%ae%c0%ae/secret"}, {"path": "/public/%c3%a9"}),
    Attack("path-null", {"path": "/public/x%00/../../secret"}),
    Attack("path-deny-trailing-slash", {"path": "/public/admin/"}, {"path": "/public/administrators"}),
    Attack("path-deny-directory", {"path": "/public/admin"}),
    Attack("path-deny-doubled-slash", {"path": "/public//admin//x"}),
    Attack("path-deny-dot", {"path": "/public/./admin/x"}),
    Attack("path-case", {"path": "/PUBLIC/x"}),
    Attack("host-userinfo", {"host": "api.example.com@evil.test"}),
    Attack("host-trailing-dot-other", {"host": "api.example.com.evil.test."}, {"host": "api.example.com."}),
    Attack("host-nul", {"host": "api.example.com\0.evil.test"}),
    Attack("host-percent", {"host": "api%2eexample.com"}),
    Attack("host-look-alike", {"host": "арі.example.com"}, {"host": "API.EXAMPLE.com"}),
    Attack("host-full-width-dot", {"host": "evil。test"}, {"host": "api。example.com"}),
    Attack("host-newline", {"host": "api.example.com\r\nHost: evil"}),
    Attack("host-wildcard-literal", {"host": "*.cdn.example.com"}, {"host": "a.cdn.example.com"}),
    Attack("host-wildcard-depth", {"host": "a.b.cdn.example.com"}),
    Attack("host-wildcard-bare", {"host": "cdn.example.com"}),
    Attack("host-suffix", {"host": "evilapi.example.com"}),
    Attack("port-other", {"port": 80}),
    Attack("address-metadata", {"resolved_ips": ["169.254.169.254"]}, {"resolved_ips": ["93.184.215.14"]}),
    Attack("address-one-of-two", {"resolved_ips": ["93.184.215.14", "127.0.0.1"]}),
    Attack("address-mapped", {"resolved_ips": ["::ffff:169.254.169.254"]}),
    Attack("address-nat64", {"resolved_ips": ["64:ff9b::7f00:1"]}, {"resolved_ips": ["2606:4700::1111"]}),
    Attack("address-nat64-public", {"resolved_ips": ["64:ff9b::5db8:d70e"]}, {"resolved_ips": ["93.184.215.14"]}),
    Attack(
        "address-private-under-an-exact-name",
        {"resolved_ips": ["10.1.2.3"]},
        {"host": "intra.example.com", "port": 8080, "resolved_ips": ["10.1.2.3"]},
    ),
    Attack("address-6to4", {"resolved_ips": ["2002:a9fe:a9fe::1"]}),
    Attack(
        "address-rebinding-wildcard",
        {"host": "a.cdn.example.com", "resolved_ips": ["10.0.0.1"]},
        {"host": "a.cdn.example.com", "resolved_ips": ["93.184.215.14"]},
    ),
    Attack("address-literal", {"host": "127.0.0.1", "port": 443}),
    Attack("address-decimal", {"host": "2130706433", "port": 443}),
    Attack("binary-argv", {"binary": "/usr/bin/python3", "cmdline_paths": ["/usr/bin/curl"]}),
    Attack("binary-child", {"binary": "/bin/sh", "ancestors": ["/usr/bin/curl"]}),
    Attack("binary-prefix", {"binary": "/usr/bin/curl2"}),
    Attack("binary-none", {"binary": ""}),
    Attack("method-override", {"method": "POST"}, {"method": "HEAD"}),
    Attack("method-websocket", {"method": "WEBSOCKET_TEXT"}),
    Attack(
        "query-second-value",
        {"method": "POST", "path": "/upload", "query": {"kind": ["image", "script"]}},
        {"method": "POST", "path": "/upload", "query": {"kind": ["image"]}},
    ),
    Attack("query-missing", {"method": "POST", "path": "/upload", "query": {}}),
    Attack("mcp-denied-tool", tool("read_secret"), tool("read_file")),
    Attack("mcp-other-tool", tool("write_file")),
    Attack(
        "mcp-name-with-space",
        {**tool("read_file"), "body": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_ file"}}'},
    ),
    Attack(
        "mcp-batch",
        {**tool("read_file"), "jsonrpc": [tool("read_file")["jsonrpc"], tool("write_file")["jsonrpc"]]},
        {**tool("read_file"), "jsonrpc": [tool("read_file")["jsonrpc"], tool("read_x")["jsonrpc"]]},
    ),
    Attack(
        "mcp-body-against-field",
        {**tool("read_file"), "body": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"write_file"}}'},
        {**tool("read_file"), "body": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file"}}'},
    ),
    Attack(
        "mcp-duplicate-key",
        {
            **tool("read_file"),
            "body": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_a","name":"write"}}',
        },
    ),
    Attack(
        "mcp-name-in-capitals-too",
        {**tool("read_file"), "body": MCP % '"params":{"name":"read_a","Name":"write_file"}'},
        {**tool("read_file"), "body": MCP % '"params":{"name":"read_a","Cursor":"write_file"}'},
    ),
    Attack(
        "mcp-method-in-capitals-too",
        {**tool("read_file"), "body": MCP % '"params":{"name":"read_a"},"METHOD":"resources/read"'},
        {**tool("read_file"), "body": MCP % '"params":{"name":"read_a"},"hint":"resources/read"'},
    ),
    Attack(
        "mcp-params-with-a-kelvin-sign",
        {**tool("read_file"), "body": MCP % '"params":{"name":"read_a"},"param\u017f":{"name":"write_file"}'},
    ),
    Attack("mcp-get", {**tool("read_file"), "method": "GET"}),
    Attack("mcp-other-path", {**tool("read_file"), "path": "/other"}),
    Attack("graphql-alias", gql('{"query":"mutation { viewer: deleteAll }"}'), gql('{"query":"{ viewer }"}')),
    Attack(
        "graphql-operation-name",
        gql('{"query":"query A { a } mutation B { b }","operationName":"B"}'),
        gql('{"query":"query A { a } mutation B { b }","operationName":"A"}'),
    ),
    Attack(
        "graphql-batch",
        gql('[{"query":"{ a }"},{"query":"mutation { b }"}]'),
        gql('[{"query":"{ a }"},{"query":"{ b }"}]'),
    ),
    Attack(
        "graphql-get-duplicate",
        {**gql(""), "method": "GET", "query": {"query": ["{ a }", "mutation { b }"]}},
        {**gql(""), "method": "GET", "query": {"query": ["{ a }"]}},
    ),
    Attack("graphql-post-parameter", gql('{"query":"{ a }"}', query={"query": ["mutation { b }"]})),
    Attack(
        "graphql-query-in-capitals-too", gql('{"query":"{ a }","Query":"mutation { b }"}'), gql('{"query":"{ a }"}')
    ),
    Attack("graphql-parameter-in-capitals", gql('{"query":"{ a }"}', query={"Query": ["mutation { b }"]})),
    Attack("graphql-hash", gql('{"extensions":{"persistedQuery":{"sha256Hash":"x"}}}')),
    Attack("transport-udp", {"transport": "udp"}, {"transport": "tcp"}),
]


def judge(changes: dict[str, Any], semantics: str = "strict") -> str:
    """Return the verdict on the base request with changes; what cannot be made canonical is denied."""
    try:
        action = Action.parse({**BASE, **changes})
    except ActionError:
        return "deny"
    return decide(Policy.parse(POLICY, semantics=semantics), action).verdict.value


@pytest.mark.parametrize("case", ATTACKS, ids=lambda case: case.id)
def test_attacks_are_denied_and_their_twins_pass(case: Attack) -> None:
    """The attack is denied; what looks like it and is harmless is allowed."""
    assert judge(case.attack) == "deny"
    assert judge(case.twin) == "allow"


def test_connections_are_checked_as_requests_are() -> None:
    """A connection needs no request to be denied: forbidden addresses and programs are denied at once."""
    policy = Policy.parse(POLICY)
    wire = {"kind": "net.connect", "host": "intra.example.com", "port": 8080, "binary": "/usr/bin/curl"}
    assert decide(policy, Action.parse({**wire, "resolved_ips": ["10.1.2.3"]})).verdict.value == "allow"
    for changes in ({"resolved_ips": ["127.0.0.1"]}, {"resolved_ips": []}, {"binary": "/bin/nc"}, {"port": 22}):
        assert decide(policy, Action.parse({**wire, **changes})).verdict.value == "deny"
