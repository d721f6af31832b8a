"""Pseudonyms: reversible, consistent within one scope, and impossible to forge from text. Pure; the key is handed in.

A placeholder is `[PERSON_1_9f2c04ab]`: the entity's name, a number that is the same for every spelling of one entity, and a
tag, the first 32 bits of HMAC-SHA-256 over (entity, number, exact spelling) under the scope's key. Only a placeholder that
this book issued is restored, and text that already looks like one is itself put behind a placeholder (entity LITERAL), so
restore(pseudonymise(x)) == x for every x. There is never a hash of a value in the output that could be guessed
at without the key. Threats: a web page that carries a look-alike, one session reading another's pseudonyms, a
dictionary attack on unsalted hashes.

Realistic surrogates (another name, a valid IBAN marked as ours, an e-mail address under a reserved domain) read better to a
model. Restoring them is best effort: a model may inflect or re-case a name.
"""

# ruff: noqa: E501 - word lists and expressions read better whole
from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from agent_os.core.errors import EffectError
from agent_os.guards.privacy import surrogates

PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z0-9_]{0,47}_[0-9]{1,7}_[0-9a-f]{8}\]")
PLACEHOLDER_CHARS_MAX: Final = 1 + 48 + 1 + 7 + 1 + 8 + 1
BOOK_ENTRIES_MAX: Final = 200_000
REALISTIC_CHARS_MAX: Final = 65_536
"""The longest text in which stand-ins are looked for before one is issued; in a longer one placeholders are."""
LITERAL: Final = "LITERAL"
_TITLES: Final = frozenset(
    "mr mrs ms miss mx dr prof sir madam lady lord herr frau fr hr m mme mlle monsieur madame mademoiselle sr sra srta se\u00f1or se\u00f1ora don "
    "do\u00f1a signor signora sig sigra dott dottssa ing".split()
)
_SPELLED: Final = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One issued pseudonym: what stands in the text, and what it stands for."""

    pseudonym: str
    type: str
    number: int
    original: str

    def to_text(self) -> str:
        """Return the form a vault stores beside the pseudonym."""
        return f"{self.type}:{self.number}:{self.original}"

    @staticmethod
    def from_text(pseudonym: str, text: str) -> Entry:
        """Return the entry of a vault's form; raises EffectError for anything else."""
        kind, _, rest = text.partition(":")
        number, colon, original = rest.partition(":")
        if not colon or not number.isdigit():
            raise EffectError("the vault holds something that is no pseudonym")
        return Entry(pseudonym, kind, int(number), original)


