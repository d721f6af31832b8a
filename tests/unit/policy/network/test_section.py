"""The network section: programs, destinations, addresses, requests; where strict and openshell semantics differ."""

from __future__ import annotations

import pytest

from agent_os.core.action import Action
from agent_os.core.executable import Executable
from agent_os.core.facts import Facts
from tests.unit.policy.network.support import CURL, ask, one, section, verdict

REST = "{host: api.test, port: 443, protocol: rest, enforcement: enforce, "


def test_default_is_deny_and_says_what_was_missing() -> None:
    """Nothing that is not named is allowed, and the reason names the condition that failed."""
    compiled = one("{host: api.test, port: 443}")
    assert ask(compiled, host="api.test", port=443) == "allow"
    for wire, words in (
        ({"host": "evil.test", "port": 443}, "not allowed by any policy"),
        ({"host": "api.test", "port": 80}, "not allowed by any policy"),
        ({"host": "api.test", "port": 443, "binary": "/bin/sh"}, "binary '/bin/sh' not allowed"),
        ({"host": "api.test", "port": 443, "resolved_ips": ["127.0.0.1"]}, "it leads to this machine"),
        ({"host": "api.test", "port": 443, "resolved_ips": ["169.254.169.254"]}, "no rule can open"),
    ):
        assert ask(compiled, **wire) == "deny"
        action = Action.parse({"kind": "net.connect", "binary": CURL, **wire})
        assert words in compiled.missing(action, Facts.defaults().with_stated(action.stated))[0]


def test_children_inherit_only_where_a_policy_says_so() -> None:
    """What a permitted program starts has its rights under openshell semantics, and with `inherit` under strict."""
    wire = {"host": "api.test", "port": 443, "binary": "/bin/sh", "ancestors": ["/bin/dash", CURL]}
    assert ask(one("{host: api.test, port: 443}", "openshell"), **wire) == "allow"
    assert ask(one("{host: api.test, port: 443}"), **wire) == "deny"
    assert ask(one("{host: api.test, port: 443}", binaries=f"[{{path: {CURL}, inherit: true}}]"), **wire) == "allow"


def test_absent_binaries_mean_any_program_under_strict_and_none_in_the_reference() -> None:
    """The documented meaning, and what the reference does; an empty list is nobody under both."""
    text = "p: {endpoints: [{host: api.test, port: 443}]}"
    assert ask(section(text), host="api.test", port=443, binary="/any") == "allow"
    assert ask(section(text, "openshell"), host="api.test", port=443, binary="/any") == "deny"
    assert ask(one("{host: api.test, port: 443}", binaries="[]"), host="api.test", port=443) == "deny"


def test_a_program_can_be_pinned_by_digest() -> None:
    """The right path with another digest is another program."""
    digest = "sha256:" + "a" * 64
    compiled = one("{host: api.test, port: 443}", binaries=f'[{{path: {CURL}, digest: "{digest}"}}]')
    action = Action.parse({"kind": "net.connect", "host": "api.test", "port": 443})
    for given, expected in ((digest, "allow"), ("sha256:" + "b" * 64, "deny"), ("", "deny")):
        facts = Facts.defaults().with_stated({"executable": Executable(CURL, digest=given)})
        assert verdict(compiled.judge(action, facts)) == expected


def test_an_unknown_program_is_denied_unless_identity_is_relaxed() -> None:
    """No executable among the facts is no program that a list names."""
    compiled = one("{host: api.test, port: 443}")
    assert ask(compiled, host="api.test", port=443, binary="") == "deny"
    assert ask(compiled, host="api.test", port=443, binary="", runtime={"require_binary_identity": False}) == "allow"


