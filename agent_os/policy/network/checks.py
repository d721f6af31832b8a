"""What is wrong or worth knowing in the network sections of a file. Pure: findings by path, never exceptions.

Severities: `error` (the file is refused), `conflict` (two endpoints disagree about one connection; the reference
refuses to activate such a file, so `policy check` does too, while single decisions can still be asked for) and
`warning`. Under strict semantics endpoints cannot conflict (every entry must satisfy a request by itself and the
strictest inspection holds), so these become warnings. Paths are those of rule ids (`network_policies.x.endpoints[0]`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.canonical.addresses import is_metadata_host, parse_ip
from agent_os.core.errors import ActionError
from agent_os.policy.network.addresses import AllowedIps
from agent_os.policy.network.conflicts import conflicts
from agent_os.policy.network.globs import GlobError, syntax_problem
from agent_os.policy.network.hosts import HostSelector, host_pattern
from agent_os.policy.network.rulechecks import check_rules
from agent_os.policy.schema.network import Endpoint, NetworkMiddleware, NetworkPolicy

PROTOCOLS: Final = ("tcp", "rest", "websocket", "graphql", "sql", "json-rpc", "mcp")
SIGNINGS: Final = ("sigv4", "sigv4:body", "sigv4:no_body")
PRESETS: Final = ("read-only", "read-write", "full")
BROAD_PREFIX: Final = 16
"""CIDRs of fewer bits than this are worth a warning."""
MAX_MIDDLEWARES: Final = 10
MAX_SELECTOR_PATTERNS: Final = 32


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding about a file: severity, the path it is about, what is wrong, how to mend it, and an id."""

    severity: str
    path: str
    message: str
    hint: str = ""
    code: str = "network-invalid"


def check_network(
    policies: Mapping[str, NetworkPolicy] | None,
    middlewares: Mapping[str, NetworkMiddleware] | None = None,
    *,
    semantics: str = "strict",
) -> list[Finding]:
    """Return every finding about the network sections, errors first, each kind in file order."""
    strict = semantics != "openshell"
    found: list[Finding] = []
    for name, policy in (policies or {}).items():
        place = f"network_policies.{name}"
        for number, endpoint in enumerate(policy.endpoints):
            found += _endpoint(f"{place}.endpoints[{number}]", endpoint, strict)
        found += _programs(place, policy, strict)
    found += [
        Finding("warning" if strict else "conflict", *conflict, code="network-conflict")
        for conflict in conflicts(policies or {})
    ]
    found += _middlewares(middlewares or {}, policies or {})
    order = {"error": 0, "conflict": 1, "warning": 2}
    return sorted(found, key=lambda finding: order[finding.severity])


def _endpoint(place: str, endpoint: Endpoint, strict: bool) -> Iterator[Finding]:
    def error(message: str, key: str = "", hint: str = "") -> Finding:
        return Finding("error", f"{place}{key}", message, hint)

    def warning(message: str, key: str = "", hint: str = "", code: str = "network-unused") -> Finding:
        return Finding("warning", f"{place}{key}", message, hint, code)

    protocol = endpoint.protocol.lower()
    if protocol and protocol not in PROTOCOLS:
        yield error(f"unknown protocol '{endpoint.protocol}'", ".protocol", canonical.nearest(protocol, PROTOCOLS))
    inspected = protocol in PROTOCOLS[1:]
    yield from _target(endpoint, protocol, strict, error, warning)
    if endpoint.path:
        if not endpoint.path.startswith("/") and endpoint.path != "**":
            yield error("endpoint path must start with '/' or be '**'", ".path")
        if problem := syntax_problem(endpoint.path):
            yield warning(problem, ".path", code="network-glob")
    if endpoint.access and endpoint.access not in PRESETS:
        make = error if strict else warning
        yield make(f"unsupported access preset '{endpoint.access}'", ".access", "one of " + ", ".join(PRESETS))
    if protocol == "tcp":
        yield from _tcp(endpoint, error)
    yield from _options(endpoint, protocol, strict, error, warning)
    yield from _credentials(endpoint, protocol, error, warning)
    for rule_error in check_rules(endpoint, protocol, inspected, strict):
        yield Finding(rule_error[0], f"{place}{rule_error[1]}", rule_error[2], rule_error[3])


