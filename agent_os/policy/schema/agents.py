"""`agents`, `schedules`, `approvals`, `messages`, `memory`: agents as processes and the people they ask. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from agent_os.policy.schema.base import Amount, Count, Duration, Enforcement, Part, Text, Who
from agent_os.policy.schema.tools import Arguments

Operation = Literal["create", "change", "remove", "pause", "resume"]


class AgentBudget(Part):
    """What an agent may use; carved out of its parent's, never copied."""

    tokens: Amount | None = Field(default=None, description="Tokens in and out.")
    usd: Amount | None = Field(default=None, description="US dollars.")
    calls: Amount | None = Field(default=None, description="Calls of models and tools.")
    bytes: Amount | None = Field(default=None, description="Bytes sent out.")
    seconds: Amount | None = Field(default=None, description="Wall time.")
    steps: Amount | None = Field(default=None, description="Steps.")


class AgentRole(Part):
    """What a sub-agent of this role may do, always within what its parent may do."""

    description: str = Field(default="", description="What the role is for.")
    prompt: str | None = Field(default=None, description="System prompt of the role.")
    tools: list[Text] | None = Field(default=None, description="Tools it may call; globs. Absent: none.")
    models: list[Text] | None = Field(default=None, description="Models it may call; globs. Absent: the parent's.")
    read: list[Text] | None = Field(default=None, description="Paths it may read. Absent: none.")
    write: list[Text] | None = Field(default=None, description="Paths it may write. Absent: none.")
    hosts: list[Text] | None = Field(default=None, description="Hosts it may reach. Absent: none.")
    secrets: list[Text] = Field(default_factory=list, description="Secrets it may use.")
    may_spawn: list[Text] = Field(default_factory=list, description="Roles it may start.")
    budgets: AgentBudget | None = Field(default=None, description="Most it may use.")
    max_children: Count | None = Field(default=None, description="Children at once.")
    ask: bool = Field(default=False, description="A person is asked before it starts.")


class Agents(Part):
    """Which sub-agents may be started. Without this section none may."""

    max_depth: Annotated[int, Field(ge=0, le=16)] = Field(default=1, description="Generations below the root agent.")
    max_children: Annotated[int, Field(ge=0, le=10_000)] = Field(default=8, description="Live children of one agent.")
    max_total: Annotated[int, Field(ge=1, le=100_000)] = Field(default=64, description="Agents of one task in all.")
    roles: dict[Text, AgentRole] = Field(default_factory=dict, description="Roles that may be started; `*`: any.")
    messages: bool = Field(default=True, description="Whether agents of one task may message each other.")


class ScheduleRule(Part):
    """Which schedules."""

    name: Text = Field(default="*", description="Glob of the schedule's name.")
    roles: list[Text] = Field(default_factory=list, description="Roles it may run as; globs. Empty: any.")
    operations: list[Operation] = Field(default_factory=list, description="Only these operations. Empty: all.")
    min_interval: Duration | None = Field(default=None, description="Least time between two runs.")
    who: Who | None = Field(default=None, description="Only for these principals.")
    enforcement: Enforcement = Field(default="enforce", description="`audit` records only.")
    reason: Text | None = Field(default=None, description="What is told.")


class Schedules(Part):
    """Schedules that agents and users may create. Without this section none may."""

    allow: list[ScheduleRule] = Field(default_factory=list, description="Allowed.")
    ask: list[ScheduleRule] = Field(default_factory=list, description="A person is asked.")
    deny: list[ScheduleRule] = Field(default_factory=list, description="Denied.")
    min_interval: Duration | None = Field(default=None, description="Least time between runs of any schedule.")
    max_active: Count | None = Field(default=None, description="Active schedules of one owner.")
    missed: Literal["skip", "once", "all"] = Field(default="once", description="What happens to missed runs.")
    catch_up: Count = Field(default=10, description="Most missed runs made up for.")
    overlap: Literal["skip", "queue", "cancel"] = Field(default="skip", description="When a run meets the one before.")
    budgets: AgentBudget | None = Field(default=None, description="Budget of each run.")


