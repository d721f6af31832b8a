"""A network request as rules see it, and rules over it, compiled. Pure.

Allow and deny are not mirror images: an allow rule needs *every* value of a query parameter, every root field and every
reading of a tool argument to match; a deny rule fires when *any* does. What a deny rule leaves out it does not ask for,
what an allow rule leaves out of method or path it does not grant (strict; under openshell semantics a rule without a
path matches nothing on either side, as in the reference).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.action import NetRequest
from agent_os.policy.network.fields import (
    allowed_body,
    allowed_headers,
    denied_body,
    denied_headers,
    header_name,
)
from agent_os.policy.network.globs import GlobError, Predicate, compile_glob
from agent_os.policy.network.graphql import classify, classify_message
from agent_os.policy.network.jsonrpc import BodyError, parameter_values, parse_messages, receive_stream
from agent_os.policy.schema.network import AnyMatcher, Endpoint, GlobMatcher, RangeMatcher, RequestRule

Matcher = str | AnyMatcher | GlobMatcher
_NUMBER: Final = re.compile(r"-?[0-9]{1,308}(?:\.[0-9]{1,308})?(?:[eE][+-]?[0-9]{1,3})?")
RPC: Final = frozenset({"json-rpc", "mcp"})
_NEVER: Final[Predicate] = lambda _text: False  # noqa: E731
_ALWAYS: Final[Predicate] = lambda _text: True  # noqa: E731


@dataclass(frozen=True, slots=True)
class Request:
    """One request or message. `message` is one JSON-RPC message; `graphql` the operations of a GraphQL request."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    message: Mapping[str, Any] | None = None
    graphql: Mapping[str, Any] | None = None
    action: NetRequest | None = None
    """What it was read from: header and body fields are looked at only where a rule names them."""


def readings(action: NetRequest, endpoint: Endpoint) -> list[Request]:
    """Return the requests an action stands for at an endpoint: one, or one for each message of a JSON-RPC batch.

    A body that the action holds is what is sent, so it is read in preference to parsed fields beside it; what cannot be
    read becomes a message or operation list with an `error`, which no rule allows.
    """
    protocol = endpoint.protocol.lower()
    query: Mapping[str, list[str]] = action.query
    messages: list[Any] = [None]
    graphql = action.graphql if isinstance(action.graphql, Mapping) else None
    body = _text(action.body)
    if protocol in RPC:
        messages = _messages(action, endpoint, protocol, body)
    elif protocol == "graphql" and (body or graphql is None):
        graphql = classify(action.method, query, body)
    elif action.method == "WEBSOCKET_TEXT" and body and speaks_graphql(endpoint):
        graphql = classify_message(body)
    return [Request(action.method, action.path, query, message, graphql, action) for message in messages]


def _messages(action: NetRequest, endpoint: Endpoint, protocol: str, body: str) -> list[Any]:
    given = action.jsonrpc
    if body:
        strict = endpoint.mcp is None or endpoint.mcp.strict_tool_names is not False
        try:
            given = parse_messages(body, mcp=protocol == "mcp", strict_tool_names=strict)
        except BodyError as error:
            given = {"method": None, "error": str(error)}
    elif given is None and action.method == "GET":
        given = receive_stream(str(action.headers.get("accept", "")))
    if isinstance(given, list):
        return list(given) or [{"method": None, "error": "batch is empty"}]
    return [given]


def _text(body: Any) -> str:
    if body is None or isinstance(body, str):
        return body or ""
    import json  # noqa: PLC0415

    return json.dumps(body)


def speaks_graphql(endpoint: Endpoint) -> bool:
    """Return whether a WebSocket endpoint has rules over GraphQL operations."""
    rules = [rule.allow for rule in endpoint.rules or ()] + list(endpoint.deny_rules or ())
    return bool(
        endpoint.graphql_persisted_queries
        or endpoint.persisted_queries not in ("", "deny")
        or any(rule.operation_type or rule.operation_name or rule.fields for rule in rules)
    )


