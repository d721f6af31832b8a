"""The schema of a policy file: one strict pydantic model a section, every field described. Pure.

`PolicyFile` is the whole document. Its fields are the keys of the file; sections are governed by `policy/compile.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter

from agent_os.policy.schema.agents import Agents, Approvals, MemorySection, Messages, Schedules, Standing
from agent_os.policy.schema.base import Enforcement, Part, Text
from agent_os.policy.schema.filesystem import FilesystemPolicy, Landlock, Process
from agent_os.policy.schema.flow import Flow
from agent_os.policy.schema.models import Budgets, Models
from agent_os.policy.schema.network import NetworkMiddlewares, NetworkPolicies
from agent_os.policy.schema.operations import Audit, Rego, Secrets
from agent_os.policy.schema.privacy import PrivacySection
from agent_os.policy.schema.tools import DataSet, Tools

PackReference = Annotated[str, Field(pattern=r"^(pack:[a-z0-9][a-z0-9_-]{0,63}|[^\x00-\x1f]{1,1024})$")]


class Preset(Part):
    """Header of a NemoClaw preset file."""

    name: Text = Field(description="Name of the preset.")
    description: str = Field(default="", description="What it is for.")


class PolicyFile(Part):
    """A policy file. Nothing that is not allowed here may happen."""

    version: Literal[1] = Field(default=1, description="Version of the format.")
    name: Text | None = Field(default=None, description="Name of the policy; shown in rule ids of layers.")
    description: str | None = Field(default=None, description="What it is for.")
    revision: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Counts up; bundles refuse to go back."
    )
    semantics: Literal["strict", "openshell"] | None = Field(
        default=None, description="`strict` (default), or `openshell` to decide exactly as OpenShell does."
    )
    enforcement: Enforcement = Field(
        default="enforce", description="`audit`: a trial; what the file would deny is recorded and passes."
    )
    default: Literal["deny", "abstain"] = Field(
        default="deny",
        description="`abstain`: kinds of action that no rule of this file allows are left to the other layers.",
    )
    extends: list[PackReference] = Field(
        default_factory=list, description="Packs (pack:NAME) or files beside this one whose rules are added."
    )
    preset: Preset | None = Field(default=None, description="Header of a NemoClaw preset; informational.")
    filesystem_policy: FilesystemPolicy | None = Field(default=None, description="Files.")
    landlock: Landlock | None = Field(default=None, description="Kernel file rules.")
    process: Process | None = Field(default=None, description="Programs.")
    network_policies: NetworkPolicies | None = Field(default=None, description="Network, by named block.")
    network_middlewares: NetworkMiddlewares | None = Field(default=None, description="Inspection stages.")
    tools: Tools | None = Field(default=None, description="Tools by name or glob (`server/tool` for tool servers).")
    data: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], DataSet] = Field(
        default_factory=dict, description="Named sets that conditions refer to."
    )
    models: Models | None = Field(default=None, description="Language models.")
    privacy: PrivacySection | None = Field(default=None, description="Personal data and secrets.")
    flow: Flow | None = Field(default=None, description="Information flow.")
    budgets: Budgets | None = Field(default=None, description="Budgets.")
    agents: Agents | None = Field(default=None, description="Sub-agents.")
    schedules: Schedules | None = Field(default=None, description="Schedules.")
    approvals: Approvals | None = Field(default=None, description="People who are asked.")
    standing: Annotated[list[Standing], Field(max_length=1000)] | None = Field(
        default=None, description="Answers that were given for always."
    )
    messages: Messages | None = Field(default=None, description="Messages.")
    memory: MemorySection | None = Field(default=None, description="Memory of agents.")
    secrets: Secrets | None = Field(default=None, description="Secrets by name.")
    audit: Audit | None = Field(default=None, description="The record.")
    rego: list[Rego] | None = Field(default=None, description="Rego layers and OPA servers.")


KEYS: Final = tuple(PolicyFile.model_fields)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a policy file, as `agentos policy schema` prints it."""
    schema = TypeAdapter(PolicyFile).json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = "https://agent-os.example/schema/policy-1.json"
    schema["title"] = "Agent OS policy file"
    return schema
