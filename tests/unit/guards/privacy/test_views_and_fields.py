"""Disguises are taken off with offsets into the original; fields type their values."""

from __future__ import annotations

import base64
import gzip

import pytest

from agent_os.core.facts import Finding
from agent_os.guards.privacy.fields import field_findings, field_type
from agent_os.guards.privacy.report import explanation, sarif
from agent_os.guards.privacy.views import views


def readings(text: str) -> list[str]:
    return [view.text for view in views(text)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a 4111\u200b1111\u200d1111\ufeff1111 b", "4111111111111111"),
        ("no \uff14\uff11\uff11\uff11", "4111"),
        ("\u0664\u0661\u0661\u0661", "4111"),
        ("x%40y%2Ecom", "x@y.com"),
        ("x&#64;y&period;com", "x@y.com"),
        (r"x\u0040y.com", "x@y.com"),
        ("john [at] corp [dot] example", "john@corp.example"),
        ("\u0430\u0440ple@corp.example", "apple@corp.example"),
        ("4.1.1.1.1.1.1.1.1.1.1.1", "411111111111"),
        ("four one one one one one one one one", "411111111"),
        ("quatre un un un cinq six sept huit neuf", "411156789"),
        ("cuatro-uno-dos-tres-seis-siete-ocho-nueve-cero", "412367890"),
        ("pay 4111 1<b>1</b>11 1**1**11 1111", "4111 1111 1111 1111"),
        ("ada@co<!-- x -->rp.example", "ada@corp.example"),
        ("'4111 11' + '11 1111'", "4111 1111 1111"),
        (r"\141\144\141\100\143\157\162\160", "ada@corp"),
        ("card 41l1 1I11 11O1 1111", "4111 1111 1101 1111"),
        ("".join(chr(0xE0000 + ord(char)) for char in "ada@corp"), "ada@corp"),
        ("\u202eelpmaxe.proc@ada\u202c", "ada@corp.example"),
        ("4\u03011\u03011\u03011", "4111"),
        ("=61=64=61=40=63=6F", "ada@co"),
        (base64.b64encode(gzip.compress(b"mail ada@corp.example now")).decode(), "ada@corp.example"),
    ],
)
def test_disguises_are_taken_off(text: str, value: str) -> None:
    """One reading of the text holds the value, and its place in the original holds the disguise."""
    for view in views(text):
        place = view.text.find(value)
        if place >= 0:
            start, end = view.place(place, place + len(value))
            assert 0 <= start < end <= len(text)
            assert len(text[start:end]) >= len(value) or view.whole
            return
    pytest.fail(f"no reading of {text!r} holds {value!r}: {readings(text)}")


def test_nested_encodings_are_followed_ten_deep() -> None:
    """ATTACK: Base64 ten times over is read; the place is the whole outer token."""
    token = "mail ada@corp.example now"
    for _ in range(10):
        token = base64.b64encode(token.encode()).decode()
    hit = next(view for view in views("x " + token) if "ada@corp.example" in view.text)
    assert hit.place(0, 1) == (2, 2 + len(token))


def test_ordinary_text_has_no_readings() -> None:
    """BENIGN: prose and code without disguises cost nothing."""
    assert readings("The quick brown fox meets 3 others at noon. x = f(a, b)") == []
    assert readings("<td>4539</td><td>1488</td> <b>Total</b> due, **bold** words; a un deux trois") == []


def test_readings_are_bounded() -> None:
    """ATTACK: a text of endless encodings stops at the budget."""
    text = " ".join(base64.b64encode(f"hello number {n} of many".encode()).decode() for n in range(20_000))
    assert sum(len(view.text) for view in views(text)) <= 4 * len(text) + 1_000_000


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ssn", "US_SSN"), ("customerSSN", "US_SSN"), ("Patient-Name", "PERSON"), ("first_name", "PERSON"), ("geburtsdatum", "DATE_TIME"), ("creditCardNumber", "CREDIT_CARD"),
     ("db_password", "SECRET_PASSWORD"), ("width", ""), ("filename", ""), ("token_count", "")],
)  # fmt: skip
def test_field_names_promise_entities(name: str, kind: str) -> None:
    """Camel case, snake case, dashes and German agree; other names promise nothing."""
    assert field_type(name) == kind


def found(text: str) -> set[tuple[str, str]]:
    return {(item.type, text[item.start : item.end]) for item in field_findings(text, text.lower())}


def test_json_csv_headers_and_xml_by_field() -> None:
    """One record is found in four notations."""
    assert ("US_SSN", "123456789") in found('{"ssn": "123456789"}')
    assert {("PERSON", "Ada"), ("US_SSN", "123456789")} <= found("id,first_name,ssn\n1,Ada,123456789\n")
    assert ("PERSON", "Ada Byron") in found("From: Ada Byron <a@b.example>")
    assert ("PERSON", "Ada Byron") in found("<patientName>Ada Byron</patientName>")
    assert ("PERSON", "Ada") in found("| first name | phone |\n|---|---|\n| Ada | 555 1234567 |")


@pytest.mark.parametrize(
    "text",
    [
        "name: my-package",
        "first_name = row.first_name",
        "password = get_password()",
        "city: str = None",
        "phone: null",
        'ssn = models.CharField("ssn")',
    ],
)
def test_code_is_not_data(text: str) -> None:
    """BENIGN: declarations and expressions named like fields are not found."""
    assert found(text) == set()


def test_reports_hold_places_and_no_values() -> None:
    """SARIF names file, line and column; neither it nor an explanation holds what was found."""
    text = "x\nmy card 4111111111111111"
    item = Finding("CREDIT_CARD", 10, 26, 0.95)
    log = sarif([("a.txt", text, [item])], "1")
    region = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 2, "startColumn": 9, "endLine": 2, "endColumn": 25}
    assert "4111" not in str(log)
    assert "4111" not in str(explanation(text, item))
    assert "Luhn" in explanation(text, item)["how"]
