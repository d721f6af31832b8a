"""The tool manifest (`tool.yaml`): what a tool's call means, as its publisher states it and an operator accepts it.

Registry = code and digest; manifest = semantics; policy `tools:` = permission. A tool without a manifest is treated as
the worst case (`Manifest.worst_case`): every argument is authority, every result untrusted, the effect `execute`.
Pure: pydantic values, no I/O.
"""

from __future__ import annotations

import enum
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
    model_config = ConfigDict(extra="forbid", frozen=True)


class Argument(_Part):
    """One argument of a tool."""

    role: Role = Role.AUTHORITY
    type: Literal["any", "path", "url", "host", "email", "iban", "id", "text", "number", "date", "password"] = "any"
    description: str = ""
    vouched_by: tuple[Literal["prompt", "trusted-result", "own-creation", "known-principal"], ...] = (
        "prompt",
        "trusted-result",
        "own-creation",
    )


class Result(_Part):
    """How a part of a tool's result is labelled; keys of `results` are JSON paths such as `$.items[*].sender`."""

    integrity: Literal["untrusted", "known", "trusted"] = "untrusted"
    confidentiality: Literal["public", "readers", "secret"] = "public"
    identity: bool = Field(default=False, description="an authenticated identity: who said it, not what may be done")
    handle: bool = Field(default=False, description="a short id that later calls may use")
    readers: tuple[str, ...] = ()


class Needs(_Part):
    """What a tool server asks of its sandbox; the policy must grant each part as well."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    memory_mb: int = Field(default=256, ge=16, le=65536)


class ToolSpec(_Part):
    """The semantics of one tool."""

    name: str
    description: str = ""
    effect: Effect = Effect.EXECUTE
    arguments: dict[str, Argument] = Field(default_factory=dict)
    results: dict[str, Result] = Field(default_factory=dict)
    reversible: bool = False
    idempotent: bool = False
    sandboxed: bool = Field(default=False, description="runs as a tool server in the sandbox, not in this process")
    input_schema: dict[str, Any] | None = None
    output_bytes_max: int = Field(default=1_000_000, ge=1)

    @staticmethod
    def worst_case(name: str) -> ToolSpec:
        """Return the semantics assumed of a tool nobody described."""
        return ToolSpec(name=name)


class Manifest(_Part):
    """One `tool.yaml`: a server and its tools."""

    version: Literal[1] = 1
    name: str
    description: str = ""
    server: tuple[str, ...] = Field(default=(), description="argv of the MCP server over stdio, relative to the pack")
    needs: Needs = Field(default_factory=Needs)
    tools: tuple[ToolSpec, ...] = ()
