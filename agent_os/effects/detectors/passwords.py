"""Finds passwords in one text by the words in front of them, in six languages. Pure; every quantifier is bounded."""

# ruff: noqa: E501 - word lists and expressions read better whole
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from agent_os.core.facts import Finding
from agent_os.effects.detectors.looks import PLACEHOLDER, random_looking

_PASSWORD_ANCHORS: Final = (
    "passw", "kennwort", "passphrase", "passcode", "pwd", "contrase", "mot de passe", "motdepasse", "mdp", "parola d", "pass=", "pass:",
    "pass\"", "pass'", "_pass ", "pass =", "pass is", " pw ", "pw:", "pw=",
)  # fmt: skip
_PASSWORD: Final = re.compile(
    r"(?i:passw(?:or[dt]s?|d)?|kennwort|passphrase|passcode|pwd|contrase(?:\u00f1|n)a|mot ?de ?passe|mdp|parola d['\u2019]ordine|pass|pw)"
    r"(?P<name>[\w.-]{0,24})(?:\\?[\"'\]`*]){0,3}[ \t]{0,3}"
    r"(?:(?:\([\w @.-]{0,30}\)|for [\w @.'-]{1,40}?|f\u00fcr [\w @.'-]{1,40}?|de [\w @.'-]{1,40}?|to [\w @.'-]{1,40}?)[ \t]{0,2})?"
    r"(?P<sep>:=|=>|==?|:|->|\bis(?: now| currently| set to)?\b:?|\bist\b:?|\blautet\b:?|\best\b:?|\bes\b:?|\u00e8:?|\bwas\b|\bto\b|,|>|\|\|?|\?\?|(?=[\"'`]|\t))"
    r"[ \t]{0,3}(?:\[\]byte\(|Buffer\.from\(|new [A-Z]\w{1,20}\()?(?:(?:str|string|SecretStr)(?: \| None)? ?= ?)?"
    r"(?:[rbfu]?(?P<quote>\\?[\"'`])(?P<q>[^\"'`\n\\]{6,120})(?P=quote)|(?P<u>[^\s\"'`,;<>(){}\[\]|\\]{6,100}))"
)


_FLAG: Final = re.compile(
    r"--[\w-]{0,30}(?:password|passwd|passphrase|pass|pwd)[ \t]{1,3}(?P<quote>[\"']?)(?P<v>[^\s\"']{6,100})(?P=quote)(?=\s|$)"
)
"""The password of a command line: `--db-password VALUE`."""


def passwords(text: str, lowered: str) -> Iterator[Finding]:
    if "--" in text and "pass" in lowered:
        for flag in _FLAG.finditer(text):
            value = flag.group("v")
            if any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and not PLACEHOLDER.match(value):
                yield Finding("SECRET_PASSWORD", *flag.span("v"), 0.8)
    seen = -1
    places = sorted({place for anchor in _PASSWORD_ANCHORS for place in _places(lowered, anchor)})
    for place in places:
        if place < seen:
            continue
        match = _PASSWORD.match(text, place + (lowered[place] in " _"))
        if match is None:
            continue
        quoted = match.group("q") is not None
        value = match.group("q") or match.group("u")
        start, end = match.span("q" if quoted else "u")
        if not quoted:
            trimmed = value.rstrip(".,:;!?") if value[-1] in ".,:;?" else value
            end -= len(value) - len(trimmed)
            value = trimmed
        if _password_value(value, quoted, match, text, end):
            seen = end
            yield Finding("SECRET_PASSWORD", start, end, 0.8)


def _places(text: str, word: str) -> Iterator[int]:
    place = text.find(word)
    while place >= 0:
        yield place
        place = text.find(word, place + len(word))


_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def _password_value(value: str, quoted: bool, match: re.Match[str], text: str, end: int) -> bool:
    if (
        len(value) < 6
        or PLACEHOLDER.match(value)
        or "://" in value
        or value.startswith((":", "/", "./", "../", "--", "&"))
    ):
        return False
    name, sep = match.group("name").lower(), match.group("sep").strip().lower()
    if name.strip("_.- s") in (
        "hash", "hasher", "hashers", "field", "reset", "length", "file", "prompt", "policy", "manager", "input", "label", "validator",
        "validators", "re", "strength", "type", "changed", "callback", "url", "form", "confirm", "required", "min", "max", "help", "error",
    ):  # fmt: skip
        return False
    has_digit = any(char.isdigit() for char in value)
    has_alpha = any(char.isalpha() for char in value)
    has_other = any(not char.isalnum() and char not in "_.- " for char in value)
    mixed = any(char.islower() for char in value) and any(char.isupper() for char in value[1:])
    if " " in value:
        return quoted and "phrase" in match.group(0).lower() and value.count(" ") >= 2
    if sep in (",", "", "|", "||", "??") and not (has_digit and has_alpha):
        return False
    if sep == "," and not (quoted and has_digit and has_alpha):
        return False
    if quoted:
        return has_alpha and (
            has_digit
            or (has_other and not value.endswith((":", "?", "%", "=")))
            or (mixed and len(value) >= 10 and not value.isidentifier())
        )
    if sep in ("to", "was", "is", "es", "est", "ist") and not ((has_digit and has_alpha) or (has_other and mixed)):
        return False
    if _IDENTIFIER.fullmatch(value):
        following = text[end : end + 1]
        if (
            not has_digit
            or following in ("(", ",", ")", "[")
            or (sep == "=" and " =" in match.group(0) and not random_looking(value))
        ):
            return False
        return mixed or (
            sep != "," and following in ("", "\n", "\r", " ", ".", "\\", '"', "'", "!", "?", ";", "&", "<")
        )
    return (has_alpha and (has_digit or has_other) and not re.fullmatch(r"[\w.:/@-]+(?:\.\w{1,4})", value)) or (
        has_digit and has_other
    )