def _target(endpoint: Endpoint, protocol: str, strict: bool, error: Any, warning: Any) -> Iterator[Finding]:
    host = endpoint.host
    if endpoint.port and endpoint.ports:
        yield error("port and ports are mutually exclusive", ".ports", "use ports for several")
    if 0 in endpoint.ports:
        yield error("port 0 cannot be reached", ".ports")
    if protocol == "mcp":
        if not host.strip():
            yield error("protocol mcp requires host; the protocol alone is no endpoint", ".host")
        if not endpoint.all_ports:
            yield error("protocol mcp requires port or ports; the protocol alone is no endpoint", ".port")
    elif not endpoint.all_ports:
        yield error("endpoint needs a port", ".port", "port: 443")
    if not host and not endpoint.allowed_ips:
        yield error("endpoint needs a host, or allowed_ips", ".host")
    if "/" in host:
        alone = host.partition("://")[2] or host
        yield error("is a URL or has a path: the host stands alone", ".host", f"host: {alone.partition('/')[0]}")
    elif host.count(":") == 1 and host.partition(":")[2].isdecimal():
        name, _, port = host.partition(":")
        yield error("holds a port: the host stands alone", ".host", f"host: {name}, port: {port}")
    elif "*" in host:
        if problem := wildcard_problem(host):
            yield error(problem, ".host", "use patterns like '*.example.com'")
    elif host:
        yield from _name(endpoint, strict, error, warning)
    if is_metadata_host(host):
        yield warning("names a cloud metadata service, which stays closed", ".host", code="network-metadata")
    listed = AllowedIps(endpoint.allowed_ips)
    if listed.problem:
        # The reference finds this out when it connects, and denies then; a file in strict semantics is refused.
        yield (error if strict else warning)(f"allowed_ips: {listed.problem}", ".allowed_ips")
    for text in endpoint.allowed_ips:
        if "/" in text and (meant := _network_of(text)) and meant != text.strip():
            message = f"allowed_ips: {text} has bits below its mask, so it is all of {meant}"
            yield warning(message, ".allowed_ips", f"write {meant}, or the one address", "network-host-bits")
    for network in listed.networks:
        if network.prefixlen < BROAD_PREFIX:
            yield warning(f"allowed_ips: {network} is very broad", ".allowed_ips", code="network-broad")
    if endpoint.local and (not host or "*" in host):
        yield error("local needs an exact host", ".local")


def _network_of(text: str) -> str:
    """Return the network that a CIDR with bits below its mask stands for, an empty text for what is none."""
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        return ""


def _name(endpoint: Endpoint, strict: bool, error: Any, warning: Any) -> Iterator[Finding]:
    host = endpoint.host
    try:
        name = canonical.host(host)
    except ActionError as problem:
        if strict or endpoint.protocol.lower() == "tcp":
            yield error(f"host {problem}".replace("host: ", ""), ".host")
        else:
            yield warning("host can never match: it is no canonical name", ".host", code="network-never")
        return
    if name != host.lower():
        make = error if strict and parse_ip(host) is None else warning
        yield make(f"host is spelt in a way that never matches; write '{name}'", ".host", f"host: {name}")


def wildcard_problem(host: str) -> str:
    """Return why a host wildcard is refused, or an empty text: too wide, or of a shape that does not match."""
    if host in ("*", "**"):
        return f"host wildcard '{host}' matches all hosts"
    labels = host.split(".")
    if "**" in labels[0] and labels[0] != "**":
        return "recursive host wildcard '**' is only allowed as the entire first DNS label"
    for label in labels[1:]:
        if "**" in label or ("*" in label and label != "*"):
            return "middle DNS label wildcard must be the entire label '*'"
    if len(labels) <= 2:
        return f"TLD wildcard '{host}' is not allowed"
    if not all(labels):
        return "host wildcard has an empty DNS label"
    return ""


