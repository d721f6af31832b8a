"""The pattern finders: what is found where, with which evidence, and what stays unfound."""

from __future__ import annotations

import random

import pytest

from agent_os.effects.detectors.detector import LocalDetector, lower_same_length
from agent_os.effects.detectors.personal_finder import PersonalFinder
from agent_os.effects.detectors.secret_finder import SecretFinder
from bench.privacy_secrets import generate

SECRETS, PERSONAL = SecretFinder(), PersonalFinder()
DETECTOR = LocalDetector()


def found(text: str) -> set[tuple[str, str]]:
    return {(item.type, text[item.start : item.end]) for item in DETECTOR.scan_text(text)}


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("card 4111 1111 1111 1111.", "CREDIT_CARD", "4111 1111 1111 1111"),
        ("IBAN: DE89 3704 0044 0532 0130 00", "IBAN_CODE", "DE89 3704 0044 0532 0130 00"),
        ("my ssn is 536-22-1234", "US_SSN", "536-22-1234"),
        ("NHS number 943 476 5919", "UK_NHS", "943 476 5919"),
        ("DNI 12345678Z", "ES_NIF", "12345678Z"),
        ("Steuer-ID 86 095 742 719", "DE_TAX_ID", "86 095 742 719"),
        ("codice fiscale RSSMRA85T10A562S", "IT_FISCAL_CODE", "RSSMRA85T10A562S"),
        ("sécurité sociale 255081416802538", "FR_INSEE", "255081416802538"),
        ("call +44 20 7946 0958 now", "PHONE_NUMBER", "+44 20 7946 0958"),
        ("Telefon: 030 901820", "PHONE_NUMBER", "030 901820"),
        ("mail ada.b+x@corp.example, ok", "EMAIL_ADDRESS", "ada.b+x@corp.example"),
        ("see https://corp.example/a?b=c.", "URL", "https://corp.example/a?b=c"),
        ("from 10.20.30.40 port", "IP_ADDRESS", "10.20.30.40"),
        ("from 2001:db8::8a2e:370:7334 port", "IP_ADDRESS", "2001:db8::8a2e:370:7334"),
        ("nic 00:1B:44:11:3A:B7", "MAC_ADDRESS", "00:1B:44:11:3A:B7"),
        ("born on 3 March 1984", "DATE_TIME", "3 March 1984"),
        ("geboren am 03.03.1984", "DATE_TIME", "03.03.1984"),
        ("né le 3 mars 1984", "DATE_TIME", "3 mars 1984"),
        ("a 44-year-old man", "AGE", "44"),
        ("send to 1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "CRYPTO", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"),
        ("MRN: 00482913", "MEDICAL_RECORD_NUMBER", "00482913"),
        ("passport number 533380006", "US_PASSPORT", "533380006"),
        ("Kennzeichen B-AB 1234", "DE_KFZ", "B-AB 1234"),
        ("DEA AB1234563", "MEDICAL_LICENSE", "AB1234563"),
        ("driver's license number is F956444351718", "US_DRIVER_LICENSE", "F956444351718"),
    ],
)
def test_identifiers_are_found_with_their_span(text: str, kind: str, value: str) -> None:
    """Each identifier is found with Presidio's name and exactly its characters."""
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "order 4111 1111 1111 1112 shipped", "build 123456789 passed", "version 1.2.3 of 2", "the sum is 1234567890", "ratio 3.14159265358979",
        "call f(1, 2, 3) with x=12345", "lines 100-200 and 300-400", "sha256 9f86d081884c7d659a2feaa0c55ad015", "took 12:3 units", "page 12/13 of 14",
    ],
)  # fmt: skip
def test_ordinary_numbers_are_nobody(text: str) -> None:
    """BENIGN: numbers without evidence are not identifiers."""
    assert {kind for kind, _ in found(text)} <= {"DATE_TIME"}


