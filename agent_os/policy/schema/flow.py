"""`flow`: what untrusted text may bring about, and where secret data may go. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent_os.policy.schema.base import Enforcement, Part, Text, Who

Answer = Literal["off", "warn", "ask", "deny"]


class Declassify(Part):
    """A rule that lets labelled data go somewhere, with a reason and an owner."""

    from_: list[Text] = Field(alias="from", description="Sources of the data (tool:x, file:y, host:z); globs.")
    to: list[Text] = Field(description="Recipients or hosts; globs.")
    tags: list[Text] = Field(default_factory=list, description="Only these tags.")
    reason: Text = Field(description="Why.")
    owner: Text = Field(description="Who answers for it.")


class Trusted(Part):
    """A reference list: records the operator keeps, whose values vouch for an authority by themselves."""

    from_: list[Text] = Field(
        alias="from",
        min_length=1,
        description="Where the list is read: file:<path below the workspace>, tool:<name>, host:<name> (globs), or "
        "data:<set>.<field> for a set of this file's `data`.",
    )
    fields: list[Text] = Field(default_factory=list, description="Only the values of these fields (keys, columns).")
    reason: Text = Field(description="Why.")
    owner: Text = Field(description="Who answers for it.")


class Flow(Part):
    """What happens at each class of sink; `off` is no check, `warn` records.

    Concerns arise only after the session has read untrusted text; before that nothing can have been injected. (Secrets
    are looked for always.) An `ask` shows a person the exact argument and where its value came from.
    """

    authority_from_untrusted: Answer = Field(
        default="ask", description="A recipient, account, URL, path, id or command that stands in untrusted text."
    )
    authority_of_unknown_origin: Answer = Field(
        default="ask",
        description="One that nothing vouches for: not the prompt, no trusted result the prompt leads to.",
    )
    effect_beyond_scope: Answer = Field(default="ask", description="An effect the prompt did not call for.")
    repeats_beyond_scope: Answer = Field(default="ask", description="An effect the prompt asked for fewer times.")
    contradicts_prompt: Answer = Field(default="ask", description="A date other than those the prompt states.")
    secrets_to_untrusted: Answer = Field(default="deny", description="Secret data to someone nothing vouches for.")
    secrets_to_named: Answer = Field(default="ask", description="Secret data to a recipient the prompt names.")
    personal_to_untrusted: Answer = Field(default="ask", description="Personal data to someone who may not read it.")
    untrusted_url: Answer = Field(default="ask", description="A URL, link or image that came from untrusted text.")
    untrusted_image: Answer = Field(
        default="ask",
        description="An image, frame or style that loads by itself from an address the prompt does not have, in what is sent, "
        "shared or written as a page. In the agent's answer `ask` and `deny` take the address out.",
    )
    answer_url: Answer = Field(
        default="warn",
        description="A link in the agent's answer that the prompt does not have; `ask` and `deny` take it out.",
    )
    shared_write: Answer = Field(default="warn", description="Untrusted text into what others will take for trusted.")
    invite_write: Answer = Field(default="warn", description="Untrusted text into other people's calendars.")
    code_from_untrusted: Answer = Field(default="ask", description="Code or commands from untrusted text.")
    code_write: Answer = Field(default="warn", description="Untrusted text into a file of code.")
    autorun_write: Answer = Field(
        default="ask",
        description="Untrusted text into a file that runs by itself and that the prompt does not name: git hooks, CI, build "
        "files, start-up files, cron.",
    )
    policy_write: Answer = Field(
        default="ask", description="Untrusted text into a policy, a tool manifest or the instructions of agents."
    )
    schedule_write: Answer = Field(default="ask", description="Untrusted text into what runs later.")
    memory_poisoning: Answer = Field(default="warn", description="Untrusted text remembered for later.")
    injection_suspected: Answer = Field(
        default="ask",
        description="A side effect after `classifier` suspected something that was read, or failed to look at it.",
    )
    credential_use: Answer = Field(
        default="off", description="Any change of credentials after an untrusted read, even one the prompt asks for."
    )
    unknown_tool: Answer = Field(
        default="warn", description="A side effect of a tool without a manifest, judged by a draft made from its name."
    )
    find: list[Text] = Field(
        default_factory=list,
        description="What the privacy detectors look for in results, to label it: `secret`, `pii`, or entity names (globs). A "
        "privacy rule or a model route that names the label `secret` or `pii` asks for it too. Costs a scan of each result.",
    )
    classifier: Literal["off", "stackone-defender"] = Field(
        default="off",
        description="An advisory classifier that looks at every untrusted result; it can only add questions. Extra [classifier].",
    )
    classifier_threshold: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.5, description="Score from which the classifier suspects a text."
    )
    trusted_domains: list[Text] = Field(
        default_factory=list, description="Hosts or e-mail domains that may be addressed and linked to; globs."
    )
    trusted_principals: list[Text] = Field(
        default_factory=list, description="Recipients and accounts that need no voucher; globs."
    )
    trusted_paths: list[Text] = Field(default_factory=list, description="Files the user wrote; data there is trusted.")
    trusted: list[Trusted] = Field(
        default_factory=list,
        description="Reference lists: a recipient or an account that stands in one needs no other voucher, even if it "
        "stands in untrusted text as well.",
    )
    by_reference: bool = Field(
        default=False,
        description="Show tool results to the model with every untrusted text as a handle that it passes on unread; adds "
        "the tools ref_select, ref_read and ref_extract.",
    )
    reader: Text | None = Field(
        default=None,
        description="Model that ref_extract reads untrusted text with (provider/model): no tools, no task.",
    )
    declassify: list[Declassify] = Field(default_factory=list, description="Exceptions with an owner.")
    who: Who | None = Field(default=None, description="Only for these principals.")
    enforcement: Enforcement = Field(default="enforce", description="`audit` records only.")


SINKS = (
    "authority_from_untrusted",
    "authority_of_unknown_origin",
    "effect_beyond_scope",
    "repeats_beyond_scope",
    "contradicts_prompt",
    "secrets_to_untrusted",
    "secrets_to_named",
    "personal_to_untrusted",
    "untrusted_url",
    "untrusted_image",
    "answer_url",
    "shared_write",
    "invite_write",
    "code_from_untrusted",
    "code_write",
    "autorun_write",
    "policy_write",
    "schedule_write",
    "memory_poisoning",
    "injection_suspected",
    "credential_use",
    "unknown_tool",
)
"""The classes of concern, each a field of `Flow` that says what happens."""
