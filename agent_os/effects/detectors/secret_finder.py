"""Finds secrets in one text: shaped ones by prefix, named and assigned ones by the words in front of them.

Pure computation: no clock, no I/O. Cost is linear: one pass cuts the text into long tokens, and only tokens that hold a
digit are looked at; everything after that works on a token and the line in front of it. Threat: keys that leave in a
prompt, a tool argument or a request; and the opposite, a detector so noisy that its users turn it off.
"""

# ruff: noqa: E501 - word lists and expressions read better whole
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

from agent_os.core.facts import Finding
from agent_os.effects.detectors import secrets as catalogue
from agent_os.effects.detectors.looks import HEX, PLACEHOLDER, WORDY, entropy, random_looking, repetitive
from agent_os.effects.detectors.passwords import passwords

WINDOW_CHARS: Final = 110
TOKEN_CHARS_MAX: Final = 4096
_LONG: Final = re.compile(r"[A-Za-z0-9+/_.~$:%=&?@#-]{14,}")
_VALUE: Final = re.compile(r"[A-Za-z0-9+/_.~!-]{12,}={0,2}")
_CAPITALS: Final = re.compile(r"[A-Z]{12}|[a-z][A-Z][a-z]?[A-Z]")
_DIGIT: Final = re.compile(r"[0-9]")
_WORD: Final = re.compile(r"[A-Z]?[a-z\u00df-\u00ff]+|[A-Z]+(?![a-z])|[0-9]+")
_BOUNDARY: Final = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt])|(?<=%[23][0-9A-F]))"
_LOOSE_KINDS: Final = frozenset(
    "PRIVATE_KEY PUTTY_PRIVATE_KEY URL_CREDENTIALS CURL_USER NETRC_PASSWORD JDBC_PASSWORD CONNECTION_STRING DOCKER_AUTH "
    "SSH_HOST_PASSWORD MYSQL_CLI_PASSWORD PGPASSWORD AZURE_STORAGE_KEY AZURE_SERVICE_BUS_KEY APPLE_APP_PASSWORD BEARER_TOKEN "
    "BASIC_AUTH NPM_LEGACY_TOKEN FLYIO_TOKEN".split()
)
_SEPARATED: Final = re.compile(
    r"(?:[=:,>(\[|?]|\b(?:is|or|was|are|be|use|using|with|as|to|key|token|secret|password|value|header|bearer|basic|ist|lautet|mit|est|es|"
    r"con|avec|ssws|named|called|following)|\u00e8)\s{0,3}[\\\"'`(<\[]{0,4}\s{0,2}$"
    r"|(?:key|token|secret|credential|password|sid|auth|pat)s?[\"'\]`*]{0,3}(?:\t{1,3}| {2,20}| ?[\"'`])$",
    re.I,
)
_HARMLESS: Final = frozenset(
    "hash sha sha1 sha256 sha512 md5 digest checksum fingerprint commit integrity etag revision rev version build uuid guid public "
    "primary foreign image blob tree oid crc signature thumbprint nonce url path file filename name endpoint uri".split()
)
_CARRIERS: Final = frozenset({"value", "default", "data", "content", "string", "val"})
_KEYISH: Final = frozenset(
    "key keys token tokens secret secrets password passwd pwd auth authorization credential credentials creds pat apikey login "
    "bearer api sid hash pass schl\u00fcssel clave chiave cl\u00e9".split()
)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


