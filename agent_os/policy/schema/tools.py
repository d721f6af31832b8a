"""`tools`: which tools may be called, with which arguments. `data`: named sets that conditions refer to.

A condition on an argument is a scalar (equals), a mapping of operators (AND) or a list of either (OR). Pure.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from agent_os.policy.schema.base import Count, Enforcement, Part, Rate, Scalar, Text, Who

Reference = Annotated[str, Field(pattern=r"^data\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", description="data.NAME.FIELD")]
Normal = Literal["text", "lower", "iban", "email", "host", "path", "digits"]


class Length(Part):
    """Bounds on a length: characters of a text, items of a list, keys of an object."""

    min: Count | None = Field(default=None, description="Least length.")
    max: Count | None = Field(default=None, description="Greatest length.")


class Test(Part):
    """Operators on one argument; all that are given must hold.

    On a list argument a test of an allow must hold for every item, a test of an ask or deny for any item.
    """

    equals: Any = Field(default=None, description="The exact JSON value.")
    glob: Text | list[Text] | None = Field(
        default=None,
        description="A glob over the whole text. In an allow `*` stops at `/` (use `**`); in an ask or deny not.",
    )
    regex: Text | None = Field(default=None, description="An RE2 pattern over the whole text (linear time).")
    min: float | None = Field(default=None, description="Least number, inclusive.")
    max: float | None = Field(default=None, description="Greatest number, inclusive.")
    above: float | None = Field(default=None, description="The number must be greater than this.")
    below: float | None = Field(default=None, description="The number must be less than this.")
    in_: list[Scalar] | Reference | None = Field(
        default=None, alias="in", description="One of these values, or of a set of `data:` (data.suppliers.iban)."
    )
    not_in: list[Scalar] | Reference | None = Field(default=None, description="None of these values.")
    under: Text | list[Text] | None = Field(
        default=None, description="A path at or below this one; relative paths are taken against the workspace."
    )
    host_in: list[Text] | Reference | None = Field(
        default=None, description="The host of a URL, an e-mail address or a host name matches one of these."
    )
    not_host_in: list[Text] | Reference | None = Field(default=None, description="The host matches none of these.")
    length: Length | Count | None = Field(default=None, description="Exact length or bounds.")
    type: Literal["string", "number", "integer", "boolean", "array", "object", "null"] | None = Field(
        default=None, description="The JSON type of the argument."
    )
    json_schema: dict[str, Any] | None = Field(default=None, description="A JSON Schema (2020-12) it must satisfy.")
    present: bool | None = Field(default=None, description="Whether the argument must be there (true) or not (false).")
    absent: bool | None = Field(default=None, description="Whether the argument must be missing.")
    as_: Normal | None = Field(
        default=None, alias="as", description="Bring both sides to one spelling first: iban, email, host, path, …"
    )
    fields: dict[str, Condition] | None = Field(default=None, description="Conditions on the fields of an object.")
    every: Condition | None = Field(default=None, description="A condition on every item of a list.")
    some: Condition | None = Field(default=None, description="A condition on at least one item of a list.")
    not_: Condition | None = Field(default=None, alias="not", description="The condition must not hold.")

    @model_validator(mode="after")
    def _says_something(self) -> Test:
        if not self.model_fields_set - {"as_"}:
            raise ValueError("an empty condition says nothing; write `present: true` for 'any value'")
        return self


def _shape(value: Any) -> str:
    if isinstance(value, (dict, Test)):
        return "test"
    return "any-of" if isinstance(value, list) else "equals"


Alternative = Annotated[
    Annotated[Test, Tag("test")] | Annotated[Scalar, Tag("equals")],
    Discriminator(lambda value: "test" if isinstance(value, (dict, Test)) else "equals"),
]
Condition = Annotated[
    Annotated[Test, Tag("test")] | Annotated[list[Alternative], Tag("any-of"), Field(min_length=1)]
    | Annotated[Scalar, Tag("equals")],
    Discriminator(_shape),
]  # fmt: skip
Arguments = dict[str, Condition]


def _clause_shape(value: Any) -> str:
    if isinstance(value, bool):
        return "flag"
    return "any-of" if isinstance(value, list) else "arguments"


Clause = Annotated[
    Annotated[bool, Tag("flag")] | Annotated[Arguments, Tag("arguments")]
    | Annotated[list[Arguments], Tag("any-of"), Field(min_length=1)],
    Discriminator(_clause_shape),
]  # fmt: skip


class Rule(Part):
    """The long form of a rule: exactly one of allow, ask, deny, with who it is for and why it is there."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = Field(
        default=None, description="A name for the rule, used in its id instead of its position."
    )
    allow: Clause | None = Field(default=None, description="Allow when the arguments match.")
    ask: Clause | None = Field(default=None, description="Ask a person when the arguments match.")
    deny: Clause | None = Field(default=None, description="Deny when the arguments match.")
    who: Who | None = Field(default=None, description="Only for these principals.")
    enforcement: Enforcement = Field(default="enforce", description="`audit` records a violation and lets it pass.")
    reason: Text | None = Field(default=None, description="What the agent and the operator are told.")
    cites: list[Text] = Field(default_factory=list, description="Controls this rule answers, for example ASI02.")

    @model_validator(mode="after")
    def _one_effect(self) -> Rule:
        _empty_verdict(self)
        if len([name for name in ("allow", "ask", "deny") if getattr(self, name) is not None]) != 1:
            raise ValueError("needs exactly one of allow, ask, deny")
        return self


