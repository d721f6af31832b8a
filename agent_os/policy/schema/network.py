"""The `network_policies` and `network_middlewares` sections of a policy file. Pure values.

A superset of the published NVIDIA OpenShell v1 schema, so that an existing policy or preset loads unchanged. Only the
shape is judged here (types, unknown keys, numbers in range); what fields mean together is judged by
`policy.network.checks`, because some combinations are errors, some warnings, and some differ between semantics.
Fields of ours beside the published ones: `binaries[].inherit`, `binaries[].digest`, `binaries[].script`,
`endpoints[].uninspected`, `endpoints[].upstream_tls`, `endpoints[].content`, `endpoints[].rate`, `headers` and `body` of
REST rules, ranges of numbers and, in strict semantics, matching of MCP tool arguments.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictInt, StrictStr, Tag
from typing_extensions import TypeAliasType

from agent_os.policy.schema.base import Rate

DEFAULT_BODY_BYTES: Final = 65_536
"""How much of a request body is read for inspection where an endpoint does not say."""
REST_BODY_BYTES: Final = 4 * 1024 * 1024
"""The same where rules speak of body fields of REST requests."""
MAX_BODY_BYTES: Final = 16 * 1024 * 1024


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class AnyMatcher(_Model):
    """Matches when one of several globs does."""

    any: list[StrictStr] = Field(min_length=1, description="Globs; one must match. The list must not be empty.")


class RangeMatcher(_Model):
    """Matches a number within bounds."""

    min: float | None = Field(default=None, allow_inf_nan=False, description="Least number.")
    max: float | None = Field(default=None, allow_inf_nan=False, description="Greatest number.")


class GlobMatcher(_Model):
    """Matches one glob; the long form of a plain string."""

    glob: StrictStr = Field(description="A glob over the whole value.")


def _matcher_tag(value: Any) -> str | None:
    if isinstance(value, str):
        return "text"
    if isinstance(value, (dict, BaseModel)):
        keys = set(value) if isinstance(value, dict) else set(type(value).model_fields)
        return {frozenset({"any"}): "any", frozenset({"glob"}): "glob"}.get(frozenset(keys))
    return None


def _parameter_tag(value: Any) -> str | None:
    numbers = isinstance(value, dict) and all(type(bound) in (int, float) for bound in value.values())
    if isinstance(value, RangeMatcher) or (numbers and value and set(value) <= {"min", "max"}):
        return "range"
    return _matcher_tag(value) or ("nested" if isinstance(value, dict) and value else None)


_MATCHER_ERROR: Final = (
    "expected string glob or matcher object: a glob, {any: [glob, ...]} or {glob: ...}; unknown matcher keys are "
    "refused, and an any: list must not be empty"
)
Matcher = Annotated[
    Annotated[StrictStr, Tag("text")] | Annotated[AnyMatcher, Tag("any")] | Annotated[GlobMatcher, Tag("glob")],
    Discriminator(_matcher_tag, custom_error_type="matcher", custom_error_message=_MATCHER_ERROR),
]
ParameterMatcher = TypeAliasType(
    "ParameterMatcher",
    Annotated[
        Annotated[StrictStr, Tag("text")]
        | Annotated[AnyMatcher, Tag("any")]
        | Annotated[GlobMatcher, Tag("glob")]
        | Annotated[RangeMatcher, Tag("range")]
        | Annotated["dict[str, ParameterMatcher]", Tag("nested")],
        Discriminator(_parameter_tag, custom_error_type="matcher", custom_error_message=_MATCHER_ERROR),
    ],
)


class RequestRule(_Model):
    """What a request must be for a rule to match; which fields count depends on the endpoint's protocol."""

    method: StrictStr = Field(default="", description="HTTP method or `*`; for json-rpc and mcp the RPC method.")
    path: StrictStr = Field(default="", description="Glob over the canonical request path; `*` stays within a segment.")
    command: StrictStr = Field(default="", description="SQL command (`SELECT`, …) or `*`, for protocol sql.")
    query: dict[str, Matcher] | None = Field(default=None, description="Query parameter -> matcher.")
    headers: dict[str, Matcher] | None = Field(
        default=None, description="REST: header field -> matcher, over each of its values. Never a credential's field."
    )
    body: dict[str, ParameterMatcher] | None = Field(
        default=None, description="REST: field of a JSON or form body, nested or dotted (`payee.iban`) -> matcher."
    )
    operation_type: StrictStr = Field(default="", description="GraphQL: query, mutation, subscription or `*`.")
    operation_name: StrictStr = Field(default="", description="GraphQL: glob over the operation's name.")
    fields: list[StrictStr] | None = Field(default=None, description="GraphQL: globs over the selected root fields.")
    tool: Matcher | None = Field(default=None, description="MCP: matcher over the tool's name in `tools/call`.")
    params: dict[str, ParameterMatcher] | None = Field(
        default=None,
        description="MCP: parameter -> matcher, nested or dotted (`arguments.scope`); arguments in strict only.",
    )


