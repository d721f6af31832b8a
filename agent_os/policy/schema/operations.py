"""`secrets`, `audit`, `rego`: where secrets come from and may go, what is recorded, engines beside ours. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from agent_os.policy.schema.base import Duration, Enforcement, Part, Size, Text, Who


class Secret(Part):
    """One secret, by name. The value is never in a policy; agents only ever hold a placeholder."""

    from_: Literal["env", "file", "keyring", "vault"] = Field(default="env", alias="from", description="Where it is.")
    key: Text | None = Field(default=None, description="Variable, file or entry name; absent: the secret's own name.")
    destinations: list[Text] = Field(default_factory=list, description="Hosts it may be sent to; globs. None: nowhere.")
    where: list[Literal["header", "query", "path", "body", "websocket", "basic", "login"]] = Field(
        default=["header", "basic"],
        description="Parts of a request it may stand in; `login`: the password of an endpoint with `login`.",
    )
    ask: bool = Field(default=False, description="A person is asked before it is used.")
    who: Who | None = Field(default=None, description="Only for these principals.")
    enforcement: Enforcement = Field(default="enforce", description="`audit` records only.")


Secrets = dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$")], Secret]


class AuditSink(Part):
    """A second place the audit is written to."""

    kind: Literal["file", "syslog", "otlp", "http"] = Field(description="Which.")
    target: Text = Field(description="Path or URL.")
    required: bool = Field(default=False, description="Whether actions wait for it too.")


class Audit(Part):
    """What is recorded and how long it is kept."""

    payloads: Literal["none", "encrypted"] = Field(default="none", description="Keep arguments and results, encrypted.")
    keep: Duration = Field(default=30 * 86400.0, description="How long payloads are kept.")
    retention: Duration = Field(default=400 * 86400.0, description="How long records are kept; at least 180 days.")
    level: Literal["decisions", "all"] = Field(default="all", description="`decisions`: no reads inside the workspace.")
    segment_bytes: Size = Field(default=64 * 2**20, description="Size at which a segment is closed.")
    checkpoint_every: Duration = Field(default=60.0, description="Time between signed checkpoints.")
    sinks: list[AuditSink] = Field(default_factory=list, description="Further places.")
    digest_only: list[Text] = Field(default_factory=list, description="Argument names never kept, even encrypted.")


class Tls(Part):
    """How an OPA server is authenticated."""

    ca: Text | None = Field(default=None, description="CA bundle beside the policy.")
    certificate: Text | None = Field(default=None, description="Secret name of the client certificate with key.")


class Rego(Part):
    """A Rego layer: modules evaluated in process, or an OPA server. It can only restrict."""

    name: Text | None = Field(default=None, description="Name of the layer; absent: its package or decision path.")
    path: Text | None = Field(default=None, description="A .rego file or a folder beside the policy.")
    inline: Annotated[str, Field(min_length=1, max_length=200_000)] | None = Field(
        default=None, description="The module itself."
    )
    opa: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = Field(default=None, description="An OPA server.")
    package: Text | None = Field(default=None, description="The package that holds allow, ask, deny, obligations.")
    decision: Text | None = Field(default=None, description="OPA: decision path, for example agentos/decision.")
    data: list[Text] = Field(default_factory=list, description="Names of `data:` sets given to it.")
    token: Text | None = Field(default=None, description="OPA: name of the secret with the bearer token.")
    tls: Tls | None = Field(default=None, description="OPA: mutual TLS.")
    timeout: Duration = Field(default=0.1, description="Deadline; a miss denies.")
    cache: Duration = Field(default=0.0, description="OPA: how long an answer to the same action is reused.")
    kinds: list[Text] = Field(default_factory=list, description="Only these kinds of action; empty: all.")

    @model_validator(mode="after")
    def _one_engine(self) -> Rego:
        if len([key for key in (self.path, self.inline, self.opa) if key is not None]) != 1:
            raise ValueError("needs exactly one of path, inline, opa")
        if self.opa is not None and self.decision is None and self.package is None:
            raise ValueError("opa needs decision or package")
        if self.opa is None and self.package is None:
            raise ValueError("needs package")
        return self

    @property
    def engine(self) -> str:
        """The `engine` of the ExternalVerdict that answers for this layer."""
        return "rego:" + (self.name or self.package or self.decision or "")