class SecretFinder:
    """Scans texts for every kind of the catalogue; stateless after construction."""

    def __init__(self) -> None:
        tight: dict[str, list[tuple[str, str]]] = {}
        self._loose: dict[str, list[tuple[str, str]]] = {}
        for kind, anchors, body in catalogue.SHAPED:
            for anchor in _anchors(anchors, kind):
                rows = self._loose if kind in _LOOSE_KINDS else tight
                rows.setdefault(anchor, []).append((kind, re.escape(anchor) + body))
        self._tight = tight
        self._trie = re.compile(_BOUNDARY + "(?:" + trie(tight) + ")")
        self._inner = [
            (kind, anchor, before, body)
            for kind, anchors, before, body in catalogue.INNER
            for anchor in anchors.split(" ")
            if body != "(?!)"
        ]
        self._named: dict[str, list[tuple[str, str]]] = {}
        for kind, vendors, body in catalogue.NAMED:
            for vendor in vendors.split(" "):
                self._named.setdefault(re.sub(r"[^a-z0-9]", "", vendor), []).append((kind, f"(?:{body})"))
        self._assigned: dict[str, str] = {}
        for name, words in (
            ("PASSWORD", catalogue.PASSWORD_WORDS), ("API_KEY", catalogue.KEY_WORDS), ("TOKEN", catalogue.TOKEN_WORDS),
            ("SECRET", catalogue.SECRET_WORDS),
        ):  # fmt: skip
            self._assigned.update((word, name) for word in words)

    @property
    def kinds(self) -> frozenset[str]:
        """Every entity name this finder can report."""
        rows: Iterable[tuple[str, ...]] = (*catalogue.SHAPED, *catalogue.INNER, *catalogue.NAMED)  # type: ignore[arg-type]
        return frozenset(f"SECRET_{row[0]}" for row in rows) | {
            f"SECRET_{name}" for name in set(self._assigned.values())
        }

    def find(self, text: str, lowered: str) -> list[Finding]:
        """Return findings in one text; `lowered` is the same text in lower case, of the same length."""
        found: list[Finding] = []
        for anchor, rows in self._loose.items():
            start = text.find(anchor)
            while start >= 0:
                self._shaped(text, start, rows, found)
                start = text.find(anchor, start + len(anchor))
        for kind, anchor, before, body in self._inner:
            start = lowered.find(anchor)
            while start >= 0:
                low = max(0, start - before)
                match = _compiled(body).search(text, low, start + 260)
                if match and match.end() > start and _plausible(kind, match.groupdict().get("p") or match.group()):
                    found.append(_finding(kind, match))
                start = lowered.find(anchor, start + len(anchor))
        found.extend(passwords(text, lowered))
        for region in _LONG.finditer(text):
            begin, end = region.span()
            digit = _DIGIT.search(text, begin, end)
            if not digit and not _CAPITALS.search(text, begin, end):
                continue
            size = len(found)
            for hit in self._trie.finditer(text, begin, end):
                self._shaped(text, hit.start(), self._tight[hit.group()], found)
            if digit and len(found) == size:
                self._by_name(text, begin, end, found)
        found.extend(_aws_pairs(text, found))
        return found

    def _shaped(self, text: str, start: int, rows: list[tuple[str, str]], found: list[Finding]) -> None:
        for kind, pattern in rows:
            match = _compiled(pattern).match(text, start)
            if match is None:
                continue
            value = match.group("v") if "v" in match.re.groupindex else match.group()
            if value.endswith("EXAMPLE") or repetitive(value) or not _plausible(kind, value):
                continue
            found.append(_finding(kind, match))
            return

    def _by_name(self, text: str, begin: int, end: int, found: list[Finding]) -> None:
        for match in _VALUE.finditer(text, begin, end):
            start, stop = match.span()
            value = match.group()
            if stop - start > TOKEN_CHARS_MAX or not _DIGIT.search(value):
                continue
            trimmed = value.rstrip(".!-")
            stop -= len(value) - len(trimmed)
            window = text[max(0, start - WINDOW_CHARS) : start]
            alone = not window[window.rfind("\n") + 1 :].strip() and window.rstrip().endswith(":")
            if alone:  # "here is the token:" and the value on a line of its own
                window = window.rstrip()
            window = window[window.rfind("\n", 0, len(window) - 1) + 1 :] if not window.endswith("\n") else ""
            words = [word.lower() for word in _WORD.findall(window)][-14:]
            if words and words[-1] in _CARRIERS and len(words) < 3:  # `name: API_KEY` and on the next line `value: …`
                words = [word.lower() for word in _WORD.findall(text[max(0, start - WINDOW_CHARS) : start])][-14:-1]
            if not words:
                continue
            kind = self._judge(trimmed, words, window, text, stop)
            if kind:
                found.append(Finding(f"SECRET_{kind}", start, stop, 0.85))

    def _judge(self, value: str, words: list[str], window: str, text: str, stop: int) -> str:
        """Return the kind of a value by the words in front of it, or an empty string."""
        if PLACEHOLDER.match(value) or repetitive(value) or value.endswith(("PrivateKey", "PublicKey")):
            return ""
        grams = list(_grams(words))
        keyish = bool(_KEYISH.intersection(words)) or any(gram in self._assigned for gram in grams)
        if not keyish or not _SEPARATED.search(window):
            return ""
        close = set(words[-3:])
        for gram in grams:
            for kind, pattern in self._named.get(gram, ()):
                if _compiled(pattern).fullmatch(value) and entropy(value) > 2.6:
                    return kind
        if close & _HARMLESS or text[stop : stop + 1] == "(":
            return ""
        name = next((self._assigned[gram] for gram in reversed(list(_grams(words[-7:]))) if gram in self._assigned), "")
        if name and name != "PASSWORD" and random_looking(value):
            return name
        return ""