class AllowRule(_Model):
    """One entry of an endpoint's `rules`."""

    allow: RequestRule = Field(description="The requests this entry allows.")


class PersistedQuery(_Model):
    """A registered GraphQL operation, trusted under its hash or id."""

    operation_type: StrictStr = Field(default="", description="query, mutation or subscription.")
    operation_name: StrictStr = Field(default="", description="Name of the operation.")
    fields: list[StrictStr] | None = Field(default=None, description="Root fields it selects.")


class JsonRpcOptions(_Model):
    """How JSON-RPC bodies are read."""

    max_body_bytes: Annotated[StrictInt, Field(ge=0, le=MAX_BODY_BYTES)] = Field(
        default=0, description="Most bytes of a body to read; a longer one is denied. 0: the default."
    )


class McpOptions(JsonRpcOptions):
    """How MCP bodies are read."""

    strict_tool_names: StrictBool | None = Field(
        default=None, description="Deny tool names outside letters, digits, `_`, `-`, `.` (default true)."
    )
    allow_all_known_mcp_methods: StrictBool | None = Field(
        default=None, description="Allow every method; rules then narrow `tools/call` only (default false)."
    )


class CredentialBinding(_Model):
    """Which stored credential may be used towards an endpoint, and nowhere else."""

    provider: Annotated[StrictStr, Field(min_length=1)] = Field(description="Name of the credential's provider.")


class UpstreamTls(_Model):
    """What the guard asks of the server behind an endpoint, beyond a certificate that verifies."""

    minimum: Literal["1.2", "1.3"] = Field(default="1.2", description="Lowest TLS version.")
    pins: list[Annotated[StrictStr, Field(pattern=r"^sha256[:/][A-Za-z0-9+/=]{43,64}$")]] = Field(
        default_factory=list,
        description="Public keys accepted: `sha256:` and hex of the SPKI, or `sha256/` and Base64.",
    )
    client_certificate: StrictStr = Field(default="", description="PEM file of the certificate to show.")
    client_key: StrictStr = Field(default="", description="PEM file of its key; absent: in the same file.")


class ResponseFindings(_Model):
    """What may not stand in a response: it is read whole, decoded, and looked at by the detectors."""

    find: Annotated[list[StrictStr], Field(min_length=1)] = Field(
        description="Entity names (PERSON, IBAN_CODE, SECRET for every secret, …), globs, or * for any."
    )
    do: Literal["deny", "mask"] = Field(
        default="deny", description="`deny` refuses the response, `mask` replaces what was found."
    )
    score: Annotated[float, Field(ge=0, le=1)] = Field(default=0.0, description="Least confidence.")


class ContentLimits(_Model):
    """What may pass to and from an endpoint. 0 and empty: no limit here."""

    request_bytes: Annotated[StrictInt, Field(ge=0)] = Field(default=0, description="Largest request body.")
    response_bytes: Annotated[StrictInt, Field(ge=0)] = Field(default=0, description="Largest response body.")
    total_bytes: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="Bytes up and down that one agent may move in a session."
    )
    response_types: list[StrictStr] = Field(
        default_factory=list, description="Content types responses may have, for example application/json."
    )
    response_findings: list[ResponseFindings] = Field(
        default_factory=list, description="Personal data and secrets that responses may not bring in."
    )
    archives: Literal["", "check", "deny"] = Field(
        default="",
        description="Archives in bodies, both ways: `check` opens them within bounds, `deny` refuses them.",
    )


Port = Annotated[StrictInt, Field(ge=0, le=65535)]