class Rule:
    """A compiled allow or deny rule. `broken` says that a pattern of it cannot be read (law 3)."""

    __slots__ = (
        "body", "broken", "command", "fields", "headers", "method", "names", "params", "path", "query", "rpc", "type",
    )  # fmt: skip

    def __init__(self, rule: RequestRule, *, protocol: str, strict: bool, denies: bool) -> None:
        self.broken = False
        self.method = _methods(rule.method, absent=strict and denies and _says_more(rule))
        self.path = self._path(rule.path, strict and denies)
        self.query = [(name, self._matcher(matcher, strict)) for name, matcher in (rule.query or {}).items()]
        self.headers = [
            (header_name(name), self._matcher(matcher, strict)) for name, matcher in (rule.headers or {}).items()
        ]
        self.body = [(path, self._matcher(matcher, strict)) for path, matcher in flatten(rule.body or {})]
        self.command = rule.command.upper()
        self.type = rule.operation_type.lower()
        self.names = self._glob(rule.operation_name, strict) if rule.operation_name else _ALWAYS
        self.fields = [self._glob(item, strict) for item in rule.fields or ()]
        self.rpc: Predicate = _NEVER
        self.params: list[tuple[str, Predicate]] = []
        if protocol in RPC:
            self._rpc(rule, protocol, strict)

    def _rpc(self, rule: RequestRule, protocol: str, strict: bool) -> None:
        params = dict(rule.params or {})
        if rule.tool is not None:
            params.setdefault("name", rule.tool)
        method = rule.method
        if protocol == "json-rpc":
            self.rpc = _ALWAYS if method == "*" else method.__eq__ if method else _NEVER
            return
        if not method:
            method = "tools/call" if "name" in params else "*"
        self.rpc = _ALWAYS if method == "*" else self._glob(method, strict)
        self.params = [(path, self._matcher(matcher, strict)) for path, matcher in flatten(params)]

    def _path(self, pattern: str, widened: bool) -> Predicate:
        if not pattern:
            return _ALWAYS if widened else _NEVER
        if pattern == "**":
            return _ALWAYS
        match = self._delimited(pattern)
        if not widened:
            return match
        stem = pattern.removesuffix("/**").removesuffix("/*").removesuffix("/")
        directory = self._delimited(stem) if stem and stem != pattern else _NEVER
        return lambda path: match(path) or match(path.rstrip("/")) or directory(path.rstrip("/"))

    def _delimited(self, pattern: str) -> Predicate:
        try:
            return compile_glob(pattern, "/")
        except GlobError:
            self.broken = True
            return _NEVER

    def _glob(self, pattern: str, strict: bool) -> Predicate:
        try:
            return compile_glob(pattern, "" if strict else ".")
        except GlobError:
            self.broken = True
            return _NEVER

    def _matcher(self, matcher: Any, strict: bool) -> Predicate:
        if isinstance(matcher, str):
            return self._glob(matcher, strict)
        if isinstance(matcher, GlobMatcher):
            return self._glob(matcher.glob, strict)
        if isinstance(matcher, RangeMatcher):
            return lambda text: _within(text, matcher)
        any_of = [self._glob(item, strict) for item in matcher.any]
        return lambda text: any(match(text) for match in any_of)

    # -- allow: everything must match

    def allows_http(self, request: Request) -> bool:
        """Return whether method, path and every value of each named query parameter match."""
        return (
            not self.broken
            and self.method(request.method)
            and self.path(request.path)
            and all(
                request.query.get(name) and all(match(value) for value in request.query[name])
                for name, match in self.query
            )
            and (not self.headers or (request.action is not None and allowed_headers(request.action, self.headers)))
            and (not self.body or (request.action is not None and allowed_body(request.action, self.body)))
        )

    def allows_rpc(self, message: Mapping[str, Any]) -> bool:
        """Return whether a message's method and every reading of each named parameter match."""
        if self.broken or not self.rpc(message["method"]):
            return False
        for path, match in self.params:
            values = parameter_values(message.get("params"), path)
            if not values or not all(value is not None and match(value) for value in values):
                return False
        return True

    def allows_operation(self, operation: Mapping[str, Any]) -> bool:
        """Return whether type, name and every root field of a GraphQL operation match."""
        if self.broken or not self._type(operation) or not self.names(str(operation.get("operation_name") or "")):
            return False
        fields = operation.get("fields") or []
        return not self.fields or (bool(fields) and all(any(match(field) for match in self.fields) for field in fields))

    # -- deny: anything that matches is enough

    def denies_http(self, request: Request) -> bool:
        """Return whether method and path match and some value of each named query parameter does."""
        if self.broken:
            return True
        return (
            self.method(request.method)
            and self.path(request.path)
            and all(any(match(value) for value in request.query.get(name) or ()) for name, match in self.query)
            and (not self.headers or request.action is None or denied_headers(request.action, self.headers))
            and (not self.body or request.action is None or denied_body(request.action, self.body))
        )

    def denies_rpc(self, message: Mapping[str, Any]) -> bool:
        """Return whether a message's method and some reading of each named parameter match."""
        if self.broken:
            return True
        if not self.rpc(message["method"]):
            return False
        for path, match in self.params:
            values = parameter_values(message.get("params"), path)
            if not any(value is not None and match(value) for value in values):
                return False
        return True

    def denies_operation(self, operation: Mapping[str, Any]) -> bool:
        """Return whether type and name of a GraphQL operation match and some root field does."""
        if self.broken:
            return True
        if not self._type(operation) or not self.names(str(operation.get("operation_name") or "")):
            return False
        fields = operation.get("fields") or []
        return not self.fields or any(match(field) for field in fields for match in self.fields)

    def _type(self, operation: Mapping[str, Any]) -> bool:
        return self.type == "*" or (bool(self.type) and str(operation.get("operation_type", "")).lower() == self.type)