ADDRESSES = [
    ("{host: svc.test, port: 80}", ["10.0.0.5"], "deny"),  # an exact name alone opens nothing private
    ("{host: svc.test, port: 80}", ["8.8.8.8"], "allow"),
    ("{host: svc.test, port: 80, allowed_ips: [10.0.0.5]}", ["10.0.0.5"], "allow"),
    ("{host: svc.test, port: 80, allowed_ips: [10.0.0.5]}", ["::ffff:10.0.0.5"], "allow"),
    ("{host: svc.test, port: 80}", ["64:ff9b::808:808"], "deny"),
    ("{host: svc.test, port: 80}", ["2002:808:808::1"], "deny"),
    ("{host: svc.test, port: 80}", ["2001:db8::1"], "deny"),
    ("{host: svc.test, port: 80, allowed_ips: ['64:ff9b::/96']}", ["64:ff9b::808:808"], "allow"),
    ("{host: svc.test, port: 80, allowed_ips: ['64:ff9b::/96']}", ["64:ff9b::a00:1"], "deny"),
    ("{host: svc.test, port: 80, allowed_ips: ['64:ff9b::/96', 10.0.0.0/8]}", ["64:ff9b::a00:1"], "allow"),
    ("{host: svc.test, port: 80, local: true}", ["10.0.0.5"], "deny"),
    ("{host: '*.svc.test', port: 80}", ["10.0.0.5"], "deny"),
    ("{host: '*.svc.test', port: 80}", ["8.8.8.8"], "allow"),
    ("{host: '*.svc.test', port: 80, allowed_ips: [10.0.0.0/8]}", ["10.0.0.5"], "allow"),
    ("{host: svc.test, port: 80, allowed_ips: [10.0.0.0/8]}", ["10.0.0.5", "8.8.8.8"], "deny"),
    ("{host: svc.test, port: 80, allowed_ips: [10.0.0.0/8, 127.0.0.1]}", ["10.0.0.5"], "deny"),
    ("{host: svc.test, port: 80, allowed_ips: [nonsense]}", ["10.0.0.5"], "deny"),
    ("{host: svc.test, port: 80}", ["8.8.8.8", "169.254.169.254"], "deny"),
    ("{host: svc.test, port: 80}", ["64:ff9b::a9fe:a9fe"], "deny"),
    ("{host: svc.test, port: 80}", ["::ffff:127.0.0.1"], "deny"),
    ("{host: svc.test, port: 80}", ["fd00:ec2::254"], "deny"),
    ("{host: svc.test, port: 80}", ["100.100.100.200"], "deny"),
    ("{host: svc.test, port: 80}", ["224.0.0.1"], "deny"),
    ("{host: svc.test, port: 80}", [], "deny"),
    ("{host: svc.test, port: 6443}", ["8.8.8.8"], "deny"),
    ("{host: svc.test, port: 80, local: true}", ["127.0.0.1"], "allow"),
    ("{host: svc.test, port: 80, local: true}", ["169.254.169.254"], "deny"),
    ("{port: 80, allowed_ips: [10.0.0.0/8]}", ["10.0.0.5"], "allow"),
    ("{port: 80, allowed_ips: [10.0.0.0/8]}", ["11.0.0.5"], "deny"),
    ("{host: svc.test, port: 80, allowed_ips: ['fc00::/7']}", ["fd12::1"], "allow"),
]


@pytest.mark.parametrize(("endpoint", "resolved", "expected"), ADDRESSES)
def test_every_address_of_a_name_is_judged(endpoint: str, resolved: list[str], expected: str) -> None:
    """Private, translated and documentation addresses need a list; metadata and the like stay closed."""
    port = 6443 if "6443" in endpoint else 80
    host = "a.svc.test" if "*" in endpoint else "svc.test"
    assert ask(one(endpoint), host=host, port=port, resolved_ips=resolved) == expected


def test_an_exact_name_opens_private_addresses_in_the_reference_only() -> None:
    """openshell semantics stay as they are; strict is the stricter one."""
    endpoint = "{host: svc.test, port: 80}"
    assert ask(one(endpoint, "openshell"), host="svc.test", port=80, resolved_ips=["10.0.0.5"]) == "allow"
    assert ask(one(endpoint), host="svc.test", port=80, resolved_ips=["10.0.0.5"]) == "deny"


def test_unknown_addresses_deny_and_literals_lead_to_themselves() -> None:
    """A missing fact fires; an address that resolves to another one is no literal."""
    compiled = one("{host: svc.test, port: 80}")
    action = Action.parse({"kind": "net.connect", "host": "svc.test", "port": 80})
    facts = Facts(executable=Executable(CURL))
    assert verdict(compiled.judge(action, facts)) == "deny"
    literal = one("{host: 10.0.0.9, port: 80}")
    assert ask(literal, host="10.0.0.9", port=80) == "allow"
    assert ask(literal, host="10.0.0.9", port=80, resolved_ips=["10.0.0.8"]) == "deny"
    assert ask(one("{host: 127.0.0.1, port: 80}"), host="0x7f.1", port=80) == "deny"


