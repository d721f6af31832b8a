"""Words of identifiers in German, French, Spanish and Italian, as the English words that drafts and planner know. Pure.

`termin_buchen` and `book_appointment` name the same thing. Accents may be missing and umlauts written with two letters; of a
German compound the end counts. What is not known stays as it is, and is then nobody's verb or noun.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

from agent_os.guards.flow import tongue_words, tongues

_DIGRAPHS: Final = {ord("ä"): "ae", ord("ö"): "oe", ord("ü"): "ue", ord("ß"): "ss"}


def _folded(word: str) -> set[str]:
    """Return the spellings of a word in an identifier: with its marks, without them, and with German digraphs."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", word) if not unicodedata.combining(char))
    return {word, plain, word.translate(_DIGRAPHS)}


def _identifiers() -> dict[str, str]:
    found: dict[str, str] = {}
    for tongue in tongues.TONGUES:
        tables = (tongue_words.READING[tongue.name], tongue_words.FIELDS[tongue.name])
        for words in (*map(tongues.table, tables), tongue.nouns, tongue.verbs):
            for word, meaning in words.items():
                for form in _folded(word):
                    found.setdefault(form, meaning)
    return found


IDENTIFIERS: Final = _identifiers()
"""Words of tools, arguments and fields in four languages -> English."""
_GERMAN: Final = (*tongues.TONGUES[0].nouns, *tongues.table(tongue_words.FIELDS["german"]))
_HEADS: Final = {form for word in _GERMAN if len(word) >= tongues.COMPOUND_CHARS_MIN for form in _folded(word)}
_ENDINGS: Final = tuple(sorted(_HEADS, key=len, reverse=True))


@lru_cache(maxsize=8192)
def identifier_word(word: str) -> str:
    """Return the English of a word in an identifier, of a German compound's end, or the word itself."""
    known = IDENTIFIERS.get(word)
    if known is None and len(word) > tongues.COMPOUND_CHARS_MIN:
        ending = next((end for end in _ENDINGS if word.endswith(end)), "")
        known = IDENTIFIERS.get(ending) if ending else None
    return known or word
