"""`privacy`: what may go where, by what is found in it. Either a list of rules, or rules with settings. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from agent_os.policy.schema.base import Duration, Enforcement, Part, Text, Who

Do = Literal["allow", "pseudonymise", "redact", "local-only", "ask", "deny"]
To = Literal["local", "private", "external", "any"]


Tongue = Literal["en", "de", "fr", "es", "it"]


def _english() -> list[Tongue]:
    return ["en"]


class PrivacyRule(Part):
    """When one of `find` is in something bound for `to`, `do` this. The strictest rule wins."""

    find: list[Text] | Text = Field(description="Entity names (PERSON, IBAN_CODE, SECRET, …), globs, or * for any.")
    to: list[To] | To = Field(default="any", description="Class of the destination.")
    do: Do = Field(description="What happens.")
    labels: list[Text] = Field(default_factory=list, description="Only data with one of these label tags.")
    source: list[Text] = Field(
        default_factory=list, description="Only data from these sources (tool:x, file:y); globs."
    )
    hosts: list[Text] = Field(default_factory=list, description="Only towards these hosts; globs.")
    regions: list[Text] = Field(default_factory=list, description="Only towards these regions.")
    who: Who | None = Field(default=None, description="Only for these principals.")
    score: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, description="Least confidence.")
    enforcement: Enforcement = Field(default="enforce", description="`audit` records only.")
    reason: Text | None = Field(default=None, description="What is told.")


class Recognizer(Part):
    """A recognizer of the file's own."""

    entity: Text = Field(description="Entity name it reports.")
    regex: Text | None = Field(default=None, description="RE2 pattern.")
    words: list[Text] = Field(default_factory=list, description="Exact words or phrases, case-insensitive.")
    context: list[Text] = Field(default_factory=list, description="Words nearby that raise the score.")
    score: Annotated[float, Field(ge=0, le=1)] = Field(default=0.8, description="Score of a match.")
    checksum: Literal["luhn", "iban", "mod97", "mod11"] | None = Field(default=None, description="Checksum to pass.")


class Privacy(Part):
    """Rules and settings of the privacy router."""

    rules: list[PrivacyRule] = Field(default_factory=list, description="The rules.")
    languages: list[Tongue] = Field(
        default_factory=_english,
        min_length=1,
        description="Languages whose names a language model must find (`names: model`); patterns, context words and "
        "word lists of all five always count.",
    )
    thresholds: dict[Text, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="Least score per entity."
    )
    allow_list: list[Text] = Field(default_factory=list, description="Texts that are never a finding.")
    deny_list: dict[Text, list[Text]] = Field(default_factory=dict, description="Entity -> texts that always are one.")
    recognizers: list[Recognizer] = Field(default_factory=list, description="Recognizers of the file's own.")
    names: Literal["model", "lists", "off"] | bool = Field(
        default="model",
        description="How names are found: `model` demands a language model (none installed: what the rules govern is "
        "denied), `lists` accepts word lists and context where there is none, `off` looks for none.",
    )
    pseudonyms: Literal["placeholder", "realistic"] = Field(default="placeholder", description="Form of pseudonyms.")
    scope: Literal["session", "user", "tenant"] = Field(
        default="session", description="Where one name is one pseudonym."
    )
    keep: Duration | None = Field(default=None, description="How long originals can be restored.")
    unreadable: Literal["deny", "local-only", "ask"] = Field(
        default="deny", description="What happens to images, audio, archives and encrypted data."
    )
    read: list[Literal["pictures", "documents"]] = Field(
        default_factory=list,
        description="What is read by text recognition instead of counting as unreadable (extra `ocr`): pictures; documents "
        "are PDFs. What was read goes on as pixels alone, with findings painted over.",
    )
    timeout: Duration = Field(default=5.0, description="Deadline of a scan; a miss denies.")


PrivacySection = Annotated[
    Annotated[Privacy, Tag("settings")] | Annotated[list[PrivacyRule], Tag("rules")],
    Discriminator(lambda value: "rules" if isinstance(value, list) else "settings"),
]
