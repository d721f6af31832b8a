"""Every effect is an Action: a closed union of canonical, frozen values. Pure: no clock, no I/O.

`Action.parse` is the one way in from untrusted data (a tool call, a line of JSON, a request off the wire): it
canonicalises every field or raises `ActionError`, so that two spellings of one thing are one Action (law 6).
The digest is SHA-256 over the RFC 8785 form of (schema, principal, kind, arguments, tool digest): it is what an
approval binds to. Facts a kind needs (`binary`, `ancestors`, `resolved_ips`, …) may stand beside the arguments in
the wire form; they end up in `stated`, never in the digest, and the monitor ignores them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Final

from agent_os.core import canonical, wire
from agent_os.core.errors import ActionError
from agent_os.core.principal import ANONYMOUS, Principal
from agent_os.core.stated import STATED, take_stated
from agent_os.core.wire import Json

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """The common part of every action. Build one through `Action.parse`, or a subclass from canonical values."""

    kind: ClassVar[str] = ""
    principal: Principal = ANONYMOUS
    tool_digest: str = ""
    """Digest of the tool's code and manifest, from the registry; never from a caller."""
    call_id: str = field(default="", compare=False)
    """The model's id of the call, for idempotency; not part of the digest."""
    stated: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    _digest: str = field(default="", init=False, compare=False, repr=False)

    @property
    def arguments(self) -> dict[str, Json]:
        """The canonical arguments, as plain JSON."""
        return {name: _plain(getattr(self, name)) for name in _ARGUMENTS[self.kind]}

    @property
    def target(self) -> str:
        """What the action is aimed at: the index key of policies and the scope of capabilities."""
        return ""

    @property
    def digest(self) -> str:
        """`sha256:` and 64 hex digits; computed once."""
        if not self._digest:
            # The canonical form of [SCHEMA, principal, kind, arguments, tool digest], with the principal's part kept.
            rest = canonical.json_bytes([self.kind, self.arguments, self.tool_digest])
            form = b"[%d,%b,%b" % (SCHEMA, self.principal.canonical, rest[1:])
            object.__setattr__(self, "_digest", "sha256:" + hashlib.sha256(form).hexdigest())
        return self._digest

    def to_json(self) -> dict[str, Json]:
        """Return the wire form without stated facts: `Action.parse(a.to_json()) == a`."""
        return {"schema": SCHEMA, "kind": self.kind, "principal": self.principal.to_json(), **self.arguments}

    def rewritten(self, **changes: Any) -> Action:
        """Return a new action with changed arguments, to be decided again (law 9)."""
        return replace(self, **changes)

    @staticmethod
    def parse(data: Mapping[str, Any], *, workspace: str = "/workspace", principal: Principal | None = None) -> Action:
        """Return the canonical action of a wire form.

        `workspace` is the absolute path that relative paths are resolved against. `principal` given here wins
        over one in the data (the caller of the SDK is authenticated, the data is not).
        Raises ActionError naming the field for an unknown kind, schema or key, a wrong type, or anything that
        cannot be made canonical.
        """
        if not isinstance(data, Mapping):
            raise ActionError("must be an object", field="action")
        schema = data.get("schema", SCHEMA)
        if schema != SCHEMA or isinstance(schema, bool):
            raise ActionError("unknown schema version", field="schema", hint=f"this runtime speaks {SCHEMA}")
        kind = data.get("kind")
        cls = KINDS.get(kind) if isinstance(kind, str) else None
        if cls is None:
            raise ActionError("unknown kind of action", field="kind", hint="one of " + ", ".join(KINDS))
        stated: dict[str, Any] = {}
        values: dict[str, Any] = {}
        rest = dict(data)
        for key in ("schema", "kind"):
            rest.pop(key, None)
        given = rest.pop("principal", None)
        if principal is None:
            principal = Principal.parse(given) if isinstance(given, Mapping) else ANONYMOUS
            if given is not None and not isinstance(given, Mapping):
                raise ActionError("must be an object", field="principal")
        values["call_id"] = canonical.text(rest.pop("call_id", ""), field="call_id")
        take_stated(rest, stated)
        parsers = cls._parsers()
        for key, parser in parsers.items():
            if key in rest:
                values[key] = parser(rest.pop(key), key, workspace)
        if rest:
            unknown = sorted(rest)[0]
            hint = canonical.nearest(unknown, [*parsers, *STATED])
            raise ActionError(f"unknown key {unknown!r} for {kind}", field=unknown, hint=hint)
        missing = sorted(name for name in _REQUIRED[cls.kind] if name not in values)
        if missing:
            raise ActionError(f"missing for {kind}", field=missing[0])
        return cls(principal=principal, stated=stated, **values)._checked()

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {}

    def _checked(self) -> Action:
        """Return this action, or a canonical variant, after checks across fields."""
        return self


