"""Checks of the `rules` and `deny_rules` of one endpoint. Pure: yields (severity, path, message, hint).

Which fields a rule may have depends on the endpoint's protocol: REST and WebSocket rules speak of methods, paths and
query parameters (REST ones of header and body fields too), JSON-RPC rules of method names, MCP rules of methods, tools and
(strict) arguments, GraphQL rules of operations. Rules that could never match, or would match everything beside narrower
ones, are errors: their author meant something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from agent_os.policy.network.fields import NEVER_JUDGED, header_name
from agent_os.policy.network.globs import GlobError, compile_glob, has_wildcard, syntax_problem
from agent_os.policy.network.requests import flatten, speaks_graphql
from agent_os.policy.schema.network import AnyMatcher, Endpoint, GlobMatcher, PersistedQuery, RangeMatcher, RequestRule

Problem = tuple[str, str, str, str]
METHODS: Final = {
    "websocket": ("GET", "WEBSOCKET_TEXT", "*"),
    "rest": ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "*"),
}
_TYPES: Final = ("query", "mutation", "subscription", "*")


def check_rules(endpoint: Endpoint, protocol: str, inspected: bool, strict: bool) -> Iterator[Problem]:
    """Yield the problems of an endpoint's rules; paths are relative to the endpoint."""
    yield from _base(endpoint, protocol, inspected)
    allow = [(f".rules[{i}].allow", rule.allow) for i, rule in enumerate(endpoint.rules or ())]
    deny = [(f".deny_rules[{i}]", rule) for i, rule in enumerate(endpoint.deny_rules or ())]
    selects_tools = protocol == "mcp" and any(_selects_tool(rule) for _, rule in allow)
    for place, rule in allow:
        yield from _rule(place, rule, endpoint, protocol, strict)
        if selects_tools and _covers_tools_call(rule) and not _selects_tool(rule):
            message = "method matcher allows every tool call and conflicts with MCP tool allow rules"
            yield "error", place, message, "add tool, or remove the tool rules"
        if protocol == "websocket" and speaks_graphql(endpoint) and rule.method.upper() == "WEBSOCKET_TEXT":
            message = "WebSocket endpoints with GraphQL policy use operation rules instead of WEBSOCKET_TEXT"
            yield "error", place, message, "operation_type: subscription"
    for place, rule in deny:
        yield from _rule(place, rule, endpoint, protocol, strict)
        if selects_tools and _covers_tools_call(rule) and not _selects_tool(rule):
            message = "method matcher denies every tool call and conflicts with MCP tool allow rules"
            yield "error", place, message, "add tool, or remove the tool rules"
    for key, operation in (endpoint.graphql_persisted_queries or {}).items():
        yield from _graphql(f".graphql_persisted_queries.{key}", operation)


def _base(endpoint: Endpoint, protocol: str, inspected: bool) -> Iterator[Problem]:
    rules, access = bool(endpoint.rules), bool(endpoint.access)
    known = endpoint.mcp is not None and bool(endpoint.mcp.allow_all_known_mcp_methods)
    if rules and access:
        yield "error", ".rules", "rules and access are mutually exclusive", "keep one"
    if protocol in ("json-rpc", "mcp") and access:
        hint = "mcp.allow_all_known_mcp_methods: true" if protocol == "mcp" else 'rules with method: "*"'
        yield "error", ".access", f"protocol {protocol} does not support access presets; use rules over method", hint
    if protocol == "json-rpc" and not rules:
        yield "error", ".rules", "protocol json-rpc requires explicit rules with allow.method", ""
    elif protocol == "mcp" and not rules and not access and not known:
        message = "protocol mcp requires rules when mcp.allow_all_known_mcp_methods is false"
        yield "error", ".rules", message, ""
    elif inspected and protocol not in ("mcp", "json-rpc") and not rules and not access:
        yield "error", ".protocol", "protocol requires rules or access to define allowed traffic", "access: read-only"
    if endpoint.rules == []:
        yield "error", ".rules", "rules list cannot be empty (would deny all traffic)", "access: full"
    if endpoint.deny_rules == []:
        yield "error", ".deny_rules", "deny_rules list cannot be empty (would have no effect)", "remove it"
    if rules and inspected and not (protocol == "mcp" and known) and all(_empty(r.allow) for r in endpoint.rules or ()):
        yield "error", ".rules", "rules would deny all traffic: no allow clause says anything", "access: full"
    if endpoint.deny_rules:
        if not inspected:
            yield "error", ".deny_rules", "deny_rules require protocol (requests must be inspected)", "protocol: rest"
        elif protocol != "mcp" and not rules and not access:
            yield "error", ".deny_rules", "deny_rules require rules or access to define the base allow set", ""


