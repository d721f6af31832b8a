"""Recognisers of the policy file: its own patterns and words, lists of what is never and what is always a finding.

Patterns run in RE2, which is linear in the text whatever the pattern says. Threats: a pattern of a policy file that
hangs the detector; an allow-list that takes the sting out of another layer's rules (an entry counts only if every
layer has it).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from agent_os.core.errors import EffectError
from agent_os.core.facts import Finding
from agent_os.guards.privacy import accounts, checks

MATCHES_MAX: Final = 100_000
CONTEXT_CHARS: Final = 80
CONTEXT_BOOST: Final = 0.35
_CHECKSUMS: Final[dict[str, Callable[[str], bool]]] = {
    "luhn": checks.luhn,
    "iban": accounts.iban,
    "mod97": lambda value: (number := checks.digits(value)) != "" and int(number) % 97 == 1,
    "mod11": lambda value: _mod11(checks.digits(value)),
}


def _mod11(number: str) -> bool:
    """Whether the weighted sum of the digits, weights falling to 1, is divisible by 11 (ISBN-10, many account numbers)."""
    return (
        len(number) > 1
        and sum(int(char) * weight for char, weight in zip(number, range(len(number), 0, -1), strict=True)) % 11 == 0
    )


class CustomRecogniser:
    """One recogniser of the file. `spec` is a schema.privacy.Recognizer. Raises EffectError for what RE2 refuses."""

    def __init__(self, spec: Any) -> None:
        import re2  # noqa: PLC0415

        self._entity, self._score = str(spec.entity), float(spec.score)
        self._context = tuple(word.lower() for word in spec.context)
        self._check = _CHECKSUMS.get(spec.checksum or "")
        parts = [spec.regex] if spec.regex else []
        if spec.words:
            words = "|".join(re2.escape(word) for word in sorted(spec.words, key=len, reverse=True))
            parts.append(rf"(?i:\b(?:{words})\b)")
        try:
            self._pattern = re2.compile("|".join(f"(?:{part})" for part in parts))
        except Exception as error:
            raise EffectError(f"a recogniser for {self._entity} is no RE2 pattern") from error

    def find(self, text: str, lowered: str) -> list[Finding]:
        """Return the findings of one text."""
        found: list[Finding] = []
        for match in self._pattern.finditer(text):
            start, end = match.span()
            if end <= start or (self._check is not None and not self._check(match.group())):
                continue
            score = self._score
            if self._context:
                window = lowered[max(0, start - CONTEXT_CHARS) : end + CONTEXT_CHARS]
                if any(word in window for word in self._context):
                    score = min(1.0, score + CONTEXT_BOOST)
            found.append(Finding(self._entity, start, end, score, "custom"))
            if len(found) > MATCHES_MAX:
                raise EffectError(f"a recogniser for {self._entity} matches more than {MATCHES_MAX} times")
        return found


class ListedTexts:
    """Texts that always are an entity: the file's deny-list."""

    def __init__(self, listed: dict[str, Sequence[str]]) -> None:
        self._entities = {text.casefold(): entity for entity, texts in listed.items() for text in texts if text}
        words = sorted(self._entities, key=len, reverse=True)
        self._pattern = (
            re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words), re.I) if words else None
        )

    def find(self, text: str, _lowered: str) -> list[Finding]:
        """Return the findings of one text."""
        if self._pattern is None:
            return []
        return [
            Finding(self._entities.get(match.group().casefold(), "LISTED"), match.start(), match.end(), 1.0, "listed")
            for match in self._pattern.finditer(text)
        ]
