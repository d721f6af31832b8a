"""The tool manifest (`tool.yaml`): what a tool's call means, as its publisher states it and an operator accepts it.

Registry = code and digest; manifest = semantics; policy `tools:` = permission. A tool without a manifest is treated as
the worst case (`ToolSpec.worst_case`): every argument is authority, every result untrusted, the effect `execute`;
`guards/flow/derive.py` drafts something narrower from a schema, for a person to accept.
A manifest describes a tool and never a task. Pure: pydantic values, no I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Effect(enum.StrEnum):
    """What a call does to the world, from harmless to grave."""

    READ = "read"
    WRITE_OWN = "write-own"
    WRITE_SHARED = "write-shared"
    SEND = "send"
    PAY = "pay"
    EXECUTE = "execute"
    CREDENTIAL = "credential"


class Role(enum.StrEnum):
    """What an argument is for."""

    AUTHORITY = "authority"
    """Who receives, which account, URL, file, id: decides where an effect goes."""
    PAYLOAD = "payload"
    """What is carried: text, amounts, bodies."""
    HANDLE = "handle"
    """A short id handed out by an earlier result."""
    SELECTOR = "selector"
    """Chooses what is read; never changes anything."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


ArgumentType = Literal[
    "any", "path", "url", "host", "email", "iban", "id", "name", "text", "number", "date", "password", "code"
]
Voucher = Literal["prompt", "trusted-result", "own-creation", "known-principal"]


class Argument(_Part):
    """One argument of a tool. An object or a list is judged leaf by leaf with the role of the argument it stands in."""

    role: Role = Role.AUTHORITY
    type: ArgumentType = "any"
    description: str = ""
    vouched_by: tuple[Voucher, ...] = Field(
        default=("prompt", "trusted-result", "own-creation", "known-principal"),
        description="what may vouch for the value: the user's prompt, a trusted result field that the prompt leads to, "
        "something this session created itself, an authenticated principal the user has dealt with before",
    )


class Result(_Part):
    """How a part of a tool's result is labelled.

    Keys of `results` are paths such as `$[*].sender`, `$.items[*].id`, `$.*` and, for the keys of an object, `$.*~`; the
    longest one that fits a leaf holds, and what no path fits is untrusted.
    """

    integrity: Literal["untrusted", "known", "trusted"] = "untrusted"
    confidentiality: Literal["public", "readers", "secret"] = "public"
    identity: bool = Field(default=False, description="an authenticated identity: who said it, not what may be done")
    handle: bool = Field(default=False, description="a short id that later calls may use")
    readers: tuple[str, ...] = ()
    mine_if: str = Field(
        default="",
        description="name of a sibling field; where it holds the principal, this part was the principal's own doing "
        "and names people the principal has dealt with",
    )


class Needs(_Part):
    """What a tool server asks of its sandbox; the policy must grant each part as well."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    hosts: tuple[str, ...] = Field(
        default=(), description="Hosts it may reach: globs, or `$NAME` for the host in a variable of `environment`."
    )
    secrets: tuple[str, ...] = Field(default=(), description="Secrets it gets as placeholders, never as values.")
    environment: tuple[str, ...] = ()
    packages: tuple[str, ...] = Field(
        default=(),
        description="Installed Python distributions that it imports, shown read-only; missing ones are left out.",
    )
    memory_mb: int = Field(default=256, ge=16, le=65536)

    def with_hosts_of(self, variables: Mapping[str, str]) -> Needs:
        """Return the needs with hosts taken from variables; one that is not set names no host."""
        named = (
            variables.get(host[1:], "") if host[1:] in self.environment else ""
            for host in self.hosts
            if host[:1] == "$"
        )
        plain = tuple(host for host in self.hosts if host[:1] != "$")
        return self.model_copy(update={"hosts": (*plain, *(host.strip().lower() for host in named if host.strip()))})


class ToolSpec(_Part):
    """The semantics of one tool."""

    name: str
    description: str = ""
    effect: Effect = Effect.EXECUTE
    verbs: tuple[str, ...] = Field(
        default=(), description="words by which a person asks for this effect; default: those of the tool's name"
    )
    objects: tuple[str, ...] = Field(
        default=(), description="words for what the effect is done to; default: those of the tool's name and arguments"
    )
    arguments: dict[str, Argument] = Field(default_factory=dict)
    results: dict[str, Result] = Field(default_factory=dict)
    form: Literal["", "csv", "tsv", "xml"] = Field(
        default="",
        description="how a text result is written where that has to be said: its tool quotes what stands in a cell or an "
        "element. JSON, JSON lines, YAML, Python's notation and MCP's content blocks are read without it",
    )
    reversible: bool = False
    idempotent: bool = False
    sandboxed: bool = Field(default=False, description="runs as a tool server in the sandbox, not in this process")
    input_schema: dict[str, Any] | None = None
    output_bytes_max: int = Field(default=1_000_000, ge=1)
    derived: bool = Field(default=False, description="a draft made from names, accepted by nobody")

    @staticmethod
    def worst_case(name: str) -> ToolSpec:
        """Return the semantics assumed of a tool nobody described."""
        return ToolSpec(name=name)

    def argument(self, name: str) -> Argument:
        """Return what an argument is for; one the manifest does not name is authority."""
        return self.arguments.get(name, UNDESCRIBED)


UNDESCRIBED = Argument()


class Manifest(_Part):
    """One `tool.yaml`: a server and its tools."""

    version: Literal[1] = 1
    name: str
    description: str = ""
    server: tuple[str, ...] = Field(default=(), description="argv of the MCP server over stdio, relative to the pack")
    needs: Needs = Field(default_factory=Needs)
    tools: tuple[ToolSpec, ...] = ()