class TwoPerson(Part):
    """When two different people must approve."""

    when: Arguments | list[Arguments] | None = Field(
        default=None, description="Conditions on arguments; absent: always."
    )
    rules: list[Text] = Field(default_factory=list, description="Only asks of these rules; globs of rule ids.")


class Approvals(Part):
    """How asks are answered."""

    timeout: Duration = Field(default=900.0, description="After this an unanswered ask is denied.")
    approvers: list[Text] = Field(default_factory=list, description="Who may answer: user ids, globs, group:NAME.")
    two_person: TwoPerson | None = Field(default=None, description="When two people are needed.")
    requester_may_approve: bool = Field(default=True, description="Whether the user the agent works for may answer.")
    allow_edit: bool = Field(default=True, description="Whether arguments may be edited (decided again).")
    allow_session: bool = Field(default=False, description="Whether 'for this session' may be chosen.")
    allow_always: bool = Field(default=False, description="Whether an answer may write a policy overlay.")
    on_timeout: Literal["deny"] = Field(default="deny", description="What a timeout means.")
    max_waiting: Annotated[int, Field(ge=1)] = Field(default=1000, description="Asks waiting at once per tenant.")


class StandingWho(Part):
    """Whose calls are covered."""

    tenant: Text = Field(default="default", description="Tenant.")
    user: Text = Field(description="User, exactly.")
    agent: Annotated[list[Text], Field(min_length=1, max_length=64)] = Field(
        default=["main"], description="The agent with its parents, the root first."
    )


class Standing(Part):
    """An answer that was given for always, as `agentos approvals overlay` writes it: it discharges the asks it names within
    what it states, and allows nothing by itself. It counts for the asks of its own layer, where `allow_always` is set.
    """

    asks: Annotated[list[Text], Field(min_length=1, max_length=64)] = Field(description="Rules whose ask it answers.")
    kind: Text = Field(description="Kind of action.")
    target: str = Field(description="What it is aimed at, exactly.")
    who: StandingWho = Field(description="Whose calls.")
    tool_digest: str = Field(default="", description="The tool's code and manifest, as they were.")
    equal: dict[str, Any] = Field(default_factory=dict, description="Arguments that must be equal.")
    at_most: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="Numbers that may be smaller."
    )
    free: list[Text] = Field(default_factory=list, description="Texts that may differ. Other arguments: none.")
    until: Annotated[float, Field(gt=0)] = Field(description="When it ends, Unix seconds.")
    approvers: Annotated[list[Text], Field(min_length=1)] = Field(description="Who gave it.")
    id: Text = Field(description="The grant it was.")


class MessageRule(Part):
    """Which messages. For allow every recipient must match, for ask and deny any."""

    to: list[Text] = Field(default_factory=lambda: ["*"], description="Recipients; globs.")
    channel: list[Text] | Text = Field(default="agent", description="Channels, for example agent, email; globs.")
    who: Who | None = Field(default=None, description="Only for these principals.")
    enforcement: Enforcement = Field(default="enforce", description="`audit` records only.")
    reason: Text | None = Field(default=None, description="What is told.")


class Messages(Part):
    """Messages to people and agents. Without this section none may be sent, except between agents of a task."""

    allow: list[MessageRule] = Field(default_factory=list, description="Allowed.")
    ask: list[MessageRule] = Field(default_factory=list, description="A person is asked.")
    deny: list[MessageRule] = Field(default_factory=list, description="Denied.")


class Memory(Part):
    """What agents may remember. `memory: allow` is any key, `memory: deny` none."""

    read: list[Text] = Field(default_factory=list, description="Keys that may be read; globs.")
    write: list[Text] = Field(default_factory=list, description="Keys that may be written; globs.")
    ask: list[Text] = Field(default_factory=list, description="Keys whose writing asks a person; globs.")
    deny: list[Text] = Field(default_factory=list, description="Keys neither read nor written; globs.")
    keep: Duration | None = Field(default=None, description="How long entries are kept.")
    max_bytes: Count | None = Field(default=None, description="Greatest entry.")


def _memory_shape(value: Any) -> str:
    return "word" if isinstance(value, str) else "settings"


MemorySection = Annotated[
    Annotated[Memory, Tag("settings")] | Annotated[Literal["allow", "deny"], Tag("word")],
    Discriminator(_memory_shape),
]
