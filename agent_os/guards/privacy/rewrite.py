"""Carries out what a decision obliges: redact, pseudonymise, keep local. Pure given the book of pseudonyms.

`rewrite` makes a new action, which the monitor decides again. Fails closed: an obligation that cannot be carried out on
this action raises EffectError, which denies. Threats: a finding whose offsets do not fit the text it claims to be in
(refused), two obligations for one finding (the stricter wins: redact over pseudonymise), text that looks like a
placeholder (put behind one of its own).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from agent_os.core.action import Action, ModelCall
from agent_os.core.decision import Obligation
from agent_os.core.errors import EffectError
from agent_os.core.facts import Finding
from agent_os.guards.privacy.content import replaced, texts_of
from agent_os.guards.privacy.pseudonyms import LITERAL, PLACEHOLDER, PseudonymBook, SentBook
from agent_os.guards.privacy.spans import resolve

REDACT, PSEUDONYMISE, LOCAL_ONLY = "redact", "pseudonymise", "local-only"
_STRICTNESS: Final = {REDACT: 2, PSEUDONYMISE: 1}
HANDLED: Final = frozenset({REDACT, PSEUDONYMISE, LOCAL_ONLY})


def finds(patterns: Sequence[str] | str, entity: str) -> bool:
    """Whether an entity name is meant by `find:` patterns: exact, a glob, or `SECRET` for every SECRET_ kind."""
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        if (
            pattern in (entity, "*")
            or (pattern == "SECRET" and entity.startswith("SECRET_"))
            or fnmatchcase(entity, pattern)
        ):
            return True
    return False


def rewrite(
    action: Action,
    findings: Sequence[Finding],
    obligations: Sequence[Obligation],
    book: PseudonymBook | SentBook,
    *,
    local: tuple[str, str] | None = None,
    produced: Callable[[str], bool] = lambda _text: False,
) -> Action:
    """Return the action with every obligation of kinds HANDLED carried out.

    `local` is (provider, model) of the model that keeps data here; without one a `local-only` obligation raises.
    `produced` says whether a text is already the outcome of a rewrite: its placeholders are ours and stay.
    Raises EffectError where an obligation cannot be carried out.
    """
    if any(item.kind == LOCAL_ONLY for item in obligations):
        action = _kept_local(action, local)
    tasks = [item for item in obligations if item.kind in _STRICTNESS]
    if not tasks:
        return action
    texts = texts_of(action)
    chosen: dict[str, list[tuple[Finding, str]]] = {}
    for finding in findings:
        what = _strictest(finding, tasks)
        if not what:
            continue
        text = texts.get(finding.pointer)
        if text is None or not 0 <= finding.start < finding.end <= len(text):
            raise EffectError("a finding points outside the action: nothing is rewritten by guess")
        chosen.setdefault(finding.pointer, []).append((finding, what))
    pseudonymising = any(item.kind == PSEUDONYMISE for item in tasks)

    def change(pointer: str, text: str) -> str:
        return rewrite_text(text, chosen.get(pointer, ()), book, shield=pseudonymising and not produced(text))

    return replaced(action, change)


def _kept_local(action: Action, local: tuple[str, str] | None) -> Action:
    if not isinstance(action, ModelCall):
        raise EffectError("only a model call can be kept local: this action has no local counterpart")
    if local is None:
        raise EffectError("the prompt may not leave and there is no local model")
    provider, model = local
    return action if (action.provider, action.model) == local else action.rewritten(provider=provider, model=model)


def meant(findings: Sequence[Finding], obligations: Sequence[Obligation]) -> list[Finding]:
    """Return the findings that obligations to redact or pseudonymise are about."""
    tasks = [item for item in obligations if item.kind in _STRICTNESS]
    return [item for item in findings if _strictest(item, tasks)]


def _strictest(finding: Finding, tasks: Iterable[Obligation]) -> str:
    best = ""
    for task in tasks:
        least = task.params.get("score", 0.0)
        wanted: Any = task.params.get("find", "*")
        if finding.score >= least and finds(wanted, finding.type) and _STRICTNESS[task.kind] > _STRICTNESS.get(best, 0):
            best = task.kind
    return best


def rewrite_text(
    text: str, chosen: Sequence[tuple[Finding, str]], book: PseudonymBook | SentBook, *, shield: bool = True
) -> str:
    """Return one text with findings replaced; `shield` puts look-alikes of placeholders behind placeholders.

    That holds for real placeholders of this book too: someone else may have planted one, and it must come back as the
    text it was, not as what it stands for.
    """
    redacted = _united([(item.start, item.end) for item, do in chosen if do == REDACT])
    spans = [item for item, _ in chosen]
    if shield and "[" in text:
        spans = _shielded(text, spans)
    if not spans:
        return text
    out: list[str] = []
    edge = 0
    for item in resolve(spans, text=text):
        original = text[item.start : item.end]
        out.append(text[edge : item.start])
        if item.type == LITERAL:
            out.append(book.pseudonym(LITERAL, original))
        elif _touched(redacted, item):  # resolution may have grown or cut the span: any of it decides
            out.append(f"[REDACTED_{item.type}]")
        else:
            out.append(book.pseudonym(item.type, original, avoid=text))
        edge = item.end
    out.append(text[edge:])
    return "".join(out)


def _touched(ranges: list[tuple[int, int]], item: Finding) -> bool:
    """Whether a span overlaps one of some disjoint ranges, in order."""
    before = bisect.bisect_left(ranges, item.end, key=_first) - 1
    return before >= 0 and item.start < ranges[before][1]


def _shielded(text: str, spans: list[Finding]) -> list[Finding]:
    """Add a LITERAL span for every look-alike, grown over the findings that overlap it."""
    literals = [match.span() for match in PLACEHOLDER.finditer(text)]
    if not literals:
        return spans
    result, grown = [], list(literals)
    for item in spans:
        first = bisect.bisect_right(literals, item.start, key=_last)
        if first < len(literals) and literals[first][0] < item.end:
            grown.append((min(item.start, literals[first][0]), max(item.end, literals[first][1])))
        else:
            result.append(item)
    result.extend(Finding(LITERAL, start, end, 9.0) for start, end in _united(grown))
    return result


def _first(place: tuple[int, int]) -> int:
    return place[0]


def _last(place: tuple[int, int]) -> int:
    return place[1]


def _united(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def pseudonymise(text: str, findings: Sequence[Finding], book: PseudonymBook | SentBook) -> str:
    """Return a text with every finding behind a pseudonym; `restore_text` is its inverse."""
    return rewrite_text(text, [(item, PSEUDONYMISE) for item in findings], book)


def redact(text: str, findings: Sequence[Finding], book: PseudonymBook | SentBook) -> str:
    """Return a text with every finding cut out; there is no way back."""
    return rewrite_text(text, [(item, REDACT) for item in findings], book, shield=False)