def _tcp(endpoint: Endpoint, error: Any) -> Iterator[Finding]:
    if endpoint.access or endpoint.rules is not None or endpoint.deny_rules is not None:
        yield error("protocol tcp does not support access, rules, or deny_rules", ".protocol")
    if not endpoint.host:
        yield error("protocol tcp requires host", ".host")
    elif parse_ip(endpoint.host.strip("[]")) is not None:
        yield error("protocol tcp requires a name, not an address", ".host", "leave protocol out")
    elif endpoint.host.endswith(".") or ".." in endpoint.host or endpoint.host.startswith("."):
        yield error("protocol tcp requires a well-formed host name", ".host")
    fields = [
        name
        for name in (
            "path", "enforcement", "tls", "allow_encoded_slash", "websocket_credential_rewrite",
            "request_body_credential_rewrite", "allow_uninspected_credentials", "persisted_queries",
            "graphql_persisted_queries", "graphql_max_body_bytes", "json_rpc", "mcp", "credential_signing",
            "signing_service", "signing_region", "credential_binding", "upstream_tls", "content",
        )
        if getattr(endpoint, name)
    ]  # fmt: skip
    if fields:
        yield error(f"protocol tcp does not support L7-only fields: {', '.join(fields)}", f".{fields[0]}")


def _options(endpoint: Endpoint, protocol: str, strict: bool, error: Any, warning: Any) -> Iterator[Finding]:
    rpc = protocol in ("json-rpc", "mcp")
    given = endpoint.model_fields_set
    if protocol not in ("graphql", "websocket") and given & {
        "persisted_queries", "graphql_persisted_queries", "graphql_max_body_bytes",
    }:  # fmt: skip
        yield warning("GraphQL-specific endpoint fields are ignored unless protocol is graphql or websocket")
    if endpoint.json_rpc is not None and not rpc:
        yield warning("json_rpc is ignored unless protocol is json-rpc or mcp", ".json_rpc")
    if endpoint.mcp is not None and protocol != "mcp":
        for key in ("strict_tool_names", "allow_all_known_mcp_methods"):
            if getattr(endpoint.mcp, key) is not None:
                yield error(f"mcp.{key} is only valid for protocol mcp", f".mcp.{key}")
        if endpoint.mcp.max_body_bytes and not rpc:
            yield warning("mcp is ignored unless protocol is mcp", ".mcp")
    if (endpoint.rules or endpoint.access) and not protocol:
        key = "rules" if endpoint.rules else "access"
        held = "held as `protocol: rest` here; OpenShell does not read them and passes every request"
        passed = "not read: every request passes"
        message = f"{key} without a protocol: {held if strict else passed}"
        yield warning(message, f".{key}", "protocol: rest", "semantics-protocol")
    if endpoint.tls in ("terminate", "passthrough"):
        yield warning(
            f"'tls: {endpoint.tls}' is deprecated; TLS is opened where inspection needs it", ".tls", "remove it",
            "network-deprecated",
        )  # fmt: skip
    if endpoint.tls == "skip" and endpoint.protocol and 443 in endpoint.all_ports:
        yield warning("'tls: skip' with L7 rules on port 443: encrypted traffic cannot be inspected", ".tls")
    if protocol == "sql" and (endpoint.enforcement == "enforce" or (strict and not endpoint.enforcement)):
        hint = "use 'enforcement: audit', or a tool that reads SQL"
        yield error("SQL enforcement requires full SQL parsing, which the network does not do", ".protocol", hint)
    if strict and endpoint.protocol and protocol != "tcp" and not endpoint.enforcement:
        yield warning(
            "enforcement is absent: enforced here, only audited by OpenShell", "", "enforcement: enforce (or audit)",
            "semantics-enforcement",
        )  # fmt: skip


def _credentials(endpoint: Endpoint, protocol: str, error: Any, warning: Any) -> Iterator[Finding]:
    if endpoint.websocket_credential_rewrite and protocol not in ("rest", "websocket"):
        message = "websocket_credential_rewrite is ignored unless protocol is rest or websocket"
        yield warning(message, ".websocket_credential_rewrite")
    if endpoint.request_body_credential_rewrite and protocol != "rest":
        message = "request_body_credential_rewrite is ignored unless protocol is rest"
        yield warning(message, ".request_body_credential_rewrite")
    if endpoint.credential_signing:
        if endpoint.credential_signing not in SIGNINGS:
            hint = canonical.nearest(endpoint.credential_signing, SIGNINGS)
            yield error("unrecognized credential_signing", ".credential_signing", hint)
        if not endpoint.signing_service:
            yield error("credential_signing needs signing_service", ".signing_service")
        if endpoint.request_body_credential_rewrite:
            yield error("credential_signing and request_body_credential_rewrite are mutually exclusive")


