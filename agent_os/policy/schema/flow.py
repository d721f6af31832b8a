"""`flow`: what untrusted text may bring about, and where secret data may go. Pure."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agent_os.policy.schema.base import Duration, Enforcement, Part, Text, Who

Answer = Literal["off", "warn", "ask", "deny"]


class Declassify(Part):
    """A rule that lets labelled data go somewhere, with a reason and an owner."""

    from_: list[Text] = Field(alias="from", description="Sources of the data (tool:x, file:y, host:z); globs.")
    to: list[Text] = Field(description="Recipients or hosts; globs.")
    tags: list[Text] = Field(default_factory=list, description="Only these tags.")
    reason: Text = Field(description="Why.")
    owner: Text = Field(description="Who answers for it.")


class Flow(Part):
    """What happens at each class of sink; `off` is no check, `warn` records."""

    authority_from_untrusted: Answer = Field(
        default="ask", description="A recipient, account, URL or path is untrusted."
    )
    secrets_to_untrusted: Answer = Field(default="deny", description="Secret data to someone who may not read it.")
    personal_to_untrusted: Answer = Field(default="ask", description="Personal data to someone who may not read it.")
    effect_beyond_scope: Answer = Field(default="ask", description="An effect the prompt did not call for.")
    untrusted_url: Answer = Field(default="ask", description="A URL, link or image that came from untrusted text.")
    shared_write: Answer = Field(default="ask", description="A write that others will take for trusted.")
    code_from_untrusted: Answer = Field(default="ask", description="Code or commands from untrusted text.")
    memory_poisoning: Answer = Field(default="warn", description="Untrusted text remembered for later.")
    credential_use: Answer = Field(
        default="ask", description="Credentials or passwords touched after an untrusted read."
    )
    unknown_tool: Answer = Field(default="ask", description="A side effect of a tool without a manifest.")
    trusted_domains: list[Text] = Field(default_factory=list, description="Host or e-mail domains whose data is known.")
    trusted_principals: list[Text] = Field(default_factory=list, description="Principals whose data is trusted; globs.")
    trusted_paths: list[Text] = Field(default_factory=list, description="Files the user wrote; data there is trusted.")
    declassify: list[Declassify] = Field(default_factory=list, description="Exceptions with an owner.")
    handles: Literal["off", "large", "untrusted"] = Field(
        default="off", description="Whether results are given to the model as handles."
    )
    classifier: bool = Field(default=False, description="Ask an advisory classifier; it can only restrict.")
    remember: Duration | None = Field(default=None, description="How long provenance is kept; absent: the session.")
    who: Who | None = Field(default=None, description="Only for these principals.")
    enforcement: Enforcement = Field(default="enforce", description="`audit` records only.")