@pytest.mark.parametrize("language", ["my social security number: 536221234", "Sozialversicherung (SSN) 536221234"])
def test_context_words_make_the_difference(language: str) -> None:
    """Nine digits alone are nothing; a word near them makes them a social security number."""
    assert "US_SSN" in {kind for kind, _ in found(language)}
    assert "US_SSN" not in {kind for kind, _ in found("536221234")}


def test_at_least_120_kinds_of_secrets() -> None:
    """The catalogue knows at least 120 kinds, all named SECRET_<KIND>."""
    assert len(SECRETS.kinds) >= 120
    assert all(kind.startswith("SECRET_") for kind in SECRETS.kinds)


def test_generated_secrets_are_found() -> None:
    """At least 97 of 100 generated keys in code, configuration and prose are found, with hardly anything else."""
    seed = random.SystemRandom().randrange(10**6)
    samples = generate(seed, 400)
    missed, extra = [], 0
    for sample in samples:
        items = [item for item in DETECTOR.scan_text(sample.text) if item.type.startswith("SECRET_")]
        hits = [item for item in items if item.start < sample.end and sample.start < item.end]
        extra += len(items) - len(hits)
        if not hits:
            missed.append((sample.kind, sample.context))
    assert len(missed) <= 0.03 * len(samples), f"seed {seed}: {missed}"
    assert extra <= 4, f"seed {seed}"


@pytest.mark.parametrize(
    "text",
    [
        'password = "changeme"', "API_KEY=${API_KEY}", 'token = os.environ["TOKEN"]', "password: <your password>", "secret_key = get_secret('x')", "AKIAIOSFODNN7EXAMPLE",
        "def check_password(self, raw_password): ...", "token_type = 'bearer_token_v2_refresh'", "commit 3f786850e387550fdab836ed7e6dc881de23001b",
        '"integrity": "sha512-9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08=="', "uuid: 123e4567-e89b-12d3-a456-426614174000", "sk-learn and sk-image are packages",
    ],
)  # fmt: skip
def test_code_is_not_a_secret(text: str) -> None:
    """BENIGN: placeholders, references, hashes and names of variables are no secrets."""
    assert not [kind for kind, _ in found(text) if kind.startswith("SECRET_")]


def test_offsets_count_characters_of_the_text_as_given() -> None:
    """Characters outside the Basic Multilingual Plane and ones whose lower case is longer shift nothing."""
    text = "😀 İİ straße: ada@corp.example"
    item = next(item for item in DETECTOR.scan_text(text) if item.type == "EMAIL_ADDRESS")
    assert text[item.start : item.end] == "ada@corp.example"
    assert len(lower_same_length(text)) == len(text)


async def test_pointers_name_fields() -> None:
    """A value without shape is found by the name at the end of its pointer."""
    items = await DETECTOR.scan({"/args/customer/ssn": "123456789", "/args/note": "123456789"})
    assert [(item.type, item.pointer) for item in items] == [("US_SSN", "/args/customer/ssn")]


async def test_known_texts_are_not_scanned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier messages of a conversation come from the bounded memory."""
    detector = LocalDetector()
    calls: list[str] = []
    real = detector._found
    monkeypatch.setattr(detector, "_found", lambda text: calls.append(text) or real(text))
    first, second = (
        "mail ada@corp.example " * 5,
        "another text, long enough to be remembered, with nothing in it at all",
    )
    once = await detector.scan({"/0": first})
    assert await detector.scan({"/0": first, "/1": second}) == once
    assert calls == [first, second]


async def test_a_failing_recogniser_is_an_error() -> None:
    """Fail closed: a recogniser that raises makes the scan raise, never an empty result."""
    from agent_os.core.errors import EffectError

    def broken(_text: str, _lowered: str) -> list[object]:
        raise ValueError("no")

    detector = LocalDetector({"broken": (frozenset({"X"}), broken)})
    with pytest.raises(EffectError):
        await detector.scan({"/0": "text"})


def test_own_placeholders_are_nobody() -> None:
    """Placeholders and redactions are not found again."""
    assert found("ask [PERSON_1_9f2c04ab] or [REDACTED_EMAIL_ADDRESS] about [IBAN_CODE_2_00c0ffee]") == set()
