"""The detector: pattern finders, names and (if installed) a language model, composed behind the port `Detector`.

Findings of a text are remembered under a keyed digest of it, bounded, so that the earlier messages of a conversation are
not scanned again; the key is drawn at start and never leaves the process, so the memory cannot be probed for a text by its
hash. Fails closed: a text that is too long, or a recogniser that raises, is an EffectError, which its caller turns into a
denial.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from agent_os.core.errors import EffectError
from agent_os.core.facts import Finding
from agent_os.effects.detectors.personal_finder import PersonalFinder
from agent_os.effects.detectors.secret_finder import SecretFinder
from agent_os.guards.privacy import fields
from agent_os.guards.privacy.pseudonyms import LITERAL, PLACEHOLDER
from agent_os.guards.privacy.spans import resolve
from agent_os.guards.privacy.views import views

TEXT_CHARS_MAX: Final = 64 * 1024 * 1024
THREAD_CHARS_MIN: Final = 20_000
CACHE_TEXTS_MAX: Final = 4096
CACHE_TEXT_CHARS_MIN: Final = 64
FINDINGS_MAX: Final = 2_000_000

Recogniser = Callable[[str, str], Sequence[Finding]]
"""Takes a text and its lower case of the same length; returns findings, overlaps allowed."""
ModelRecogniser = Callable[[str, str, Sequence[Finding]], Sequence[Finding]]
"""Takes what was found before as well, so that the slow model looks only at what is not explained yet."""


def lower_same_length(text: str) -> str:
    """Return the text in lower case with every offset unchanged (U+0130 and the like keep their case)."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


class LocalDetector:
    """Finds personal data and secrets in this process. `recognisers` are added to the pattern finders."""

    def __init__(
        self,
        recognisers: Mapping[str, tuple[frozenset[str], Recogniser]] | None = None,
        *,
        model: tuple[frozenset[str], ModelRecogniser] | None = None,
        allowed: frozenset[str] = frozenset(),
        timeout_s: float = 0.0,
        missing: EffectError | None = None,
        personal: bool = True,
    ) -> None:
        """`personal` False looks for secrets only (and for what `recognisers` find).

        `allowed` are texts (case-folded) that are never a finding; `missing` is raised by every `scan`: a part that a
        policy demands is not installed."""
        self._secrets, self._personal = SecretFinder(), PersonalFinder() if personal else None
        self._more = dict(recognisers or {})
        self._model, self._allowed, self._timeout_s, self._missing = model, allowed, timeout_s, missing
        self._key = os.urandom(32)
        self._cache: OrderedDict[bytes, tuple[Finding, ...]] = OrderedDict()
        self._names = frozenset(name[:48] for name in self.entities) | _NAMED_ELSEWHERE

    def demand(self, missing: EffectError) -> None:
        """Let every scan raise this from now on: something that a policy demands is not here. The first one stays."""
        self._missing = self._missing or missing

    @property
    def entities(self) -> frozenset[str]:
        """Every entity name this detector can find here and now."""
        more = (names for names, _ in self._more.values())
        model = self._model[0] if self._model is not None else frozenset()
        shapes = self._personal.kinds if self._personal is not None else frozenset()
        return self._secrets.kinds.union(shapes, model, *more)

    async def scan(self, texts: Mapping[str, str]) -> Sequence[Finding]:
        """Return findings for texts by RFC 6901 pointer; the last name in a pointer counts as the field's name."""
        if self._missing is not None:
            raise self._missing
        if sum(map(len, texts.values())) <= THREAD_CHARS_MIN:
            return self._scan_all(texts)
        import asyncio  # noqa: PLC0415 - a scan on the command line needs no loop

        work = asyncio.to_thread(self._scan_all, texts)  # the loop stays free, so that a deadline can strike
        if not self._timeout_s:
            return await work
        try:
            return await asyncio.wait_for(work, self._timeout_s)
        except TimeoutError:
            raise EffectError(f"the scan took more than {self._timeout_s:g} s") from None

    def _scan_all(self, texts: Mapping[str, str]) -> list[Finding]:
        found: list[Finding] = []
        for pointer, text in texts.items():
            items = self.scan_text(text)
            named = _by_pointer(pointer, text)
            if named is not None and not any(item.start < named.end and named.start < item.end for item in items):
                items = (*items, named)
            found.extend(replace(item, pointer=pointer) if pointer else item for item in items)
            if len(found) > FINDINGS_MAX:
                raise EffectError(f"more than {FINDINGS_MAX} findings in one action")
        return found

    def scan_text(self, text: str) -> tuple[Finding, ...]:
        """Return the findings of one text, without overlaps, in order. Raises EffectError."""
        if len(text) > TEXT_CHARS_MAX:
            raise EffectError(f"text of more than {TEXT_CHARS_MAX} characters: not scanned")
        if len(text) < CACHE_TEXT_CHARS_MIN:
            return self._scan(text)
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=24).digest()
        known = self._cache.get(digest)
        if known is not None:
            self._cache.move_to_end(digest)
            return known
        result = self._scan(text)
        self._cache[digest] = result
        if len(self._cache) > CACHE_TEXTS_MAX:
            self._cache.popitem(last=False)
        return result

    def _scan(self, text: str) -> tuple[Finding, ...]:
        try:
            return self._found(text)
        except (RecursionError, MemoryError, ValueError, IndexError, KeyError, TypeError) as error:
            raise EffectError(f"a recogniser failed: {type(error).__name__}") from error

    def _found(self, text: str) -> tuple[Finding, ...]:
        if "[" in text:  # our own placeholders and redactions are nobody's data
            text = _OURS.sub(self._blanked, text)
        lowered = lower_same_length(text)
        found = self._patterns(text, lowered)
        clean, low = written_out(text, lowered)
        for name, (_, recognise) in self._more.items():
            found.extend(replace(item, by=name) if item.by == "pattern" else item for item in recognise(clean, low))
        if self._model is not None:
            found.extend(self._model[1](clean, low, found))
        whole: list[Finding] = []
        for view in views(text):
            if view.cut:
                whole.append(Finding(UNREADABLE, view.starts[0], view.ends[-1], 1.0, "decoded"))
                continue
            low = lower_same_length(view.text)
            items = self._patterns(view.text, low)
            if not view.whole and len(view.text) * 2 > len(text):  # the text itself, with its escapes taken off
                items.extend(item for _, recognise in self._more.values() for item in recognise(view.text, low))
            for item in items:
                if item.score >= SURE_IN_VIEW and item.type not in _WEAK_IN_VIEW:
                    start, end = view.place(item.start, item.end)
                    (whole if view.whole else found).append(replace(item, start=start, end=end, by="decoded"))
        if len(found) > FINDINGS_MAX:
            raise EffectError(f"more than {FINDINGS_MAX} findings in one text")
        if self._allowed:
            found = [item for item in found if text[item.start : item.end].casefold() not in self._allowed]
        result = resolve(found, text=text)
        if whole:
            result = _with_encoded(result, whole)
        return tuple(result)

    def _blanked(self, match: re.Match[str]) -> str:
        """Return blanks for what names an entity as we do; anything else in its form is text (an account number, a key)."""
        name = match["entity"] or match["redacted"]
        return " " * len(match.group()) if name in self._names else match.group()

    def _patterns(self, text: str, lowered: str) -> list[Finding]:
        found = list(self._secrets.find(text, lowered))
        if self._personal is not None:
            found.extend(self._personal.find(*written_out(text, lowered)))
        return found