def _anchors(anchors: str, kind: str) -> list[str]:
    """Split a cell of anchors at blanks; an anchor that holds a blank stands alone in its cell or ends in one."""
    if kind in _LOOSE_KINDS:
        known = ("-----BEGIN", "Data Source=", "data source=", "machine ", "curl ", "mysql ", "sshpass -p", "FlyV1 ")
        rest, result = anchors, []
        for item in known:
            if item in rest:
                rest = rest.replace(item, "")
                result.append(item)
        return result + rest.split()
    return anchors.split()


def trie(words: Iterable[str]) -> str:
    """Return a regular expression that matches the longest of many literals, factored by common beginnings."""
    root: dict[str, dict[str, object]] = {}
    for word in sorted(words):
        node: dict[str, object] = root  # type: ignore[assignment]
        for char in word:
            node = node.setdefault(char, {})  # type: ignore[assignment]
        node[""] = {}

    def write(node: dict[str, object]) -> str:
        branches = [re.escape(char) + write(child) for char, child in node.items() if char]  # type: ignore[arg-type]
        if not branches:
            return ""
        body = branches[0] if len(branches) == 1 else "(?:" + "|".join(branches) + ")"
        return f"(?:{body})?" if "" in node else body

    return write(root)  # type: ignore[arg-type]


def _grams(words: list[str]) -> Iterator[str]:
    """Yield words, and neighbours joined by two, three and four, in order of their end."""
    for index in range(len(words)):
        for size in (1, 2, 3, 4):
            if index + 1 >= size:
                yield "".join(words[index + 1 - size : index + 1])


def _finding(kind: str, match: re.Match[str]) -> Finding:
    start, end = match.span("v") if "v" in match.re.groupindex else match.span()
    return Finding(f"SECRET_{kind}", start, end, 0.95)


_PLAIN_PREFIX: Final = frozenset(
    "OCTOPUS_API_KEY TWILIO_ACCOUNT_SID SCALEWAY_ACCESS_KEY LAUNCHDARKLY_KEY GOCARDLESS_TOKEN SPOTIFY_TOKEN LINKEDIN_TOKEN "
    "TENCENT_SECRET_ID CRATES_IO_TOKEN BEARER_TOKEN NPM_LEGACY_TOKEN FIREWORKS_KEY BASETEN_KEY RAILWAY_TOKEN MODAL_TOKEN "
    "MANDRILL_KEY RESEND_KEY ADYEN_KEY SQUARE_TOKEN FACEBOOK_TOKEN AIVEN_TOKEN ARTIFACTORY_KEY".split()
)


def _plausible(kind: str, value: str) -> bool:
    if kind in ("BASIC_AUTH", "DOCKER_AUTH"):
        return _basic(value)
    if kind in ("URL_CREDENTIALS", "CURL_USER"):
        password = value.partition(":")[2] if kind == "CURL_USER" else value
        return not PLACEHOLDER.match(password) or len(password) > 20
    if kind in ("PRIVATE_KEY", "JWT"):
        return True
    if kind in _PLAIN_PREFIX:
        return (
            bool(_DIGIT.search(value))
            and entropy(value) > 3.2
            and sum(map(len, WORDY.findall(value))) / len(value) < 0.75
        )
    if kind.endswith("PASSWORD") or kind == "CONNECTION_STRING":
        return not PLACEHOLDER.match(value)
    return entropy(value) > 2.5


def _basic(value: str) -> bool:
    """Whether a Basic credential decodes to `user:password`."""
    import base64  # noqa: PLC0415

    try:
        plain = base64.b64decode(value + "=" * (-len(value) % 4), validate=True).decode()
    except ValueError:
        return False
    return ":" in plain and plain.isprintable()


_AWS_SECRET: Final = re.compile(r"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")


def _aws_pairs(text: str, found: list[Finding]) -> Iterator[Finding]:
    """A bare 40-character base64 value near an AWS access key is its secret key."""
    for item in [finding for finding in found if finding.type == "SECRET_AWS_ACCESS_KEY"]:
        for match in _AWS_SECRET.finditer(text, max(0, item.start - 300), item.end + 300):
            value = match.group()
            if entropy(value) > 4.0 and not HEX.fullmatch(value):
                yield Finding("SECRET_AWS_SECRET_KEY", match.start(), match.end(), 0.85)
