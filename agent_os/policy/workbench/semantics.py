"""Where a file is decided differently here (strict) than by OpenShell. Pure.

The list is the one of docs/policy.md; each finding says which side is stricter, so that a migration can be reviewed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agent_os.core.canonical.addresses import parse_ip
from agent_os.policy.compile import Unit

Raw = tuple[str, str, str, str, str]


def differences(unit: Unit, chosen: str) -> Iterator[Raw]:
    """Yield a note `semantics-…` for every place of the file where strict and openshell semantics can differ."""
    if chosen == "openshell":
        return
    file = unit.file
    for name, policy in (file.network_policies or {}).items():
        base = f"network_policies.{name}"
        for index, endpoint in enumerate(policy.endpoints):
            yield from _endpoint(endpoint, f"{base}.endpoints[{index}]")
        for index, binary in enumerate(policy.binaries or ()):
            if not binary.inherit:
                path = f"{base}.binaries[{index}]"
                text = "what this program starts has no right here; in OpenShell it inherits it"
                yield "semantics-inherit", "note", path, text, "inherit: true, if it is meant"
                break
    yield from _nested(file)


def _endpoint(endpoint: Any, path: str) -> Iterator[Raw]:
    if _named_without_addresses(endpoint):
        text = "is named exactly: private addresses stay closed here; OpenShell opens them"
        yield "semantics-private-addresses", "note", f"{path}.host", text, "allowed_ips, if the service is internal"
    dotted = [
        (place, pattern)
        for place, pattern in _globs(endpoint, path)
        if "*" in pattern and pattern not in ("*", "**", "/**")
    ]
    for place, pattern in dotted[:1]:
        if not pattern.startswith("/"):
            text = "`*` matches a dot here; in OpenShell it stops at one"
            yield "semantics-dots", "note", place, text, "write the dot where it is meant"
    for index, rule in enumerate(endpoint.rules or ()):
        if rule.allow.params and "arguments" in {key.split(".")[0] for key in rule.allow.params}:
            text = "matches MCP arguments, which OpenShell does not support"
            yield "semantics-mcp-arguments", "note", f"{path}.rules[{index}].allow.params", text, ""
    named = [(f"{path}.rules[{index}].allow", rule.allow) for index, rule in enumerate(endpoint.rules or ())]
    named += [(f"{path}.deny_rules[{index}]", rule) for index, rule in enumerate(endpoint.deny_rules or ())]
    for place, rule in named:
        if rule.headers or rule.body:
            yield "semantics-request-fields", "note", place, "matches header or body fields, which OpenShell cannot", ""


def _named_without_addresses(endpoint: Any) -> bool:
    host = endpoint.host
    named = bool(host) and "*" not in host and parse_ip(host.strip("[]")) is None
    return named and not endpoint.allowed_ips and not endpoint.local


def _globs(endpoint: Any, path: str) -> Iterator[tuple[str, str]]:
    rules = [(f"{path}.rules[{index}].allow", rule.allow) for index, rule in enumerate(endpoint.rules or ())]
    rules += [(f"{path}.deny_rules[{index}]", rule) for index, rule in enumerate(endpoint.deny_rules or ())]
    for place, rule in rules:
        for name, matcher in (rule.query or {}).items():
            for pattern in [matcher] if isinstance(matcher, str) else getattr(matcher, "any", None) or [matcher.glob]:
                yield f"{place}.query.{name}", pattern
        if rule.operation_name:
            yield f"{place}.operation_name", rule.operation_name


def _nested(file: Any) -> Iterator[Raw]:
    policy = file.filesystem_policy
    if policy is None:
        return
    writable = [path.rstrip("/") for path in policy.read_write]
    for index, path in enumerate(policy.read_only):
        inside = any(path.startswith(base + "/") for base in writable)
        relative = policy.include_workdir and not path.startswith("/")
        if inside or relative:
            text = "is read-only inside a writable folder: enforced here; in OpenShell it may be written"
            place = f"filesystem_policy.read_only[{index}]"
            yield "semantics-nested-read-only", "note", place, text, ""