UNREADABLE: Final = "UNREADABLE"
"""Reported where more is encoded than the bounds let us read; the privacy section takes it like an image."""
SURE_IN_VIEW: Final = 0.5
_WEAK_IN_VIEW: Final = frozenset({"DATE_TIME", "AGE", "URL"})
_NAMED_ELSEWHERE: Final = frozenset({LITERAL, UNREADABLE, "SECRET", "PERSON", "LOCATION", "ORGANIZATION", "NRP"})
"""Entities in placeholders and redactions of detectors with more parts than this one, and of the rewriting itself."""
_OURS: Final = re.compile(
    r"(?=\[(?P<entity>[A-Z][A-Z0-9_]{0,47})_[0-9]{1,7}_[0-9a-f]{8}\])"
    + PLACEHOLDER.pattern
    + r"|\[REDACTED_(?P<redacted>[A-Z0-9_]{2,48})\]"
)


def written_out(text: str, lowered: str) -> tuple[str, str]:
    """Return a text in which escapes written out (`\\n` in a JSON string) end words; every offset stays."""
    if "\\" not in text:
        return text, lowered
    clean = text
    for escape in ("\\n", "\\r", "\\t"):
        clean = clean.replace(escape, " \n")
    return (text, lowered) if clean == text else (clean, lower_same_length(clean))


def _by_pointer(pointer: str, text: str) -> Finding | None:
    """Return the finding of a short text by the name of the field it stands in."""
    if len(text) > fields.VALUE_CHARS_MAX or pointer.endswith("#"):
        return None
    name = next((part for part in reversed(pointer.split("/")) if part and not part.isdigit()), "")
    kind = fields.field_type(name) if name else ""
    return fields.judged(kind, text, 0, len(text), quoted=True) if kind else None


def _with_encoded(result: list[Finding], whole: list[Finding]) -> list[Finding]:
    """Add what stands in encoded stretches: each entity once a stretch, in the place of guesses about the same stretch."""
    ranges = {(item.start, item.end) for item in whole}
    kept = [
        item
        for item in result
        if item.type.startswith("SECRET_")
        or not any(start <= item.start and item.end <= end for start, end in _around(ranges, item))
    ]
    added: dict[tuple[str, int, int], Finding] = {}
    for item in whole:
        if not any(other.type == item.type and other.start < item.end and item.start < other.end for other in kept):
            added[item.type, item.start, item.end] = item
    return sorted([*kept, *added.values()], key=lambda item: (item.start, -item.end))


def _around(ranges: set[tuple[int, int]], item: Finding) -> list[tuple[int, int]]:
    return [span for span in ranges if span[0] <= item.start < span[1]]
