"""The privacy router as a policy composes it: its recognisers, lists, names, scopes, and the door end to end."""

from __future__ import annotations

import asyncio

import pytest

from agent_os.core.errors import MissingPartError, PolicyError
from agent_os.core.principal import Principal
from agent_os.effects.detectors import ner
from agent_os.policy import Policy
from agent_os.runtime.privacy import detector_for, local_model, router_for

SETTINGS = """
version: 1
models: {providers: {cloud: {kind: openai, base_url: "https://llm.example/v1", model: m}, here: {kind: local, model: small}}}
privacy:
  names: lists
  allow_list: [Support@Corp.example]
  deny_list: {PROJECT: [Blue Heron]}
  recognizers:
    - {entity: EMPLOYEE_ID, regex: 'E-\\d{6}', score: 0.5, context: [employee]}
    - {entity: PART, words: [flux capacitor]}
    - {entity: MEMBER, regex: '\\d{10}', checksum: luhn}
  rules:
    - {find: '*', to: external, do: pseudonymise}
"""


def found(policy: str, text: str) -> dict[str, float]:
    detector = detector_for(Policy.parse(policy))
    assert detector is not None
    return {item.type: item.score for item in detector.scan_text(text)}


def test_recognisers_of_the_file() -> None:
    """Patterns, words, context and checksums of the file find its own entities."""
    assert found(SETTINGS, "employee E-123456") == {"EMPLOYEE_ID": 0.85}
    assert found(SETTINGS, "part E-123456") == {"EMPLOYEE_ID": 0.5}
    assert found(SETTINGS, "one Flux Capacitor please") == {"PART": 0.8}
    assert "MEMBER" in found(SETTINGS, "m 4539578767")
    assert "MEMBER" not in found(SETTINGS, "m 4539578768")


def test_lists_of_what_is_always_and_never_found() -> None:
    """The deny-list finds in any case; the allow-list takes exactly its texts out."""
    assert found(SETTINGS, "about blue heron now") == {"PROJECT": 1.0}
    assert found(SETTINGS, "write to support@corp.example") == {}
    assert "EMAIL_ADDRESS" in found(SETTINGS, "write to boss@corp.example")


def test_an_allow_list_counts_only_if_every_layer_has_it() -> None:
    """ATTACK: a user's layer cannot take texts out of what the organisation's rules find."""
    user = Policy.parse("version: 1\nprivacy: {allow_list: [ceo@corp.example], rules: []}\n")
    organisation = Policy.parse("version: 1\nprivacy: [{find: EMAIL_ADDRESS, do: redact}]\n")
    detector = detector_for(Policy.layered([organisation, user]))
    assert detector is not None
    assert [item.type for item in detector.scan_text("to ceo@corp.example")] == ["EMAIL_ADDRESS"]


async def test_names_without_a_model_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAIL CLOSED: a policy that asks for names where no model is installed makes scans fail; `lists` accepts less."""
    monkeypatch.setattr(ner, "MODELS", ("no_such_model_package",))
    asking = detector_for(Policy.parse("version: 1\nprivacy: [{find: PERSON, do: redact}]\n"))
    other = detector_for(Policy.parse("version: 1\nprivacy: [{find: EMAIL_ADDRESS, do: redact}]\n"))
    lists = detector_for(Policy.parse(SETTINGS))
    assert asking is not None
    assert other is not None
    assert lists is not None
    with pytest.raises(MissingPartError):
        await asking.scan({"": "hello"})
    assert await other.scan({"": "a@b.example"})
    assert await lists.scan({"": "My name is Maria Schmidt"})


def test_no_section_no_router() -> None:
    """A policy without a privacy section needs neither detector nor router."""
    plain = Policy.parse("version: 1\n")
    assert detector_for(plain) is None
    assert router_for(plain, Principal()) is None


def test_the_local_model_is_the_one_that_keeps_data_here() -> None:
    """The provider that is local by its kind takes prompts that may not leave."""
    assert local_model(Policy.parse(SETTINGS)) == ("here", "small")


def test_scopes_follow_the_policy() -> None:
    """With `scope: user` two sessions of one user share pseudonyms; with the default they do not."""
    key = b"k" * 32
    for width, same in (("user", True), ("session", False)):
        policy = Policy.parse(SETTINGS.replace("names: lists", f"names: lists\n  scope: {width}"))
        one = router_for(policy, Principal(tenant="t", user="u", session="1"), key=key)
        two = router_for(policy, Principal(tenant="t", user="u", session="2"), key=key)
        assert one is not None
        assert two is not None
        assert (one.book.pseudonym("PERSON", "Ada") == two.book.pseudonym("PERSON", "Ada")) is same


def test_a_language_without_a_model_denies_and_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`languages` demands a model for each; the one that is missing is named with the line that installs it."""
    monkeypatch.setattr(ner, "LANGUAGES", {**ner.LANGUAGES, "it": ("no_such_model_package",)})
    rules = "[{find: [PERSON], to: any, do: redact}]"
    detector = detector_for(Policy.parse(f"version: 1\nprivacy: {{languages: [en, it], rules: {rules}}}"))
    assert detector is not None
    with pytest.raises(MissingPartError, match=r"\((en|it)\)"):
        asyncio.run(detector.scan({"": "Il sig. Rossi"}))
    lists = detector_for(Policy.parse(f"version: 1\nprivacy: {{languages: [it], names: lists, rules: {rules}}}"))
    assert lists is not None
    assert [item.type for item in asyncio.run(lists.scan({"": "Mi chiamo Mario Rossi, piacere"}))] == ["PERSON"]
    with pytest.raises(PolicyError, match="languages"):
        Policy.parse("version: 1\nprivacy: {languages: [tlh], rules: []}")
