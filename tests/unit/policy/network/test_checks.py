"""Findings of the network sections: errors, conflicts and warnings, by path."""

from __future__ import annotations

import pytest
import yaml

from agent_os.core.errors import PolicyError
from agent_os.policy import Policy
from agent_os.policy.network import check_network
from agent_os.policy.schema import PolicyFile


def found(text: str, semantics: str = "openshell") -> list[str]:
    """Return `severity path message` of every finding."""
    file = PolicyFile.model_validate(yaml.safe_load(text))
    findings = check_network(file.network_policies, file.network_middlewares, semantics=semantics)
    return [f"{item.severity} {item.path} {item.message}" for item in findings]


def endpoint(flow: str) -> str:
    """Return a policy of one endpoint."""
    return f"network_policies: {{p: {{endpoints: [{flow}], binaries: [{{path: /usr/bin/curl}}]}}}}"


ERRORS = [
    ("{host: '*', port: 443}", "matches all hosts"),
    ("{host: '**', port: 443}", "matches all hosts"),
    ("{host: '*.com', port: 443}", "TLD wildcard"),
    ("{host: '*com', port: 443}", "TLD wildcard"),
    ("{host: 'a**.example.com', port: 443}", "recursive host wildcard"),
    ("{host: '*.s3.us-*.example.com', port: 443}", "middle DNS label"),
    ("{host: a.test}", "needs a port"),
    ("{port: 443}", "needs a host"),
    ("{host: a.test, port: 443, ports: [443]}", "mutually exclusive"),
    ("{host: a.test, ports: [0]}", "port 0"),
    ("{host: a.test, port: 443, protocol: ftp}", "unknown protocol"),
    ("{host: a.test, port: 443, protocol: rest}", "requires rules or access"),
    ("{host: a.test, port: 443, protocol: rest, access: full, rules: []}", "rules list cannot be empty"),
    ("{host: a.test, port: 443, protocol: rest, access: full, deny_rules: []}", "deny_rules list cannot be empty"),
    ("{host: a.test, port: 443, protocol: rest, access: full, rules: [{allow: {method: GET, path: /}}]}", "exclusive"),
    ("{host: a.test, port: 443, protocol: rest, rules: [{allow: {}}]}", "would deny all traffic"),
    ("{host: a.test, port: 443, deny_rules: [{method: GET, path: /}]}", "deny_rules require protocol"),
    ("{host: a.test, port: 443, protocol: rest, path: x, access: full}", "must start with '/'"),
    ("{host: a.test, port: 443, protocol: rest, access: full, deny_rules: [{tool: x}]}", "only valid for protocol mcp"),
    ("{host: a.test, port: 443, protocol: json-rpc, access: full}", "does not support access presets"),
    ("{host: a.test, port: 443, protocol: json-rpc, rules: [{allow: {path: /x}}]}", "not path/query"),
    ("{host: a.test, port: 443, protocol: json-rpc, rules: [{allow: {method: 'a.*'}}]}", "do not support glob"),
    ("{host: a.test, port: 443, protocol: mcp}", "requires rules"),
    ("{host: a.test, port: 443, protocol: mcp, rules: [{allow: {tool: x}}]}", "required when"),
    ("{host: a.test, port: 443, protocol: mcp, rules: [{allow: {method: 'x/*'}}]}", "tools/ method family"),
    ("{host: a.test, port: 443, protocol: mcp, rules: [{allow: {method: initialize, tool: x}}]}", "must be tools/call"),
    ("{protocol: mcp, rules: [{allow: {method: initialize}}]}", "protocol mcp requires host"),
    ("{host: a.test, port: 443, protocol: graphql, rules: [{allow: {fields: [x]}}]}", "operation_type"),
    ("{host: a.test, port: 443, protocol: graphql, rules: [{allow: {operation_type: x}}]}", "expected query, mutation"),
    ("{host: a.test, port: 443, protocol: sql, enforcement: enforce, access: full}", "SQL enforcement"),
    ("{host: a.test, port: 443, protocol: tcp, access: full}", "protocol tcp does not support"),
    ("{host: 10.0.0.1, port: 443, protocol: tcp}", "requires a name"),
    ("{host: a.test., port: 443, protocol: tcp}", "well-formed"),
    ("{host: a.test, port: 443, protocol: tcp, credential_binding: {provider: x}}", "credential_binding"),
    ("{host: a.test, port: 443, credential_signing: x, signing_service: s}", "unrecognized"),
    ("{host: a.test, port: 443, credential_signing: sigv4}", "signing_service"),
    ("{host: '*.a.test', port: 443, local: true}", "local needs an exact host"),
    (
        "{host: a.test, port: 443, protocol: rest, access: full, credential_signing: sigv4, signing_service: s, "
        "request_body_credential_rewrite: true}",
        "mutually exclusive",
    ),
]