def _plain(value: Any) -> Json:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(Action):
    """A call of a registered tool. `args` is what the tool receives; `server` is the tool server's name."""

    kind: ClassVar[str] = "tool.call"
    tool: str
    args: Mapping[str, Json] = field(default_factory=dict)
    server: str = ""

    @property
    def target(self) -> str:
        return f"{self.server}/{self.tool}" if self.server else self.tool

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {"tool": wire.name, "args": wire.mapping, "server": wire.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class _FsAction(Action):
    path: str

    @property
    def target(self) -> str:
        return self.path

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {"path": wire.path}


@dataclass(frozen=True, slots=True, kw_only=True)
class FsRead(_FsAction):
    """Reading a file. `path` is absolute and canonical, symlinks already resolved."""

    kind: ClassVar[str] = "fs.read"


@dataclass(frozen=True, slots=True, kw_only=True)
class FsWrite(_FsAction):
    """Creating or replacing a file; `size` in bytes and `content_digest` bind an approval to the content."""

    kind: ClassVar[str] = "fs.write"
    size: int = 0
    content_digest: str = ""

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {"path": wire.path, "size": wire.count, "content_digest": wire.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class FsList(_FsAction):
    """Listing a directory."""

    kind: ClassVar[str] = "fs.list"


@dataclass(frozen=True, slots=True, kw_only=True)
class FsDelete(_FsAction):
    """Removing a file or an empty directory."""

    kind: ClassVar[str] = "fs.delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConnect(Action):
    """A connection to a host and port. `host` is a canonical name or IP literal."""

    kind: ClassVar[str] = "net.connect"
    host: str
    port: int
    transport: str = "tcp"

    @property
    def target(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {"host": wire.host, "port": wire.port, "transport": wire.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetRequest(NetConnect):
    """One application-level request. `path` is canonical, `query` decoded name -> values.

    `jsonrpc` is one parsed call or a list of them (a batch), `graphql` is `{"operations": [...]}`; both may be
    derived from `body` by the network guard. `body_digest` binds to the bytes sent.
    """

    kind: ClassVar[str] = "net.request"
    method: str
    path: str = "/"
    scheme: str = "https"
    query: Mapping[str, Json] = field(default_factory=dict)
    headers: Mapping[str, Json] = field(default_factory=dict)
    body: Json = None
    jsonrpc: Json = None
    graphql: Json = None
    body_digest: str = ""
    size: int = 0

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {
            **NetConnect._parsers(),
            "scheme": wire.text,
            "method": wire.method,
            "path": wire.request_path,
            "query": wire.query,
            "headers": wire.headers,
            "body": wire.json,
            "jsonrpc": wire.json,
            "graphql": wire.json,
            "body_digest": wire.text,
            "size": wire.count,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall(Action):
    """A call of a language model. `messages` is the provider-neutral list; `tools` the names offered to it.

    `input_tokens` is an estimate, `max_tokens` the most the answer may have (0: not stated).
    """

    kind: ClassVar[str] = "model.call"
    model: str
    provider: str = ""
    messages: Json = None
    tools: tuple[str, ...] = ()
    input_tokens: int = 0
    max_tokens: int = 0
    purpose: str = ""

    @property
    def target(self) -> str:
        return self.model

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {
            "model": wire.name,
            "provider": wire.name,
            "messages": wire.json,
            "tools": wire.names,
            "input_tokens": wire.count,
            "max_tokens": wire.count,
            "purpose": wire.text,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessExec(Action):
    """Starting a program. `argv` is exact; `binary` is the resolved absolute executable, `cwd` absolute."""

    kind: ClassVar[str] = "process.exec"
    argv: tuple[str, ...]
    binary_path: str = ""
    cwd: str = ""
    env: Mapping[str, Json] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return self.binary_path or (self.argv[0] if self.argv else "")

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {
            "argv": wire.argv,
            "binary_path": wire.path,
            "cwd": wire.path,
            "env": wire.environment,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpawn(Action):
    """Starting a sub-agent. `capabilities` and `budgets` are what it asks for, never more than the parent's."""

    kind: ClassVar[str] = "agent.spawn"
    role: str
    task: str = ""
    capabilities: Json = None
    budgets: Mapping[str, Json] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return self.role

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {"role": wire.name, "task": wire.opaque_text, "capabilities": wire.json, "budgets": wire.mapping}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSchedule(Action):
    """Creating, changing or removing a schedule. `when` is the trigger as written, `given` the data its runs begin with."""

    kind: ClassVar[str] = "task.schedule"
    name: str
    when: Json = None
    task: str = ""
    role: str = ""
    operation: str = "create"
    given: Json = None

    @property
    def target(self) -> str:
        return self.name

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {
            "name": wire.name,
            "when": wire.json,
            "task": wire.opaque_text,
            "role": wire.name,
            "operation": wire.name,
            "given": wire.json,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUse(Action):
    """Using a secret by name towards a destination; the value never enters an action."""

    kind: ClassVar[str] = "secret.use"
    name: str
    destination: str = ""

    @property
    def target(self) -> str:
        return self.name

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {"name": wire.name, "destination": wire.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSend(Action):
    """A message to a person or another agent. `to` are canonical recipients."""

    kind: ClassVar[str] = "message.send"
    to: tuple[str, ...]
    channel: str = "agent"
    body: Json = None

    @property
    def target(self) -> str:
        return self.channel

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {"to": wire.names, "channel": wire.name, "body": wire.json}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRead(Action):
    """Reading an agent's memory."""

    kind: ClassVar[str] = "memory.read"
    key: str

    @property
    def target(self) -> str:
        return self.key

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {"key": wire.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryWrite(MemoryRead):
    """Writing an agent's memory; what is remembered keeps its label for ever."""

    kind: ClassVar[str] = "memory.write"
    value: Json = None

    @classmethod
    def _parsers(cls) -> dict[str, Callable[[Any, str, str], Any]]:
        return {"key": wire.name, "value": wire.json}


_UNION: Final[tuple[type[Action], ...]] = (
    ToolCall, FsRead, FsWrite, FsList, FsDelete, NetConnect, NetRequest, ModelCall, ProcessExec,
    AgentSpawn, TaskSchedule, SecretUse, MessageSend, MemoryRead, MemoryWrite,
)  # fmt: skip
KINDS: Final[Mapping[str, type[Action]]] = {cls.kind: cls for cls in _UNION}
_COMMON: Final = frozenset(item.name for item in fields(Action))
_ARGUMENTS: Final = {cls.kind: tuple(item.name for item in fields(cls) if item.name not in _COMMON) for cls in _UNION}
_REQUIRED: Final = {
    "tool.call": ("tool",), "fs.read": ("path",), "fs.write": ("path",), "fs.list": ("path",), "fs.delete": ("path",),
    "net.connect": ("host", "port"), "net.request": ("host", "port", "method"), "model.call": ("model",),
    "process.exec": ("argv",), "agent.spawn": ("role",), "task.schedule": ("name",), "secret.use": ("name",),
    "message.send": ("to",), "memory.read": ("key",), "memory.write": ("key",),
}  # fmt: skip
