"""Secrets that stand in a policy in clear. Pure; what is found is never repeated in the finding."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

from agent_os.policy.compile import Unit
from agent_os.policy.reader import join

_PATTERNS: Final = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("an AWS access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
        ("a GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{30,}\b|\bgithub_pat_[A-Za-z0-9_]{40,}\b"),
        ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{18,}\b"),
        ("an API key", r"\b(?:sk|rk|pk)[-_](?:live|test|proj|ant|or)?[-_]?[A-Za-z0-9_-]{20,}\b"),
        ("an NVIDIA API key", r"\bnvapi-[A-Za-z0-9_-]{30,}\b"),
        ("a Slack token", r"\bxox[abposr]-[A-Za-z0-9-]{10,}\b"),
        ("a Google API key", r"\bAIza[0-9A-Za-z_-]{35}\b"),
        ("a Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}\b"),
        ("a JSON web token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
        ("a private key", r"-----BEGIN (?:[A-Z ]+ )?PRIVATE KEY-----"),
        ("credentials in a URL", r"[a-z][a-z0-9+.-]{1,20}://[^/\s:@]{1,100}:[^/\s:@]{3,200}@"),
        ("a bearer token", r"(?i)\bbearer\s+[A-Za-z0-9._~+/-]{20,}"),
    )
)
_TELLING: Final = re.compile(r"(?i)(?:^|[_-])(?:password|passwd|pwd|token|api_?key|secret|authorization|credential)s?$")
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
MIN_ENTROPY_BITS: Final = 3.2


def secrets_in(unit: Unit) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield a finding `secret-in-clear` for each value that looks like a secret."""
    fix = "keep it in the environment, a file or the keyring, and name it under `secrets`"
    for path, key, text in _texts(unit.document.value, ""):
        for name, pattern in _PATTERNS:
            if pattern.search(text):
                yield "secret-in-clear", "error", path, f"holds {name} in clear", fix
                break
        else:
            telling = ".set_env." in path or ".headers." in path
            if telling and _TELLING.search(key) and len(text) >= 8 and _entropy(text) >= MIN_ENTROPY_BITS:
                yield "secret-in-clear", "error", path, "looks like a secret in clear", fix
            elif path.endswith(".secret") and not _PLAIN.fullmatch(text):
                yield "secret-in-clear", "error", path, "must be the name of a secret, not the secret", fix


def looks_secret(text: str) -> bool:
    """Return whether a text is no name of a secret, or looks like a secret itself."""
    return not _PLAIN.fullmatch(text) or any(pattern.search(text) for _, pattern in _PATTERNS)


def _texts(value: Any, path: str, key: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, join(path, name), name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, join(path, index), key)
    elif isinstance(value, str):
        yield path, key, value


def _entropy(text: str) -> float:
    total = len(text)
    return -sum(
        (count := text.count(char)) / total * math.log2(count / total) for char in set(text)
    )  # fmt: skip