def _programs(place: str, policy: NetworkPolicy, strict: bool) -> Iterator[Finding]:
    if policy.binaries is None:
        what = "any program in the sandbox" if strict else "no program"
        message = f"names no binaries: {what} may use these endpoints" + (" (in OpenShell none)" if strict else "")
        yield Finding(
            "warning",
            place,
            message,
            "binaries: [{path: /usr/bin/curl}]",
            "semantics-binaries" if strict else "network-never",
        )
    for number, binary in enumerate(policy.binaries or ()):
        here = f"{place}.binaries[{number}].path"
        if not binary.path.startswith("/") and binary.path != "**":
            yield Finding("warning", here, "is no absolute path, so it never matches", "", "network-never")
        if problem := syntax_problem(binary.path):
            yield Finding("warning", here, problem, "", "network-glob")


def _middlewares(
    middlewares: Mapping[str, NetworkMiddleware], policies: Mapping[str, NetworkPolicy]
) -> Iterator[Finding]:
    orders: dict[int, str] = {}
    if len(middlewares) > MAX_MIDDLEWARES:
        yield Finding("error", "network_middlewares", f"more than {MAX_MIDDLEWARES} middlewares")
    for name in sorted(middlewares):
        item = middlewares[name]
        place = f"network_middlewares.{name}"
        if not name:
            yield Finding("error", place, "name must not be empty")
        if item.order in orders:
            yield Finding("error", f"{place}.order", f"duplicate order {item.order}, also of '{orders[item.order]}'")
        orders.setdefault(item.order, name)
        if not item.middleware:
            yield Finding("error", f"{place}.middleware", "middleware must not be empty")
        yield from _builtin(place, item)
        if item.endpoints is None or not item.endpoints.include:
            yield Finding("error", f"{place}.endpoints", "endpoint selector is required: include at least one host")
            continue
        patterns = [*item.endpoints.include, *item.endpoints.exclude]
        if len(patterns) > MAX_SELECTOR_PATTERNS:
            yield Finding("error", f"{place}.endpoints", f"more than {MAX_SELECTOR_PATTERNS} selector patterns")
            continue
        broken = [pattern for pattern in patterns if _pattern_problem(pattern)]
        if broken:
            yield Finding("error", f"{place}.endpoints", f"invalid host pattern: {_pattern_problem(broken[0])}")
            continue
        if item.on_error != "fail_open":
            yield from _skipped(place, HostSelector(item.endpoints.include, item.endpoints.exclude), policies)


def _builtin(place: str, item: NetworkMiddleware) -> Iterator[Finding]:
    if not item.middleware.startswith(("openshell/", "agentos/")):
        return
    if item.middleware != "openshell/regex":
        yield Finding("error", f"{place}.middleware", f"unknown built-in middleware '{item.middleware}'")
        return
    if item.config.get("mode", "redact") != "redact":
        yield Finding("error", f"{place}.config.mode", "openshell/regex supports only mode: redact")
    unknown = sorted(set(item.config) - {"mode"})
    if unknown:
        yield Finding("error", f"{place}.config.{unknown[0]}", "openshell/regex has no such option", "mode: redact")


def _skipped(place: str, selector: HostSelector, policies: Mapping[str, NetworkPolicy]) -> Iterator[Finding]:
    for name, policy in policies.items():
        for number, endpoint in enumerate(policy.endpoints):
            if endpoint.tls != "skip" or _pattern_problem(endpoint.host):
                continue
            if selector.may_match(host_pattern(endpoint.host)):
                where = f"network_policies.{name}.endpoints[{number}]"
                yield Finding("error", place, f"selects {where}, whose traffic is never opened (tls: skip)")


def _pattern_problem(pattern: str) -> str:
    try:
        host_pattern(pattern)
    except GlobError as problem:
        return str(problem)
    return ""


def errors(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that refuse a file."""
    return [finding for finding in findings if finding.severity == "error"]
