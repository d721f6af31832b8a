"""Documents of many kinds and languages: what is found in each, at its place in the text as given, and benign twins."""

from __future__ import annotations

import base64
import json

import pytest

from agent_os.runtime.privacy import local_detector

DETECTOR = local_detector(ner=False)
KEY = "mo5OCeWbKzr741YbjMOdmRc7PRZsW0Fn"


def found(text: str) -> set[tuple[str, str]]:
    return {(item.type, text[item.start : item.end]) for item in DETECTOR.scan_text(text)}


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("Hallo Kraus,\nkannst du das schicken?", "PERSON", "Kraus"),
        ("Das Protokoll führte Mangold, der Rest war wie immer.", "PERSON", "Mangold"),
        ("Merci de rappeler M. Martin au plus vite, il attend votre appel.", "PERSON", "Martin"),
        ("Por favor llame a D. Oliva, que es el director.", "PERSON", "Oliva"),
        ("Estimada señora Pinto: hemos recibido su pago", "PERSON", "Pinto"),
        ("Il verbale è stato redatto da Ioppi; il server non rispondeva.", "PERSON", "Ioppi"),
        ("Thanks for the invoice.\nBest wishes\nJosh Hudson", "PERSON", "Josh Hudson"),
        ("Please pay it today, according to Teresa Griffin.", "PERSON", "Teresa Griffin"),
        ("Rechnung an Katy-Fischer-Weg 59, 44073 Burg schicken", "LOCATION", "Katy-Fischer-Weg 59, 44073 Burg"),
        ("enviar a Glorieta de Irene Blanco 6, Vizcaya, 13841 hoy", "LOCATION", "Glorieta de Irene Blanco 6, Vizcaya, 13841"),
        ("residente in Via Caterina, 7 Piano 3, 80134, Napoli (NA), ieri", "LOCATION", "Via Caterina, 7 Piano 3, 80134, Napoli (NA)"),
        ("of Studio 8, Davies Wells, South Nicola, M2K 5JL", "LOCATION", "Studio 8, Davies Wells, South Nicola, M2K 5JL"),
        ("Ana trabaja en Hermanos Mayol S.L. desde hace años.", "ORGANIZATION", "Hermanos Mayol S.L."),
        ("Lia lavora per Castelli, Ferrara e Gadda s.r.l. da tre anni.", "ORGANIZATION", "Castelli, Ferrara e Gadda s.r.l."),
        ("zuständig ist die Scheibe Finke GmbH & Co. KG heute", "ORGANIZATION", "Scheibe Finke GmbH & Co. KG"),
        ("unter (01863) 390719 erreichbar, mobil", "PHONE_NUMBER", "(01863) 390719"),
        ("Phone: +441134960554", "PHONE_NUMBER", "+441134960554"),
        ("número de la Seguridad Social 281234567840", "ES_SOCIAL_SECURITY", "281234567840"),
        ("pasaporte AAA123456", "ES_PASSPORT", "AAA123456"),
    ],
)  # fmt: skip
def test_people_places_and_companies_in_five_languages(text: str, kind: str, value: str) -> None:
    """Names, addresses and companies of five languages are found with exactly their characters."""
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "During 1989 the company grew, and string 12 was monitoring 24 hosts.", "INCLUDING, BUT NOT LIMITED TO, THE WARRANTIES", "Visual Studio 2019 is needed.",
        "Partita IVA, Telefono, Indirizzo", "Name\tTelefon\tAnschrift", "x=10, y=20; a=40",
    ],
)  # fmt: skip
def test_ordinary_words_are_no_places_or_companies(text: str) -> None:
    """BENIGN: words before numbers, the words of licences, labels of forms and equals signs are nobody's data."""
    assert not {kind for kind, _ in found(text)} - {"DATE_TIME"}


@pytest.mark.parametrize(
    "template",
    [
        "const key = process.env.API_KEY || '%s';", "const key = config.apiKey ?? \"%s\";", '{"payload": "{\\"apiKey\\": \\"%s\\"}"}', "| api_key | %s |\n", "api_key\t%s\n",
        'set API_KEY "%s"', "loaded api_key '%s' from file", "Here is the api key you asked for:\n\n    %s\n", "+  api_key: %s\n", "GET /v1?api_key=%s&page=2", "Le nouveau token est : %s",
    ],
)  # fmt: skip
def test_keys_are_found_however_they_are_assigned(template: str) -> None:
    """A random key after a word for a key is found behind every way of joining the two."""
    text = template % KEY
    assert [(i.start, i.end) for i in DETECTOR.scan_text(text) if i.type.startswith("SECRET_")] == [
        (text.index(KEY), text.index(KEY) + len(KEY))
    ]


@pytest.mark.parametrize(
    "template", ["tool --db-password %s --region eu", "process.env.DB_PASSWORD || '%s'", 'DB_PASSWORD := []byte("%s")']
)
def test_passwords_on_command_lines_and_as_fallbacks(template: str) -> None:
    """A password after a flag, an `or` or a conversion is found."""
    assert ("SECRET_PASSWORD", "Tr0ub4iRyi83") in found(template % "Tr0ub4iRyi83")


@pytest.mark.parametrize(
    "text",
    [
        "if isinstance(key, (Ed25519PrivateKey, Ed448PrivateKey)):", "MachineFunctionPass::getAnalysisUsage(AU)", "--password-file secrets/db1.txt", "password 'must be long'",
        'api_key = os.environ["API_KEY_2"]',
    ],
)  # fmt: skip
def test_code_about_keys_holds_no_keys(text: str) -> None:
    """BENIGN: names of types, functions, files and variables are no secrets."""
    assert not [kind for kind, _ in found(text) if kind.startswith("SECRET_")]


def test_names_and_addresses_behind_json_escapes() -> None:
    """What a serialiser wrote as \\uXXXX is found, at the place of its escapes."""
    text = json.dumps({"name": "Zoë Żak", "address": {"street": "Długa 12", "city": "Kraków"}})
    assert {("LOCATION", "D\\u0142uga 12"), ("LOCATION", "Krak\\u00f3w")} <= found(text)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("J=C3=B6rg M=C3=BCller, joerg=40firma.example", "PERSON", "J=C3=B6rg M=C3=BCller"),
        ("J=C3=B6rg M=C3=BCller, joerg=40firma.example", "EMAIL_ADDRESS", "joerg=40firma.example"),
        ("see " + base64.b32encode(b"my ssn is 536-90-4399, ok?").decode(), "US_SSN", base64.b32encode(b"my ssn is 536-90-4399, ok?").decode()),
    ],
)  # fmt: skip
def test_mail_encodings_and_base32(text: str, kind: str, value: str) -> None:
    """Quoted-printable (mail) and Base32 are read."""
    assert (kind, value) in found(text)