def test_rest_rules_over_method_path_and_query() -> None:
    """Every value of a named parameter must match; GET takes HEAD along; what is not named is denied."""
    compiled = one(
        REST + "rules: [{allow: {method: GET, path: '/repos/**'}},"
        "{allow: {method: POST, path: '/s', query: {tag: {any: ['a-*', 'b']}, v: '1'}}}]}"
    )
    base = {"host": "api.test", "port": 443}
    assert ask(compiled, method="GET", path="/repos/a/b", **base) == "allow"
    assert ask(compiled, method="HEAD", path="/repos/a", **base) == "allow"
    assert ask(compiled, method="POST", path="/repos/a", **base) == "deny"
    assert ask(compiled, method="GET", path="/repos/../admin", **base) == "deny"
    assert ask(compiled, method="POST", path="/s", query={"tag": ["a-1", "b"], "v": ["1"]}, **base) == "allow"
    assert ask(compiled, method="POST", path="/s", query={"tag": ["a-1", "c"], "v": ["1"]}, **base) == "deny"
    assert ask(compiled, method="POST", path="/s", query={"tag": ["b"]}, **base) == "deny"


@pytest.mark.parametrize(
    ("access", "allowed", "denied"),
    [
        ("read-only", ["GET", "HEAD", "OPTIONS"], ["POST", "DELETE"]),
        ("read-write", ["GET", "POST", "PUT", "PATCH"], ["DELETE"]),
        ("full", ["GET", "DELETE", "PURGE"], []),
    ],
)
def test_access_presets(access: str, allowed: list[str], denied: list[str]) -> None:
    """Presets stand for methods over every path."""
    compiled = one(REST + f"access: {access}}}")
    for methods, expected in ((allowed, "allow"), (denied, "deny")):
        for method in methods:
            assert ask(compiled, host="api.test", port=443, method=method, path="/x/y") == expected


def test_deny_rules_win_and_cover_the_directory_itself_under_strict() -> None:
    """`/admin/**` under strict also means `/admin` and `/admin/`; a parameter is denied by any of its values."""
    text = (
        REST
        + "access: full, deny_rules: [{method: '*', path: '/admin/**'}, {method: GET, path: '/x', query: {f: '1'}}]}"
    )
    strict, reference = one(text), one(text, "openshell")
    base = {"host": "api.test", "port": 443}
    for path, expected in (
        ("/admin/a", "deny"),
        ("/admin", "allow"),
        ("/admin/", "deny"),
        ("/administration", "allow"),
    ):
        assert ask(reference, method="GET", path=path, **base) == expected
    assert ask(strict, method="GET", path="/admin", **base) == "deny"
    assert ask(strict, method="GET", path="/administration", **base) == "allow"
    assert ask(strict, method="GET", path="/x", query={"f": ["0", "1"]}, **base) == "deny"
    assert ask(strict, method="HEAD", path="/x", query={"f": ["1"]}, **base) == "deny"
    assert ask(strict, method="GET", path="/x", query={"g": ["1"]}, **base) == "allow"


def test_deny_rules_hold_across_entries_and_programs_under_strict() -> None:
    """A deny rule written for one program binds the others too."""
    text = """
a: {endpoints: [{host: api.test, port: 443, protocol: rest, access: full, enforcement: enforce}], binaries: [{path: /usr/bin/curl}]}
b:
  endpoints: [{host: api.test, port: 443, protocol: rest, access: full, enforcement: enforce, deny_rules: [{method: DELETE, path: "**"}]}]
  binaries: [{path: /usr/bin/git}]
"""
    wire = {"host": "api.test", "port": 443, "method": "DELETE", "path": "/x"}
    assert ask(section(text, "openshell"), **wire) == "allow"
    assert ask(section(text), **wire) == "deny"
    assert ask(section(text), **{**wire, "method": "GET"}) == "allow"


def test_one_entry_must_satisfy_program_and_request_together() -> None:
    """Program from one policy and request from another add up to nothing."""
    text = """
a: {endpoints: [{host: api.test, port: 443, protocol: rest, access: read-only, enforcement: enforce}], binaries: [{path: /usr/bin/curl}]}
b: {endpoints: [{host: api.test, port: 443, protocol: rest, access: full, enforcement: enforce}], binaries: [{path: /usr/bin/git}]}
"""
    for semantics in ("strict", "openshell"):
        assert ask(section(text, semantics), host="api.test", port=443, method="POST", path="/x") == "deny"
        assert ask(section(text, semantics), host="api.test", port=443, method="GET", path="/x") == "allow"


