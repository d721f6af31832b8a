"""Findings as spans: overlap resolution and thresholds. Pure.

Threat: two recognisers that both claim a stretch of text must not make a rewrite that cuts one value in halves and lets a
part of it through: what is kept never overlaps, and what is dropped is always covered by, or overlaps, something kept.
"""

# ruff: noqa: E501 - word lists and expressions read better whole
from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from agent_os.core.facts import Finding

_RANK: Final[Mapping[str, int]] = {
    "EMAIL_ADDRESS": 4, "URL": 2, "IBAN_CODE": 5, "CREDIT_CARD": 4, "CRYPTO": 4, "IP_ADDRESS": 3, "MAC_ADDRESS": 3, "DATE_TIME": 2,
    "PHONE_NUMBER": 2, "PERSON": 1, "LOCATION": 1, "ORGANIZATION": 1, "NRP": 1, "AGE": 2,
}  # fmt: skip


REMAINDER_CHARS_MIN: Final = 3


def priority(finding: Finding) -> tuple[float, ...]:
    """Return the sort key by which overlapping findings win: secrets, then the surest, then the longest."""
    secret = finding.type.startswith("SECRET_")
    return (
        -(secret and finding.score >= 0.8),
        -round(finding.score, 1),
        -_RANK.get(finding.type, 3),
        -(finding.end - finding.start),
        finding.start,
    )


def resolve(findings: Iterable[Finding], *, minimum: float = 0.0, text: str = "") -> list[Finding]:
    """Return findings of one text without overlaps, in order of their start.

    Of two that overlap the surer wins. Where they are of one type the winner grows over the loser; of another type, what
    sticks out of the winner stays as a finding of its own (when it holds anything worth naming), so that nothing found
    is left uncovered. `text`, if given, is used to trim such remainders of blanks.
    """
    ordered = sorted((item for item in findings if item.score >= minimum and item.end > item.start), key=_by_place)
    result: list[Finding] = []
    cluster: list[Finding] = []
    reach = -1
    for finding in ordered:
        if finding.start >= reach and cluster:
            result.extend(_settle(cluster, text))
            cluster = []
        cluster.append(finding)
        reach = max(reach, finding.end)
    result.extend(_settle(cluster, text))
    return result


def _by_place(finding: Finding) -> tuple[int, int]:
    return finding.start, -finding.end


def _settle(cluster: list[Finding], text: str) -> list[Finding]:
    """Resolve findings that overlap each other, directly or in a chain."""
    if len(cluster) < 2:
        return cluster
    kept: list[Finding] = []  # disjoint, in order of start
    for finding in sorted(cluster, key=priority):
        _place(kept, finding, text)
    return kept


def _place(kept: list[Finding], finding: Finding, text: str) -> None:
    low = bisect.bisect_right(kept, finding.start, key=_end)
    high = bisect.bisect_left(kept, finding.end, lo=low, key=_start)
    clash = kept[low:high]
    if not clash:
        kept.insert(low, finding)
        return
    if len(clash) == 1 and clash[0].type == finding.type:
        winner = clash[0]
        kept[low] = replace(winner, start=min(winner.start, finding.start), end=max(winner.end, finding.end))
        return
    edge, pieces = finding.start, []
    for winner in clash:
        pieces.append((edge, winner.start))
        edge = winner.end
    pieces.append((edge, finding.end))
    for start, end in reversed(pieces):
        piece = text[start:end] if text else "x" * (end - start)
        if len(piece.strip(" \t\r\n:/@,;.-")) >= REMAINDER_CHARS_MIN:
            start += len(piece) - len(piece.lstrip())
            rest = replace(finding, start=start, end=start + len(piece.strip()))
            kept.insert(bisect.bisect_left(kept, rest.start, key=_start), rest)


def _start(finding: Finding) -> int:
    return finding.start


def _end(finding: Finding) -> int:
    return finding.end
