"""One endpoint of one network policy, compiled: which connections and requests it covers, allows and denies. Pure.

The predicates follow the reference's rules one by one (connection: host, port, program; request: path scope, then the
rules of the protocol); what differs under strict semantics is decided when an entry is compiled, so judging is the same
code for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent_os.core.canonical.addresses import parse_ip, unmapped
from agent_os.core.decision import Obligation
from agent_os.core.executable import Executable
from agent_os.policy.network.addresses import AllowedIps
from agent_os.policy.network.globs import GlobError, Predicate, compile_glob, has_wildcard
from agent_os.policy.network.requests import RPC, Request, Rule, preset, speaks_graphql
from agent_os.policy.schema.network import (
    DEFAULT_BODY_BYTES,
    REST_BODY_BYTES,
    Binary,
    Endpoint,
    RequestRule,
)

INSPECTED: Final = frozenset({"rest", "websocket", "graphql", "sql", "json-rpc", "mcp"})


class Programs:
    """The programs of a network policy, compiled."""

    __slots__ = ("_exact", "_globs", "_strict", "any")

    def __init__(self, binaries: Sequence[Binary] | None, *, strict: bool) -> None:
        self._strict = strict
        self.any: Final = binaries is None and strict
        self._exact: dict[str, list[Binary]] = {}
        self._globs: list[tuple[Predicate, Binary]] = []
        for binary in binaries or ():
            if not has_wildcard(binary.path) or (not strict and "*" not in binary.path):
                self._exact.setdefault(binary.path, []).append(binary)
                continue
            try:
                self._globs.append((compile_glob(binary.path, "/"), binary))
            except GlobError:
                continue  # an allow that cannot be read allows nothing (law 3)

    def allow(self, executable: Executable | None, *, identified: bool) -> bool:
        """Return whether a program may use the policy's endpoints.

        `identified` False: programs cannot be told apart here and the runtime has accepted that.
        """
        if self.any or not identified:
            return True
        if executable is None or not executable.path:
            return False
        if any(self._good(binary, executable) for binary in self._named(executable.path)):
            return True
        for ancestor in executable.ancestors:
            if any(binary.inherit or not self._strict for binary in self._named(ancestor)):
                return True
        return False

    def _named(self, path: str) -> list[Binary]:
        found = list(self._exact.get(path, ()))
        found += [binary for match, binary in self._globs if match(path)]
        return found

    @staticmethod
    def _good(binary: Binary, executable: Executable) -> bool:
        if binary.script and not _script_matches(binary.script, executable.script):
            return False
        return not binary.digest or binary.digest == executable.digest


def _script_matches(pattern: str, script: str) -> bool:
    """Whether an interpreter runs a script that a glob names; a glob that cannot be read matches nothing (law 3)."""
    if not script:
        return False
    try:
        return compile_glob(pattern, "/")(script)
    except GlobError:
        return False


class Entry:
    """A compiled endpoint.

    `id` is the id of its rule, `index` its place among all entries. `tunnels`: TLS is never opened here and nobody said
    why that may be. `scan` obliges whoever carries a connection here to inspect it.
    """

    __slots__ = (
        "_host", "_path", "allowed_ips", "deny_id", "deny_rules", "endpoint", "enforced", "exact", "extended", "host",
        "id", "index", "inspected", "path", "policy", "ports", "programs", "protocol", "rate_id", "registered", "rules", "scan",
        "strict", "tunnels",
    )  # fmt: skip

    def __init__(self, rule: str, policy: str, endpoint: Endpoint, programs: Programs, *, strict: bool) -> None:
        self.id: Final = rule
        self.deny_id = f"{rule}.deny_rules"
        self.rate_id = f"{rule}.rate"
        self.policy: Final = policy
        self.endpoint: Final = endpoint
        self.strict: Final = strict
        self.index = 0
        self.programs: Final = programs
        self.host: Final = _plain_host(endpoint.host)
        self.ports: Final = endpoint.all_ports
        self.exact: Final = bool(self.host) and "*" not in self.host
        self._host = self._compile_host()
        self.path: Final = endpoint.path
        self._path = _compile_scope(endpoint.path)
        self.allowed_ips: Final = AllowedIps(endpoint.allowed_ips)
        ruled = strict and bool(endpoint.rules or endpoint.access)
        self.protocol: Final = endpoint.protocol.lower() or ("rest" if ruled else "")
        """Under strict semantics rules are never left unread because nobody named the protocol."""
        self.inspected: Final = self.protocol in INSPECTED
        self.extended: Final = bool(
            self.inspected or endpoint.allowed_ips or endpoint.tls or endpoint.credential_binding
        )
        self.enforced: Final = endpoint.enforcement == "enforce" or (strict and not endpoint.enforcement)
        self.registered: Final = endpoint.graphql_persisted_queries or {}
        self.rules: list[Rule] = []
        self.deny_rules: list[Rule] = []
        self.tunnels: Final = endpoint.tls == "skip" and not endpoint.uninspected
        if self.inspected:
            self._compile_rules()
        self.scan: Final = Obligation("scan", self.inspection(), rule) if self.inspected else None

    def _compile_host(self) -> Predicate:
        if not self.host:
            return lambda _host: bool(self.endpoint.allowed_ips)
        if self.exact:
            return self.host.__eq__
        try:
            return compile_glob(self.host, ".")
        except GlobError:
            return lambda _host: False

    def _compile_rules(self) -> None:
        allow = [rule.allow for rule in self.endpoint.rules or ()]
        if not allow and self.endpoint.access:
            allow = preset(self.protocol, self.endpoint.access)
        if not allow and self.protocol == "mcp" and self.allows_known_methods:
            allow = [RequestRule()]
        self.rules = [Rule(rule, protocol=self.protocol, strict=self.strict, denies=False) for rule in allow]
        self.deny_rules = [
            Rule(rule, protocol=self.protocol, strict=self.strict, denies=True)
            for rule in self.endpoint.deny_rules or ()
        ]

    @property
    def allows_known_methods(self) -> bool:
        """Whether an MCP endpoint allows every method, its rules narrowing tool calls only."""
        options = self.endpoint.mcp
        return options is not None and bool(options.allow_all_known_mcp_methods)

    def covers(self, host: str) -> bool:
        """Return whether a canonical host is this entry's (its port is by the index)."""
        return self._host(host)

    def in_scope(self, path: str) -> bool:
        """Return whether a request path is within the entry's path, as rules see it."""
        return self._path(path)

    def selects(self, path: str) -> bool:
        """Return whether the entry's options (protocol, enforcement) are those of a request path."""
        pattern = self.path
        if pattern in ("", "**", "/**", path):
            return True
        if pattern.endswith("/**"):
            stem = pattern[:-3]
            return path == stem or path.startswith(f"{stem}/")
        return self._path(path)

    @property
    def specificity(self) -> int:
        """How narrow the entry's path is: the options of the narrowest one count."""
        return sum(char != "*" for char in self.path)

    def inspection(self) -> dict[str, Any]:
        """Return, as plain JSON, how traffic to this entry is to be looked at."""
        endpoint = self.endpoint
        rpc = endpoint.mcp or endpoint.json_rpc
        return {
            "protocol": self.protocol,
            "tls": "skip" if endpoint.tls == "skip" else "open",
            "path": self.path,
            "body_bytes": (rpc.max_body_bytes if rpc else endpoint.graphql_max_body_bytes)
            or (REST_BODY_BYTES if self.protocol == "rest" else DEFAULT_BODY_BYTES),
            "reads_body": self.protocol in RPC
            or self.protocol == "graphql"
            or any(rule.body for rule in (*self.rules, *self.deny_rules)),
            "allow_encoded_slash": endpoint.allow_encoded_slash,
            "websocket_graphql": self.protocol == "websocket" and speaks_graphql(endpoint),
            "uninspected": endpoint.uninspected,
            "login": endpoint.login,
            "login_plain": endpoint.login_plain,
            "upstream_tls": endpoint.upstream_tls.model_dump() if endpoint.upstream_tls else None,
            "content": endpoint.content.model_dump() if endpoint.content else None,
        }

    # -- requests

    def allows(self, request: Request) -> bool:
        """Return whether the rules of this entry allow one request or message."""
        if self.protocol in RPC:
            if self._allows_message(request):
                return True
        elif any(rule.allows_http(request) for rule in self.rules):
            return True
        return self._allows_operations(request)

    def _allows_message(self, request: Request) -> bool:
        message = request.message
        if not isinstance(message, Mapping) or message.get("error"):
            return False
        method = message.get("method")
        if request.method == "GET":
            idle = method is None and not message.get("has_response")
            return self.protocol == "mcp" and idle and bool(message.get("receive_stream"))
        if request.method != "POST":
            return False
        if message.get("has_response"):
            return self.protocol == "mcp"
        if not isinstance(method, str) or not method:
            return False
        if any(rule.allows_rpc(message) for rule in self.rules):
            return True
        narrowed = method == "tools/call" and any(path == "name" for rule in self.rules for path, _ in rule.params)
        return self.protocol == "mcp" and self.allows_known_methods and not narrowed

    def _allows_operations(self, request: Request) -> bool:
        operations = _operations(request)
        if not operations or (request.graphql or {}).get("error"):
            return False
        for operation in operations:
            effective = self._effective(operation)
            if effective is None or not any(rule.allows_operation(effective) for rule in self.rules):
                return False
        return True

    def _effective(self, operation: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the operation itself, or for a bare hash or id what is registered under it (None: nothing)."""
        if not operation.get("persisted_query") or operation.get("operation_type"):
            return operation
        if self.endpoint.persisted_queries != "allow_registered":
            return None
        key = operation.get("persisted_query_hash") or operation.get("persisted_query_id") or ""
        found = self.registered.get(str(key))
        return None if found is None else found.model_dump()

    def denies(self, request: Request) -> bool:
        """Return whether a deny rule of this entry denies one request or message."""
        message = request.message
        if self.protocol in RPC:
            named = isinstance(message, Mapping) and isinstance(message.get("method"), str) and message["method"]
            if named and request.method == "POST" and any(rule.denies_rpc(message) for rule in self.deny_rules):  # type: ignore[arg-type]
                return True
        elif any(rule.denies_http(request) for rule in self.deny_rules):
            return True
        return any(
            rule.denies_operation(self._effective(operation) or operation)
            for operation in _operations(request)
            for rule in self.deny_rules
            if rule.type
        )

    def withholds(self, request: Request) -> str:
        """Return why the protocol itself denies a request whatever rules of wider entries say, or an empty text."""
        message = request.message
        answers = isinstance(message, Mapping) and message.get("has_response")
        if self.protocol == "json-rpc" and request.method == "POST" and answers:
            return "JSON-RPC response frames are not permitted from client to server"
        judged = self.protocol in ("graphql", "websocket") and isinstance(request.graphql, Mapping)
        if judged and not self._allows_operations(request):
            return "GraphQL operation not permitted by policy"
        return ""


def _operations(request: Request) -> list[Mapping[str, Any]]:
    found = request.graphql.get("operations") if isinstance(request.graphql, Mapping) else None
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _plain_host(host: str) -> str:
    """Return an endpoint's host as actions spell it: lower case, addresses in canonical form without brackets."""
    address = parse_ip(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    return host.lower() if address is None else str(unmapped(address))


def _compile_scope(pattern: str) -> Predicate:
    if pattern in ("", "**"):
        return lambda _path: True
    try:
        return compile_glob(pattern, "/")
    except GlobError:
        return lambda _path: False