@pytest.mark.parametrize(("flow", "words"), ERRORS)
def test_endpoints_that_mean_nothing_or_too_much_are_errors(flow: str, words: str) -> None:
    """Each is refused under both semantics, with a path, and loading the file fails."""
    for semantics in ("openshell", "strict"):
        errors = [item for item in found(endpoint(flow), semantics) if item.startswith("error")]
        assert any(words in item for item in errors), errors
        assert all("network_policies.p.endpoints[0]" in item for item in errors)
        with pytest.raises(PolicyError):
            Policy.parse(endpoint(flow), semantics=semantics)


GOOD = [
    "{host: a.test, port: 443}",
    "{host: '*.example.com', ports: [443, 8443], protocol: rest, access: read-only, enforcement: enforce}",
    "{host: '**.example.com', port: 443}",
    "{host: '*.s3.*.amazonaws.com', port: 443}",
    "{host: '*-api.example.com', port: 443}",
    "{port: 443, allowed_ips: [10.1.0.0/16]}",
    "{host: a.test, port: 443, protocol: json-rpc, enforcement: enforce, rules: [{allow: {method: '*'}}]}",
    "{host: a.test, port: 443, protocol: mcp, enforcement: enforce, mcp: {allow_all_known_mcp_methods: true}}",
    "{host: a.test, port: 443, protocol: mcp, enforcement: enforce, mcp: {allow_all_known_mcp_methods: true}, "
    "rules: [{allow: {tool: x}}]}",
    "{host: db.example.com, port: 5432, protocol: tcp}",
]


@pytest.mark.parametrize("flow", GOOD)
def test_ordinary_endpoints_have_no_findings(flow: str) -> None:
    """What a careful author writes passes without a word, under both semantics."""
    assert found(endpoint(flow)) == []
    assert found(endpoint(flow), "strict") == []
    Policy.parse(endpoint(flow))


WARNINGS = [
    ("{host: a.test, port: 443, protocol: rest, access: full, tls: terminate}", "deprecated"),
    ("{host: a.test, port: 443, protocol: rest, access: full, tls: skip}", "tls: skip"),
    ("{host: a.test, port: 443, protocol: rest, rules: [{allow: {method: FETCH, path: /}}]}", "unknown HTTP"),
    ("{host: a.test, port: 443, protocol: rest, rules: [{allow: {method: GET, path: '/[a'}}]}", "unclosed '['"),
    ("{host: a.test, port: 443, protocol: rest, access: full, graphql_max_body_bytes: 10}", "GraphQL-specific"),
    ("{host: a.test, port: 443, websocket_credential_rewrite: true}", "websocket_credential_rewrite is ignored"),
    ("{host: a.test, port: 443, allowed_ips: [10.0.0.0/8]}", "very broad"),
]


@pytest.mark.parametrize(("flow", "words"), WARNINGS)
def test_doubtful_endpoints_are_warned_about(flow: str, words: str) -> None:
    """A warning does not refuse the file."""
    items = found(endpoint(flow))
    assert any(item.startswith("warning") and words in item for item in items), items
    assert not any(item.startswith("error") for item in items)
    Policy.parse(endpoint(flow), semantics="openshell")