class Endpoint(_Model):
    """One destination and, when it has a protocol, the requests allowed there."""

    host: StrictStr = Field(
        default="", description="Name, IP literal or wildcard (`*.example.com`: one label, `**.`: many)."
    )
    port: Port = Field(default=0, description="Port; either this or `ports`.")
    ports: list[Port] = Field(default_factory=list, description="Several ports.")
    path: StrictStr = Field(default="", description="Glob that limits this entry to request paths.")
    protocol: StrictStr = Field(
        default="", description="tcp, rest, websocket, graphql, sql, json-rpc or mcp; absent: opaque."
    )
    tls: Literal["", "skip", "terminate", "passthrough"] = Field(
        default="",
        description="`skip`: never opened. The other two are deprecated: TLS is opened where inspection needs it.",
    )
    enforcement: Literal["", "enforce", "audit"] = Field(
        default="",
        description="`audit` forwards violations and records them. Absent: enforce (openshell semantics: audit).",
    )
    access: StrictStr = Field(default="", description="A preset instead of `rules`: read-only, read-write or full.")
    rules: list[AllowRule] | None = Field(default=None, description="Requests allowed.")
    deny_rules: list[RequestRule] | None = Field(default=None, description="Requests denied, whatever allows them.")
    allowed_ips: list[StrictStr] = Field(
        default_factory=list,
        description="Addresses and CIDRs the name may resolve to; private ones are reachable where listed here only.",
    )
    local: StrictBool = Field(
        default=False,
        description="The service runs on this machine: its name may lead to loopback (needs an exact host).",
    )
    allow_encoded_slash: StrictBool = Field(
        default=False, description="Keep `%2F` in path segments instead of denying it."
    )
    websocket_credential_rewrite: StrictBool = Field(
        default=False, description="Resolve placeholders in WebSocket texts."
    )
    request_body_credential_rewrite: StrictBool = Field(
        default=False, description="Resolve placeholders in REST bodies."
    )
    allow_uninspected_credentials: StrictBool = Field(
        default=False, description="Accept that credentials may pass where nothing can be inspected."
    )
    persisted_queries: Literal["", "deny", "allow_registered"] = Field(
        default="", description="GraphQL queries by hash."
    )
    graphql_persisted_queries: dict[str, PersistedQuery] | None = Field(
        default=None, description="Hash or id -> operation."
    )
    graphql_max_body_bytes: Annotated[StrictInt, Field(ge=0, le=MAX_BODY_BYTES)] = Field(
        default=0, description="Most bytes of a GraphQL body to read. 0: the default."
    )
    json_rpc: JsonRpcOptions | None = Field(default=None, description="Options of protocol json-rpc.")
    mcp: McpOptions | None = Field(default=None, description="Options of protocol mcp.")
    credential_signing: StrictStr = Field(default="", description="sigv4, sigv4:body or sigv4:no_body.")
    signing_service: StrictStr = Field(default="", description="AWS service name, needed with `credential_signing`.")
    signing_region: StrictStr = Field(default="", description="AWS region; absent: taken from the host name.")
    credential_binding: CredentialBinding | None = Field(
        default=None, description="The credential that may be used here."
    )
    upstream_tls: UpstreamTls | None = Field(default=None, description="Pins, lowest version, client certificate.")
    rate: Rate | None = Field(
        default=None, description="At most so many requests (connections, where they are passed unread) in a window."
    )
    content: ContentLimits | None = Field(default=None, description="Sizes, byte budget and types of bodies.")
    login: Literal["", "postgres", "imap", "smtp"] = Field(
        default="",
        description="The guard logs in there for the program, whose password is a placeholder (secrets: `where: [login]`).",
    )
    login_plain: StrictBool = Field(
        default=False, description="The server of `login` has no TLS (a network of your own)."
    )
    uninspected: StrictStr = Field(
        default="",
        description="Why traffic that cannot be inspected may pass here all the same; recorded with each pass.",
    )

    @property
    def all_ports(self) -> tuple[int, ...]:
        """The ports this entry covers; empty when none is given."""
        return tuple(dict.fromkeys(port for port in (self.ports or [self.port]) if port))


class Binary(_Model):
    """A program that may use the endpoints of a network policy."""

    path: StrictStr = Field(description="Absolute path of the executable; `*` within a directory, `**` across.")
    inherit: StrictBool = Field(
        default=False,
        description="Whether what this program starts may use the endpoints too (openshell semantics: always).",
    )
    script: StrictStr = Field(
        default="",
        description="Glob the script of an interpreter must match; what a process says of itself, so it only narrows.",
    )
    digest: StrictStr = Field(
        default="", pattern=r"^(sha256:[0-9a-f]{64})?$", description="Digest the executable must have."
    )
    harness: StrictBool = Field(default=False, description="Deprecated, without effect.")


class NetworkPolicy(_Model):
    """Named destinations and the programs that may reach them."""

    name: StrictStr = Field(default="", description="Name to show; absent: the key.")
    description: StrictStr = Field(default="", description="Why this access is needed.")
    endpoints: list[Endpoint] = Field(default_factory=list, description="Destinations.")
    binaries: list[Binary] | None = Field(
        default=None, description="Programs. Absent: any inside the sandbox (openshell semantics: none)."
    )


class EndpointSelector(_Model):
    """Hosts a middleware is applied to."""

    include: list[StrictStr] = Field(default_factory=list, description="Host patterns; at least one.")
    exclude: list[StrictStr] = Field(default_factory=list, description="Host patterns taken out again.")


class NetworkMiddleware(_Model):
    """A transformation of requests towards some hosts, in `order`."""

    name: StrictStr = Field(default="", description="Name to show; absent: the key.")
    middleware: StrictStr = Field(description="Implementation: `openshell/regex` is built in.")
    order: StrictInt = Field(default=0, description="Position; no two may share one.")
    config: dict[str, Any] = Field(default_factory=dict, description="Options of the implementation.")
    on_error: Literal["", "fail_closed", "fail_open"] = Field(default="", description="Absent: fail_closed.")
    endpoints: EndpointSelector | None = Field(default=None, description="Hosts it applies to; needed.")


NetworkPolicies = dict[str, NetworkPolicy]
NetworkMiddlewares = dict[str, NetworkMiddleware]
