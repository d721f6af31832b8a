"""How a value looks: drawn at random, filler, or a placeholder somebody is to replace. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final

from agent_os.effects.detectors import secrets as catalogue

PLACEHOLDER: Final = re.compile(
    r"(?i)^(?:x{3,}.*|\*+|\.+|_+|-+|0+|<.*|\$.*|%[({].*|%\w+%|\{.*|\[.*|@.*|.*[_.-]?x{6,}.*|.*example.*|.*placeholder.*"
    r"|your.*|my[_-].*|.*change[_-]?(?:me|it|this).*|.*redacted.*|.*dummy.*|.*sample.*|insert.*|enter.*|test|testing|tests|secret|"
    r"password\d{0,3}|passw0rd|pass|passwd|pwd|none|null|nil|true|false|undefined|string|str|todo|tbd|hidden|foo\w*|bar|baz|"
    r"token|key|value|admin|root|user|username|default|empty|required|optional|abc123|1234\d*|abcd.{0,4}|not[_-].*|no[_-].*|"
    r"(?:self|this|os|process|env|config|settings|args|request|req|params|data|options|ctx|props|vars|secrets|var|local|module|"
    r"input|import|steps|github|inputs)[.\[].*|.*\(.*|.*\)|.*\$\{.*|.*\{\{.*)$"
)
_DIGIT: Final = re.compile(r"[0-9]")


def entropy(value: str) -> float:
    counts = Counter(value)
    size = len(value)
    return -sum(count / size * math.log2(count / size) for count in counts.values())


def repetitive(value: str) -> bool:
    """Whether a value is filler: few different characters, or a run of one."""
    body = value[-24:]
    return (
        (len(set(body)) <= 4 and len(body) > 11)
        or "xxxxx" in value.lower()
        or "00000000000" in value
        or "123456789012" in value
    )


WORDY: Final = re.compile(r"[a-z]{4,}|[A-Z]{4,}|[A-Z][a-z]{3,}")


def random_looking(value: str) -> bool:
    """Whether a value looks drawn at random, not written: hex, or digits and letters mixed within one segment."""
    if HEX.fullmatch(value):
        return len(value) >= 16 and bool(re.search(r"[a-fA-F]", value)) and entropy(value) > 2.9
    if _UUID.fullmatch(value):
        return True
    segment = max(re.split(r"[._/~-]", value) if value.count("/") + value.count(".") > 1 else [value], key=len)
    if len(segment) < 12 or not _DIGIT.search(segment) or not re.search(r"[A-Za-z]", segment):
        return False
    wordy = sum(len(word) for word in WORDY.findall(segment))
    limit = 0.5 if len(segment) < 20 else 0.6
    if wordy / len(segment) > limit:
        return False
    return entropy(segment) > (3.0 if len(segment) < 20 else 3.4)


HEX: Final = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_UUID: Final = re.compile(catalogue.UUID)