CONFLICTS = [
    ("host: a.test, port: 443, tls: skip", "host: a.test, port: 443", True),
    ("host: '*.a.test', port: 443, tls: skip", "host: x.a.test, port: 443", True),
    ("host: a.test, port: 443, tls: skip", "host: a.test, port: 8443", False),
    (
        "host: a.test, port: 443, allowed_ips: [10.0.1.0/24]",
        "host: a.test, port: 443, allowed_ips: [10.0.2.0/24]",
        True,
    ),
    (
        "host: a.test, port: 443, allowed_ips: [10.0.1.0/24, 10.0.2.0/24]",
        "host: a.test, port: 443, allowed_ips: [10.0.2.0/24, 10.0.1.0/24]",
        False,
    ),
    (
        "host: a.test, port: 443, path: '/v?', protocol: rest, access: full",
        "host: a.test, port: 443, path: /v1, protocol: graphql, access: full",
        True,
    ),
    (
        "host: a.test, port: 443, path: /graphql, protocol: graphql, access: full",
        "host: a.test, port: 443, path: '/repos/**', protocol: rest, access: full",
        False,
    ),
    (
        "host: a.test, port: 443, protocol: rest, access: full",
        "host: a.test, port: 443, protocol: rest, access: read-only",
        False,
    ),
    (
        "host: a.test, port: 443, credential_binding: {provider: a}",
        "host: a.test, port: 443, credential_binding: {provider: b}",
        True,
    ),
]


@pytest.mark.parametrize(("left", "right", "expected"), CONFLICTS)
def test_endpoints_that_disagree_about_one_connection_conflict(left: str, right: str, expected: bool) -> None:
    """What needs one value must agree wherever both can apply; under strict it is a warning."""
    text = (
        f"network_policies: {{l: {{endpoints: [{{{left}}}], binaries: [{{path: /a}}]}}, "
        f"r: {{endpoints: [{{{right}}}], binaries: [{{path: /b}}]}}}}"
    )
    conflicts = [item for item in found(text) if item.startswith("conflict")]
    assert bool(conflicts) is expected, conflicts
    assert not [item for item in found(text, "strict") if item.startswith(("conflict", "error"))]


MIDDLEWARES = [
    ("{a: {middleware: openshell/regex}}", "selector is required"),
    ("{a: {middleware: openshell/regex, endpoints: {include: []}}}", "selector is required"),
    ("{a: {middleware: '', endpoints: {include: [a.test]}}}", "must not be empty"),
    ("{a: {middleware: openshell/other, endpoints: {include: [a.test]}}}", "unknown built-in"),
    ("{a: {middleware: openshell/regex, config: {mode: allow}, endpoints: {include: [a.test]}}}", "mode: redact"),
    ("{a: {middleware: openshell/regex, endpoints: {include: ['a[.test']}}}", "invalid host pattern"),
    (
        "{a: {middleware: openshell/regex, endpoints: {include: [a.test]}}, "
        "b: {middleware: openshell/regex, endpoints: {include: [b.test]}}}",
        "duplicate order",
    ),
]


@pytest.mark.parametrize(("flow", "words"), MIDDLEWARES)
def test_malformed_middlewares_are_errors(flow: str, words: str) -> None:
    """A middleware without hosts, with a doubled order or unknown options would not do what it says."""
    assert any(item.startswith("error") and words in item for item in found(f"network_middlewares: {flow}"))


def test_middlewares_cannot_select_what_is_never_opened() -> None:
    """`tls: skip` and an inspecting middleware contradict each other, unless it may fail open or excludes the host."""
    text = """
network_middlewares: {m: {middleware: openshell/regex, %sendpoints: {include: ["*.a.test"]%s}}}
network_policies: {p: {endpoints: [{host: x.a.test, port: 443, tls: skip}], binaries: [{path: /a}]}}
"""
    assert any("tls: skip" in item for item in found(text % ("", "")))
    assert not any("selects" in item for item in found(text % ("on_error: fail_open, ", "")))
    assert not any("selects" in item for item in found(text % ("", ", exclude: [x.a.test]")))


def test_a_thousand_distinct_endpoints_are_checked_quickly() -> None:
    """The search for conflicts does not compare every pair of names (it would take minutes)."""
    entries = ", ".join(f"{{host: h{i}.example.com, port: 443}}" for i in range(1500))
    wild = ", ".join(f"{{host: '*.w{i}.example.com', port: 443}}" for i in range(300))
    text = f"network_policies: {{p: {{endpoints: [{entries}, {wild}], binaries: [{{path: /a}}]}}}}"
    assert found(text) == []