def _empty(rule: RequestRule) -> bool:
    texts = (rule.method, rule.path, rule.command, rule.operation_type, rule.operation_name)
    more = (rule.fields, rule.params, rule.query, rule.headers, rule.body)
    return not any(texts) and rule.tool is None and not any(more)


def _rule(place: str, rule: RequestRule, endpoint: Endpoint, protocol: str, strict: bool) -> Iterator[Problem]:
    if rule.method and protocol in METHODS and rule.method.upper() not in METHODS[protocol]:
        message = f"unknown HTTP/WebSocket method '{rule.method}'"
        yield "warning", f"{place}.method", message, "one of " + ", ".join(METHODS[protocol])
    if rule.path and strict and not rule.path.startswith(("/", "*")):
        message = f"'{rule.path}' can never match: the path of a request begins with '/'"
        yield "warning", f"{place}.path", message, f"path: /{rule.path}"
    if rule.path and (problem := syntax_problem(rule.path)):
        yield "warning", f"{place}.path", problem, ""
    for name, matcher in (rule.query or {}).items():
        yield from _matcher(f"{place}.query.{name}", matcher)
    yield from _rest(place, rule, protocol)
    if protocol == "json-rpc":
        yield from _jsonrpc(place, rule)
    elif protocol == "mcp":
        yield from _mcp(place, rule, endpoint, strict)
    elif rule.tool is not None:
        yield "error", f"{place}.tool", "MCP tool matching is only valid for protocol mcp", ""
    elif rule.params is not None:
        yield "error", f"{place}.params", "params matching is only valid for protocol mcp", ""
    if rule.command and protocol == "rest":
        yield "warning", f"{place}.command", "command is for SQL protocol, not REST", ""
    graphql = bool(rule.operation_type or rule.operation_name or rule.fields is not None)
    if protocol == "websocket" and graphql and {"method", "path", "query"} & rule.model_fields_set:
        message = "WebSocket GraphQL rules must not combine method/path/query with operation_type/operation_name/fields"
        yield "error", place, message, "make two rules"
    if protocol == "graphql" or (protocol == "websocket" and graphql):
        yield from _graphql(place, rule)
    elif graphql:
        message = "GraphQL rule fields are ignored unless protocol is graphql or websocket"
        yield "warning", place, message, ""


def _rest(place: str, rule: RequestRule, protocol: str) -> Iterator[Problem]:
    for field in ("headers", "body"):
        if getattr(rule, field) is not None and protocol != "rest":
            yield "error", f"{place}.{field}", f"{field} matching is only valid for protocol rest", "protocol: rest"
    for name, matcher in (rule.headers or {}).items():
        if header_name(name) in NEVER_JUDGED:
            message = f"{name} is a credential's field or one of a single hop: no rule sees it"
            yield "error", f"{place}.headers.{name}", message, "secrets say where a credential may go"
        yield from _matcher(f"{place}.headers.{name}", matcher)
    for path, matcher in flatten(rule.body or {}):
        yield from _matcher(f"{place}.body.{path}", matcher)


def _jsonrpc(place: str, rule: RequestRule) -> Iterator[Problem]:
    if not rule.method:
        yield "error", f"{place}.method", "required for json-rpc L7 rules", 'method: "*" allows every method'
    elif rule.method != "*" and has_wildcard(rule.method):
        message = "generic JSON-RPC method rules do not support glob or wildcard matchers"
        yield "error", f"{place}.method", message, 'an exact name, or "*"'
    if rule.params is not None:
        yield "error", place, "JSON-RPC rules do not support params matchers", "protocol: mcp has them"
    if rule.tool is not None:
        yield "error", f"{place}.tool", "MCP tool matching is only valid for protocol mcp", ""
    if rule.path or rule.query:
        yield "error", place, "json-rpc L7 rules must use method, not path/query", "the endpoint has a path"