def test_missing_enforcement_is_enforced_under_strict_and_audited_in_the_reference() -> None:
    """The reference forwards the violation; `enforcement: audit` does so under both and is recorded."""
    absent = "{host: api.test, port: 443, protocol: rest, access: read-only}"
    audit = "{host: api.test, port: 443, protocol: rest, access: read-only, enforcement: audit}"
    wire = {"host": "api.test", "port": 443, "method": "DELETE", "path": "/x"}
    assert ask(one(absent), **wire) == "deny"
    assert ask(one(absent, "openshell"), **wire) == "audit"
    assert ask(one(audit), **wire) == "audit"
    assert ask(one(audit), **{**wire, "method": "GET"}) == "allow"


def test_opaque_entries_do_not_open_tunnels_beside_inspected_ones() -> None:
    """Under strict, `tls: skip` beside an inspected entry needs a stated reason."""
    text = """
a: {endpoints: [{host: api.test, port: 443, protocol: rest, access: read-only}], binaries: [{path: /usr/bin/git}]}
b: {endpoints: [{host: api.test, port: 443, tls: skip%s}], binaries: [{path: /usr/bin/curl}]}
"""
    assert ask(section(text % ""), host="api.test", port=443) == "deny"
    assert ask(section(text % ", uninspected: pinned client certificate"), host="api.test", port=443) == "allow"
    assert ask(one("{host: api.test, port: 443, tls: skip}"), host="api.test", port=443) == "allow"


def test_paths_scope_entries_and_encoded_slashes_need_leave() -> None:
    """A request outside every scope is denied; `%2F` passes only where the entry takes it."""
    compiled = one(REST + "path: '/repos/**', access: full}")
    assert ask(compiled, host="api.test", port=443, method="GET", path="/repos/x") == "allow"
    assert ask(compiled, host="api.test", port=443, method="GET", path="/other") == "deny"
    assert ask(compiled, host="api.test", port=443, method="GET", path="/repos/a%2fb") == "deny"
    taking = one(REST + "access: full, allow_encoded_slash: true}")
    assert ask(taking, host="api.test", port=443, method="GET", path="/repos/a%2fb") == "allow"


GRAPHQL = """p:
  endpoints:
    - {host: g.test, port: 443, protocol: graphql, enforcement: enforce, persisted_queries: allow_registered,
       graphql_persisted_queries: {h1: {operation_type: query, fields: [viewer]}},
       rules: [{allow: {operation_type: query, fields: [viewer, 'repo*']}}, {allow: {operation_type: mutation, operation_name: 'Issue*'}}],
       deny_rules: [{operation_type: mutation, fields: [deleteRepo]}]}
  binaries: [{path: /usr/bin/curl}]
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"query": "{ viewer }"}', "allow"),
        ('{"query": "{ viewer admin }"}', "deny"),
        ('{"query": "{ viewer: admin }"}', "deny"),
        ('{"query": "mutation IssueX { createIssue }"}', "allow"),
        ('{"query": "mutation IssueX { x: deleteRepo createIssue }"}', "deny"),
        ('{"query": "mutation Other { createIssue }"}', "deny"),
        ('[{"query": "{ viewer }"}, {"query": "mutation Other { x }"}]', "deny"),
        ('{"query": "{ viewer"}', "deny"),
        ('{"extensions": {"persistedQuery": {"sha256Hash": "h1"}}}', "allow"),
        ('{"extensions": {"persistedQuery": {"sha256Hash": "h2"}}}', "deny"),
        ('{"query": "query A { viewer } mutation IssueB { y }"}', "deny"),
        ('{"query": "{ ...F } fragment F on Query { admin }"}', "deny"),
        ("", "deny"),
    ],
)
def test_graphql_operations_are_judged_by_their_real_fields(body: str, expected: str) -> None:
    """Aliases, fragments, batches and persisted hashes do not hide what an operation does."""
    for semantics in ("strict", "openshell"):
        wire = {"host": "g.test", "port": 443, "method": "POST", "path": "/graphql", "body": body}
        assert ask(section(GRAPHQL, semantics), **wire) == expected


MCP = """p:
  endpoints:
    - {host: m.test, port: 443, path: /mcp, protocol: mcp, enforcement: enforce,
       rules: [{allow: {method: initialize}}, {allow: {method: tools/call, tool: {any: [read_*, search]}%s}}],
       deny_rules: [{method: tools/call, tool: read_secret}]}
  binaries: [{path: /usr/bin/curl}]
