"""Rules about entities that nothing finds: an error beforehand, a denial where such a policy is in force."""

from __future__ import annotations

import asyncio

import pytest

from agent_os.core.errors import EffectError
from agent_os.policy import Policy
from agent_os.runtime.privacy import detector_for, unknown_entities


def unknown(text: str) -> list[tuple[str, str, str]]:
    """What `policy check` finds of it."""
    return [(path, name, hint) for _, path, name, hint in unknown_entities(Policy.parse(text))]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("EMAIL", "did you mean 'EMAIL_ADDRESS'?"),
        ("iban_code", "did you mean 'IBAN_CODE'?"),
        ("CREDIT_CRAD", "did you mean 'CREDIT_CARD'?"),
        ("HOROSCOPE", "declare it in privacy.recognizers"),
        ("XX_*", "declare it in privacy.recognizers"),
    ],
)
def test_a_name_nobody_finds_is_an_error_and_stops_every_scan(name: str, hint: str) -> None:
    """A rule that could never act is no protection: the check says so, and in force it denies what it governs."""
    text = f'privacy: [{{find: ["{name}"], to: external, do: pseudonymise}}]\n'
    ((path, said, fix),) = unknown(text)
    assert (path, said) == ("privacy[0].find[0]", name) and hint in fix
    detector = detector_for(Policy.parse(text))
    assert detector is not None
    with pytest.raises(EffectError, match="nothing here finds"):
        asyncio.run(detector.scan({"": "plain"}))


def test_routes_are_held_to_it_too() -> None:
    """A route by findings that never occur would send what it should keep."""
    text = "models: {providers: {a: {kind: openai}}, routes: [{when: {finds: [HEALTH]}, use: a}, {use: a}]}\n"
    assert [path for path, _, _ in unknown(text)] == ["models.routes[0].when.finds[0]"]


def test_what_is_found_declared_or_only_allowed_is_fine() -> None:
    """Names of the detector, globs that meet one, every secret, names, own recognizers and lists: nothing to say."""
    text = """
privacy:
  rules:
    - {find: [EMAIL_ADDRESS, "DE_*", SECRET, SECRET_AWS_ACCESS_KEY, PERSON, "*", BADGE, CODENAME], do: redact}
    - {find: [ANYTHING_AT_ALL], do: allow}
  recognizers: [{entity: BADGE, regex: 'B\\d{6}'}]
  deny_list: {CODENAME: [Bluebird]}
  names: lists
"""
    assert unknown(text) == []
    detector = detector_for(Policy.parse(text))
    assert detector is not None
    found = asyncio.run(detector.scan({"": "Bluebird B123456"}))
    assert {item.type for item in found} >= {"BADGE", "CODENAME"}