class Tool(Part):
    """What one tool (or every tool that a pattern names) may do. Nothing said means denied."""

    allow: Clause | None = Field(default=None, description="`true`, or conditions under which a call is allowed.")
    ask: Clause | None = Field(default=None, description="`true`, or conditions under which a person is asked.")
    deny: Clause | None = Field(default=None, description="`true`, or conditions under which a call is denied.")
    rules: list[Rule] = Field(default_factory=list, description="Rules in the long form.")
    who: Who | None = Field(default=None, description="The short-form rules are only for these principals.")
    enforcement: Enforcement = Field(default="enforce", description="`audit`: asks and denies are recorded only.")
    reason: Text | None = Field(default=None, description="What is told when ask or deny matches.")
    rate: Rate | None = Field(default=None, description="A limit on calls.")
    destination: Literal["local", "private", "external"] | None = Field(
        default=None,
        description="Where the arguments go, for the privacy section; absent: local for the runtime's own tools, "
        "external for tools of a server.",
    )

    @model_validator(mode="after")
    def _verdicts(self) -> Tool:
        _empty_verdict(self)
        return self


def _empty_verdict(part: Tool | Rule) -> None:
    """A verdict with nothing behind it is a slip: an empty `deny` would deny nothing."""
    for name in ("allow", "ask", "deny"):
        if name in part.model_fields_set and getattr(part, name) is None:
            raise ValueError(f"{name} is empty: write true, or conditions")


ToolName = Annotated[str, Field(pattern=r"^[^\s\x00-\x1f]{1,256}$")]
Tools = dict[ToolName, Tool]


class DataFile(Part):
    """A named set: a file beside the policy (YAML, JSON or CSV), or values in place."""

    file: Text | None = Field(default=None, description="A path beside the policy file; no `..`, no absolute path.")
    values: list[Any] | dict[str, Any] | None = Field(default=None, description="The values themselves.")

    @model_validator(mode="after")
    def _one_source(self) -> DataFile:
        if (self.file is None) == (self.values is None):
            raise ValueError("needs exactly one of file, values")
        return self


DataSet = Annotated[
    Annotated[DataFile, Tag("mapping")] | Annotated[list[Any], Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "mapping"),
]
Test.model_rebuild(_types_namespace={"Condition": Condition})