"""


def _call(tool: str, **arguments: object) -> str:
    import json

    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    return json.dumps(message)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (_call("read_file"), "allow"),
        (_call("search"), "allow"),
        (_call("read_secret"), "deny"),
        (_call("delete"), "deny"),
        (_call("read file"), "deny"),
        ('{"jsonrpc": "2.0", "id": 1, "method": "initialize"}', "allow"),
        ('{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}', "deny"),
        ('{"jsonrpc": "2.0", "id": 1, "result": {}}', "allow"),
        (f"[{_call('search')}, {_call('delete')}]", "deny"),
        (f"[{_call('search')}, {_call('read_x')}]", "allow"),
        ("[]", "deny"),
        ("{", "deny"),
        ('{"jsonrpc": "2.0", "method": "initialize", "method": "tools/list"}', "deny"),
    ],
)
def test_mcp_tools_are_judged_by_name_in_every_message(body: str, expected: str) -> None:
    """One denied message of a batch denies it; what cannot be read one way is denied."""
    wire = {"host": "m.test", "port": 443, "method": "POST", "path": "/mcp", "body": body}
    assert ask(section(MCP % ""), **wire) == expected
    assert ask(section(MCP % "", "openshell"), **wire) == expected


def test_mcp_arguments_are_matched_under_strict() -> None:
    """An argument named by a rule must be there and match in every reading; dots in keys do not smuggle a value."""
    compiled = section(MCP % ", params: {arguments: {path: 'inbox/**', limit: '10'}}")
    base = {"host": "m.test", "port": 443, "method": "POST", "path": "/mcp"}
    assert ask(compiled, body=_call("read_x", path="inbox/a.txt", limit=10), **base) == "allow"
    assert ask(compiled, body=_call("read_x", path="/etc/passwd", limit=10), **base) == "deny"
    assert ask(compiled, body=_call("read_x", path="inbox/a"), **base) == "deny"
    assert ask(compiled, body=_call("read_x", path={"a": 1}, limit=10), **base) == "deny"
    smuggled = (
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read_x", "arguments.path": "inbox/a", '
        '"arguments": {"path": "/etc", "limit": 10}}}'
    )
    assert ask(compiled, body=smuggled, **base) == "deny"


def test_mcp_receive_streams_and_plain_gets() -> None:
    """An empty GET that accepts an event stream opens it; another GET has nothing to say there."""
    compiled = section(MCP % "")
    base = {"host": "m.test", "port": 443, "method": "GET", "path": "/mcp"}
    assert ask(compiled, headers={"Accept": "application/json, text/event-stream"}, **base) == "allow"
    assert ask(compiled, **base) == "deny"


def test_values_with_dots_match_globs_under_strict_only() -> None:
    """The reference takes `.` as a delimiter in values, so `prod*` misses `prod.eu` there."""
    text = REST + "rules: [{allow: {method: GET, path: '/d', query: {env: 'prod*'}}}]}"
    wire = {"host": "api.test", "port": 443, "method": "GET", "path": "/d", "query": {"env": ["prod.eu"]}}
    assert ask(one(text), **wire) == "allow"
    assert ask(one(text, "openshell"), **wire) == "deny"


def test_broken_globs_deny_and_never_allow() -> None:
    """A pattern that cannot be read restricts as if it matched and grants nothing."""
    allow = one(REST + "rules: [{allow: {method: GET, path: '/[a'}}]}")
    deny = one(REST + "access: full, deny_rules: [{method: GET, path: '/[a'}]}")
    for compiled in (allow, deny):
        assert ask(compiled, host="api.test", port=443, method="GET", path="/zzz") == "deny"


def test_connections_carry_how_they_are_to_be_inspected() -> None:
    """An allowed connection to an inspected entry obliges its carrier to scan."""
    compiled = one(REST + "access: read-only}")
    action = Action.parse({"kind": "net.connect", "host": "api.test", "port": 443, "binary": CURL})
    (match,) = compiled.judge(action, Facts.defaults().with_stated(action.stated))
    assert [item.kind for item in match.obligations] == ["scan"]
    assert match.obligations[0].params["protocol"] == "rest"
    assert compiled.inspections("api.test", 443)[0]["requests"] is True
    assert compiled.resolvable("api.test")
    assert not compiled.resolvable("other.test")


def test_reasons_do_not_repeat_secrets_of_a_path() -> None:
    """Long or token-like path segments are left out of reasons."""
    compiled = one(REST + "rules: [{allow: {method: GET, path: /a}}]}")
    wire = {
        "kind": "net.request",
        "host": "api.test",
        "port": 443,
        "method": "POST",
        "binary": CURL,
        "path": "/bot123456789:AAF-secret/send",
    }
    action = Action.parse(wire)
    reason, _ = compiled.missing(action, Facts.defaults().with_stated(action.stated))
    assert "secret" not in reason
    assert "/send" in reason
