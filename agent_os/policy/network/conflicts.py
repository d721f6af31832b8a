"""Endpoints that can stand for the same connection or request and disagree about how it is handled. Pure.

Rules of several endpoints add up; what must have one value (whether TLS is opened, where the name may lead, how a
request is parsed, which credential is used) must agree wherever host, port and path can be the same. The narrower path
wins, so only paths of equal rank compete. The binary lists do not matter: programs are told apart too late.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from agent_os.policy.network.overlap import ends, host_globs_overlap, may_share, path_globs_overlap
from agent_os.policy.network.requests import speaks_graphql
from agent_os.policy.schema.network import DEFAULT_BODY_BYTES, Endpoint, NetworkPolicy


def conflicts(policies: Mapping[str, NetworkPolicy]) -> Iterator[tuple[str, str, str]]:
    """Yield (path, message, hint) for each pair of endpoints that conflict.

    Endpoints are compared within a port only, and exact names only with equal names and wildcards, so that a large file
    of distinct names is checked in linear time.
    """
    by_port: dict[int, list[tuple[int, str, Endpoint]]] = defaultdict(list)
    number = 0
    for name, policy in policies.items():
        for index, endpoint in enumerate(policy.endpoints):
            for port in endpoint.all_ports:
                by_port[port].append((number, f"network_policies.{name}.endpoints[{index}]", endpoint))
            number += 1
    seen: set[tuple[int, int]] = set()
    for port in sorted(by_port):
        for left, right in _candidates(by_port[port]):
            pair = (left[0], right[0])
            if pair in seen:
                continue
            seen.add(pair)
            fields = _disagreements(left[2], right[2])
            if fields:
                message = f"overlaps {left[1]} on port {port} with conflicting {', '.join(fields)}"
                yield right[1], message, "give both the same values, or disjoint hosts, ports or paths"


def _candidates(items: list[tuple[int, str, Endpoint]]) -> Iterator[tuple[Any, Any]]:
    exact: dict[str, list[Any]] = defaultdict(list)
    wide = []
    for item in items:
        host = item[2].host.lower()
        if host and "*" not in host:
            exact[host].append(item)
        else:
            wide.append((item, ends(host) if host else ("", "")))
    for same in exact.values():
        for i, left in enumerate(same):
            for right in same[i + 1 :]:
                yield left, right
    for i, (one, outer) in enumerate(wide):
        for two, inner in wide[i + 1 :]:
            if may_share(outer, inner) and host_globs_overlap(one[2].host, two[2].host):
                yield one, two
        for host, same in exact.items():
            if host.endswith(outer[1]) and host.startswith(outer[0]) and host_globs_overlap(one[2].host, host):
                for other in same:
                    yield (one, other) if one[0] < other[0] else (other, one)


def _disagreements(left: Endpoint, right: Endpoint) -> list[str]:
    fields = _differing(_connection(left), _connection(right))
    if (
        _has_options(left)
        and _has_options(right)
        and path_globs_overlap(left.path, right.path)
        and _rank(left.path) == _rank(right.path)
    ):
        one, two = _pipeline(left), _pipeline(right)
        fields += [field for field in _differing(one, two) if one[field] is not None and two[field] is not None]
    return fields


def _differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    return [field for field in one if one[field] != two[field]]


def _connection(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "protocol tcp": endpoint.protocol.lower() == "tcp",
        "tls": endpoint.tls == "skip",
        "allowed_ips": sorted({entry.strip().lower() for entry in endpoint.allowed_ips}),
    }


def _has_options(endpoint: Endpoint) -> bool:
    inspected = endpoint.protocol.lower() not in ("", "tcp")
    return bool(inspected or endpoint.allowed_ips or endpoint.tls or endpoint.credential_binding)


def _rank(path: str) -> int:
    return sum(char != "*" for char in path)


def _pipeline(endpoint: Endpoint) -> dict[str, Any]:
    """What a request needs one value of; None where the field does not apply to the endpoint's protocol."""
    protocol = endpoint.protocol.lower()
    protocol = "" if protocol == "tcp" else protocol
    rpc = endpoint.mcp or endpoint.json_rpc
    named = endpoint.mcp is None or endpoint.mcp.strict_tool_names is not False
    return {
        "protocol": protocol,
        "enforcement": endpoint.enforcement == "enforce",
        "allow_encoded_slash": endpoint.allow_encoded_slash,
        "websocket_credential_rewrite": endpoint.websocket_credential_rewrite,
        "request_body_credential_rewrite": endpoint.request_body_credential_rewrite,
        "websocket_graphql_policy": speaks_graphql(endpoint) if protocol == "websocket" else None,
        "credential_signing": endpoint.credential_signing,
        "signing_service": endpoint.signing_service,
        "signing_region": endpoint.signing_region,
        "credential_binding": endpoint.credential_binding.provider if endpoint.credential_binding else "",
        "graphql_max_body_bytes": (endpoint.graphql_max_body_bytes or DEFAULT_BODY_BYTES)
        if protocol == "graphql"
        else None,
        "max_body_bytes": ((rpc.max_body_bytes if rpc else 0) or DEFAULT_BODY_BYTES)
        if protocol in ("json-rpc", "mcp")
        else None,
        "mcp.strict_tool_names": named if protocol == "mcp" else None,
    }