class PseudonymBook:
    """The pseudonyms of one scope (a session, a user or a tenant). Not shared between scopes, whatever their text says."""

    def __init__(self, key: bytes, *, scope: str = "", realistic: bool = False) -> None:
        if len(key) < 16:
            raise EffectError("a pseudonym key has at least 16 bytes")
        self._key = hashlib.blake2b(scope.encode(), key=key[:64], digest_size=32).digest()
        self.scope, self.realistic = scope, realistic
        self._by_original: dict[tuple[str, str], Entry] = {}
        self._by_pseudonym: dict[str, Entry] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._next: dict[str, int] = {}
        self._people: dict[str, set[int]] = {}
        self._surrogates: dict[str, Entry] = {}
        self._fresh: list[Entry] = []

    def pseudonym(self, kind: str, original: str, *, avoid: str = "") -> str:
        """Return the pseudonym of a value, issuing one if it has none; `avoid` is text it must not occur in.

        Raises EffectError when the book is full: the caller denies, nothing goes out unreplaced.
        """
        known = self._by_original.get((kind, original))
        if known is not None:
            return known.pseudonym
        if len(self._by_original) >= BOOK_ENTRIES_MAX:
            raise EffectError(f"a scope holds at most {BOOK_ENTRIES_MAX} pseudonyms")
        number = self._number(kind, original)
        text = ""
        if self.realistic and kind != LITERAL and len(avoid) <= REALISTIC_CHARS_MAX:
            for attempt in range(surrogates.ATTEMPTS_MAX):
                seed = self._mac(f"{kind}|{number}|{attempt}")
                text = surrogates.surrogate(kind, original, number, seed, spelling=self._mac(f"{kind}|{original}"))
                if not text or (text not in self._by_pseudonym and text not in avoid and text != original):
                    break
                text = ""
        if not text:
            text = f"[{kind[:48]}_{number}_{self._mac(f'{kind}|{number}|{original}').hex()[:8]}]"
        if text in self._by_pseudonym:  # 32 bits met by chance: another number makes another tag
            number = self._next[kind] = self._next.get(kind, 0) + 1
            text = f"[{kind[:48]}_{number}_{self._mac(f'{kind}|{number}|{original}').hex()[:8]}]"
        entry = Entry(text, kind, number, original)
        self._add(entry)
        self._fresh.append(entry)
        return text

    def original(self, pseudonym: str) -> str | None:
        """Return what an issued pseudonym stands for; None for everything else, however much it looks like one."""
        entry = self._by_pseudonym.get(pseudonym)
        return entry.original if entry is not None else None

    @property
    def surrogates(self) -> Collection[str]:
        """The issued pseudonyms that are not placeholders."""
        return self._surrogates

    def take_fresh(self) -> list[Entry]:
        """Return the entries issued since the last call, for a vault to keep."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def load(self, entries: Mapping[str, str]) -> None:
        """Take entries back from a vault (pseudonym -> stored text)."""
        for pseudonym, text in entries.items():
            self._add(Entry.from_text(pseudonym, text))

    def __len__(self) -> int:
        return len(self._by_original)

    def _add(self, entry: Entry) -> None:
        self._by_original[entry.type, entry.original] = entry
        self._by_pseudonym[entry.pseudonym] = entry
        if not PLACEHOLDER.fullmatch(entry.pseudonym):
            self._surrogates[entry.pseudonym] = entry
        self._next[entry.type] = max(self._next.get(entry.type, 0), entry.number)
        self._numbers[entry.type, _folded(entry.type, entry.original)] = entry.number
        if entry.type == "PERSON":
            for part in name_parts(entry.original):
                self._people.setdefault(part, set()).add(entry.number)

    def _number(self, kind: str, original: str) -> int:
        """Return the number of the entity a spelling belongs to; a new one for an unknown entity."""
        number = self._numbers.get((kind, _folded(kind, original)))
        if number is None and kind == "PERSON":
            number = self._linked(original)
        return number if number is not None else self._next.get(kind, 0) + 1

    def _linked(self, original: str) -> int | None:
        """A first name or a surname alone belongs to the one person who bears it; to nobody if two do."""
        parts = name_parts(original)
        candidates = [self._people.get(part, set()) for part in parts]
        common = set.intersection(*candidates) if candidates else set()
        return next(iter(common)) if len(common) == 1 else None

    def _mac(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")


class SentBook:
    """One session's view of a book that several users share: it gives back the stand-ins that the session sent, and no others.

    Placeholders carry a keyed tag and cannot be guessed: they come back whoever sent them. A stand-in is one of few, and a user
    who has a model say many would be given what others wrote.
    """

    def __init__(self, book: PseudonymBook) -> None:
        self._book = book
        self._sent: dict[str, None] = {}

    def pseudonym(self, kind: str, original: str, *, avoid: str = "") -> str:
        """Return the pseudonym of a value, which this session may restore from now on."""
        text = self._book.pseudonym(kind, original, avoid=avoid)
        if text in self._book.surrogates:
            self._sent[text] = None
        return text

    def original(self, pseudonym: str) -> str | None:
        """Return what a placeholder, or a stand-in that was sent, stands for."""
        if pseudonym not in self._sent and not PLACEHOLDER.fullmatch(pseudonym):
            return None
        return self._book.original(pseudonym)

    @property
    def surrogates(self) -> Collection[str]:
        """The stand-ins that were sent."""
        return self._sent.keys()


def name_parts(name: str) -> list[str]:
    """Return the parts of a person's name without titles and initials, folded."""
    parts = [part.casefold() for part in _SPELLED.findall(name)]
    return [part.removesuffix("'s").removesuffix("\u2019s") for part in parts if part not in _TITLES and len(part) > 1]


def _folded(kind: str, original: str) -> str:
    """Return a spelling-independent form: one entity in two spellings has one."""
    if kind == "PERSON":
        return " ".join(name_parts(original)) or original.casefold()
    if kind in ("EMAIL_ADDRESS", "LOCATION", "ORGANIZATION", "URL"):
        return " ".join(original.casefold().split())
    if kind == LITERAL or kind.startswith("SECRET_"):
        return original
    return "".join(char for char in original.upper() if char.isalnum())