def _mcp(place: str, rule: RequestRule, endpoint: Endpoint, strict: bool) -> Iterator[Problem]:
    options = endpoint.mcp
    known = options is not None and bool(options.allow_all_known_mcp_methods)
    named = options is None or options.strict_tool_names is not False
    if rule.method:
        if problem := syntax_problem(rule.method):
            yield "warning", f"{place}.method", problem, ""
        if has_wildcard(rule.method) and not rule.method.startswith("tools/"):
            message = "MCP method globs are only valid for the tools/ method family"
            yield "error", f"{place}.method", message, "leave method out with allow_all_known_mcp_methods"
        if _selects_tool(rule) and rule.method != "tools/call":
            yield "error", f"{place}.method", "must be tools/call when an MCP rule uses tool or params.name", ""
    elif not known:
        message = "required when mcp.allow_all_known_mcp_methods is false"
        yield "error", f"{place}.method", message, "method: tools/call"
    if rule.path or rule.query:
        yield "error", place, "mcp L7 rules must use method/tool, not path/query", "the endpoint has a path"
    if rule.tool is not None:
        yield from _tool(f"{place}.tool", rule.tool, named)
    params = rule.params or {}
    if rule.tool is not None and "name" in params:
        yield "error", place, "MCP rules must use either tool or params.name, not both", ""
    for path, matcher in flatten(params):
        if path == "name":
            yield from _tool(f"{place}.params.name", matcher, named)
        elif strict:
            yield from _matcher(f"{place}.params.{path}", matcher)
        else:
            message = "MCP tool argument matching is not supported under openshell semantics"
            yield "error", f"{place}.params.{path}", message, "semantics: strict has it"


def _tool(place: str, matcher: Any, named: bool) -> Iterator[Problem]:
    yield from _matcher(place, matcher)
    if not named and any(has_wildcard(glob) for glob in _globs(matcher)):
        yield "error", place, "wildcard tool-name matchers require mcp.strict_tool_names to remain enabled", ""


def _globs(matcher: Any) -> list[str]:
    if isinstance(matcher, AnyMatcher):
        return list(matcher.any)
    if isinstance(matcher, RangeMatcher):
        return []
    return [matcher.glob if isinstance(matcher, GlobMatcher) else matcher]


def _matcher(place: str, matcher: Any) -> Iterator[Problem]:
    if (
        isinstance(matcher, RangeMatcher)
        and matcher.min is not None
        and matcher.max is not None
        and matcher.min > matcher.max
    ):
        yield "error", place, "the least number is above the greatest", "swap min and max"
    key = ".any" if isinstance(matcher, AnyMatcher) else ".glob" if isinstance(matcher, GlobMatcher) else ""
    for glob in _globs(matcher):
        if problem := syntax_problem(glob):
            yield "warning", f"{place}{key}", problem, ""


def _graphql(place: str, rule: RequestRule | PersistedQuery) -> Iterator[Problem]:
    if not rule.operation_type:
        yield "error", f"{place}.operation_type", "required for GraphQL L7 rules", "query, mutation or subscription"
    elif rule.operation_type.lower() not in _TYPES:
        message = "operation_type: expected query, mutation, subscription, or *"
        yield "error", f"{place}.operation_type", message, ""
    if rule.operation_name and (problem := syntax_problem(rule.operation_name)):
        yield "warning", f"{place}.operation_name", problem, ""
    if rule.fields == []:
        yield "error", f"{place}.fields", "list must not be empty; omit fields to match all root fields", ""
    for field in rule.fields or ():
        if not field:
            yield "error", f"{place}.fields", "field glob must not be empty", ""
        elif problem := syntax_problem(field):
            yield "warning", f"{place}.fields", problem, ""


def _selects_tool(rule: RequestRule) -> bool:
    return rule.tool is not None or "name" in (rule.params or {})


def _covers_tools_call(rule: RequestRule) -> bool:
    if not rule.method:
        return False
    try:
        return compile_glob(rule.method)("tools/call")
    except GlobError:
        return False
