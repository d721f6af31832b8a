"""Findings as reports: places in lines, SARIF 2.1.0, and why something was found. Pure. Never holds a found value."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from agent_os.core.facts import Finding

SHAPED: Final = 0.9
WORDS_SHOWN: Final = 5
_WORDS: Final = re.compile(r"[^\W\d_]{2,}")
_HOW: Final[Mapping[str, str]] = {
    "CREDIT_CARD": "issuer prefix, length and Luhn check digit",
    "IBAN_CODE": "country, length and ISO 7064 check digits",
    "US_SSN": "area, group and serial that can be issued",
    "UK_NHS": "modulus 11 check digit",
    "ES_NIF": "check letter", "ES_NIE": "check letter", "IT_FISCAL_CODE": "control letter", "DE_TAX_ID": "ISO 7064 check digit",
    "FR_INSEE": "key 97", "CRYPTO": "address checksum", "EMAIL_ADDRESS": "local part and domain", "VIN": "check digit",
    "PHONE_NUMBER": "shape and words nearby", "DATE_TIME": "a calendar date or time", "AGE": "number and words of age",
    "PERSON": "name lists and words nearby", "LOCATION": "place lists, address parts and words nearby",
    "ORGANIZATION": "company form or words nearby", "NRP": "list of nationalities and religions",
}  # fmt: skip


def line_starts(text: str) -> list[int]:
    """Return the offset at which each line begins."""
    return [0, *(match.end() for match in re.finditer("\n", text))]


def line_and_column(starts: Sequence[int], offset: int) -> tuple[int, int]:
    """Return line and column, from 1, of a character offset."""
    line = bisect.bisect_right(starts, offset)
    return line, offset - starts[line - 1] + 1


def explanation(text: str, finding: Finding, others: Sequence[Finding] = ()) -> dict[str, Any]:
    """Return why something was found: the method, the score, and the words in front of it.

    Never the value itself, and no word that lies in one of the `others` found in the text.
    """
    low = max(0, finding.start - 48)
    before = [
        match.group()
        for match in _WORDS.finditer(text, low, finding.start)
        if not any(item.start < match.end() and match.start() < item.end for item in others)
    ]
    how = _HOW.get(finding.type, "shape and words nearby")
    if finding.type.startswith("SECRET_"):
        how = (
            "the kind's own prefix and shape" if finding.score >= SHAPED else "randomness and the words in front of it"
        )
    if finding.by in ("ner", "decoded", "field"):
        how = {"ner": "language model", "decoded": how + ", after decoding", "field": "name of its field"}[finding.by]
    size = finding.end - finding.start
    return {"how": how, "by": finding.by, "score": finding.score, "words_before": before[-WORDS_SHOWN:], "length": size}


def _uri(path: str) -> str:
    """Return a path as SARIF wants it: a URI reference (RFC 3986), relative where the path is."""
    plain = path.replace("\\", "/").removeprefix("./")
    return ("file://" if plain.startswith("/") else "") + quote(plain, safe="/", errors="surrogateescape")


def sarif(results: Iterable[tuple[str, str, Sequence[Finding]]], version: str) -> dict[str, Any]:
    """Return a SARIF 2.1.0 log of (path, text, findings); values are not in it, only places."""
    rules: dict[str, None] = {}
    entries: list[dict[str, Any]] = []
    for path, text, findings in results:
        starts = line_starts(text)
        for item in findings:
            rules[item.type] = None
            line, column = line_and_column(starts, item.start)
            last, end = line_and_column(starts, item.end)
            region = {"startLine": line, "startColumn": column, "endLine": last, "endColumn": end}
            secret = item.type.startswith("SECRET_")
            entries.append(
                {
                    "ruleId": item.type,
                    "level": "error" if secret else "warning",
                    "message": {"text": f"{item.type} (score {item.score:.2f}, by {item.by})"},
                    "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(path)}, "region": region}}],
                }
            )
    driver = {
        "name": "agentos privacy",
        "version": version,
        "rules": [{"id": name, "shortDescription": {"text": name.replace("_", " ").lower()}} for name in sorted(rules)],
    }
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": entries}],
    }