def _says_more(rule: RequestRule) -> bool:
    """Whether a rule that names no method says something else of a request."""
    return bool(rule.path or rule.query or rule.headers or rule.body)


def _within(text: str, limits: RangeMatcher) -> bool:
    """Whether a text is a number within bounds, both of them included."""
    if not _NUMBER.fullmatch(text):
        return False
    number = float(text)
    return (limits.min is None or number >= limits.min) and (limits.max is None or number <= limits.max)


def _methods(pattern: str, *, absent: bool) -> Predicate:
    """Return a predicate over methods: `*` is any, GET takes HEAD along, letter case does not matter."""
    wanted = pattern.upper()
    if wanted == "*" or (absent and not wanted):
        return _ALWAYS
    if not wanted:
        return _NEVER
    if wanted == "GET":
        return lambda method: method.upper() in ("GET", "HEAD")
    return lambda method: method.upper() == wanted


def flatten(params: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield (dotted path, matcher) of nested parameter matchers."""
    for key, matcher in params.items():
        path = f"{prefix}{key}"
        if isinstance(matcher, dict):
            yield from flatten(matcher, f"{path}.")
        else:
            yield path, matcher


def preset(protocol: str, access: str) -> list[RequestRule]:
    """Return the rules an access preset stands for; an unknown preset stands for none."""
    make: Callable[..., RequestRule] = RequestRule
    if protocol == "graphql":
        types = {"read-only": ["query"], "read-write": ["query", "mutation"], "full": ["*"]}.get(access, [])
        return [make(operation_type=kind) for kind in types]
    if protocol == "websocket":
        methods = {"read-only": ["GET"], "read-write": ["GET", "WEBSOCKET_TEXT"], "full": ["*"]}.get(access, [])
    else:
        read = ["GET", "HEAD", "OPTIONS"]
        methods = {"read-only": read, "read-write": [*read, "POST", "PUT", "PATCH"], "full": ["*"]}.get(access, [])
    return [make(method=method, path="**") for method in methods]
