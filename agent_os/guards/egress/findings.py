"""What may not stand in an answer: findings of detectors in a response's head and body, judged by an endpoint's rules. Pure.

A body is looked at leaf by leaf where it is JSON (escapes hide nothing then) and as one text otherwise, a head field by field.
`do: deny` refuses the whole response, `do: mask` puts `[REDACTED_TYPE]` in the place of each finding. Fails closed: a rule
that asks for an entity nobody here can find, and a body that is no text, are refusals. Threat: an answer that brings personal
data or secrets into an agent's context, from where they travel on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.action import NetRequest
from agent_os.core.facts import Finding
from agent_os.guards.privacy.content import replaced, texts_of
from agent_os.guards.privacy.rewrite import finds
from agent_os.guards.privacy.spans import resolve


@dataclass(frozen=True, slots=True)
class FindingRule:
    """One rule of an endpoint: entities (names, globs, SECRET for every kind of secret), least score, what happens."""

    find: tuple[str, ...]
    deny: bool = True
    score: float = 0.0

    def meets(self, finding: Finding) -> bool:
        """Whether a finding is one this rule asks for."""
        return finding.score >= self.score and finds(self.find, finding.type)


def unfindable(rules: Sequence[FindingRule], entities: Collection[str]) -> str:
    """Return the first entity pattern that no detector here can find, or an empty text."""
    for rule in rules:
        for pattern in rule.find:
            if not any(finds(pattern, entity) for entity in entities):
                return pattern
    return ""


def texts_in(body: Any) -> Mapping[str, str]:
    """Return the texts of a body (plain JSON, or one text) by pointer."""
    return {pointer: text for pointer, text in texts_of(_carrier(body)).items() if pointer.startswith("/body")}


def denied_by(findings: Sequence[Finding], rules: Sequence[FindingRule]) -> list[str]:
    """Return the types of findings for which a rule refuses the response, sorted."""
    return sorted({item.type for item in findings for rule in rules if rule.deny and rule.meets(item)})


def masked(body: Any, findings: Sequence[Finding], rules: Sequence[FindingRule]) -> Any:
    """Return the body with the findings that a masking rule meets replaced; the very same where there are none."""
    chosen: dict[str, list[Finding]] = {}
    for item in findings:
        if any(rule.meets(item) for rule in rules if not rule.deny):
            chosen.setdefault(item.pointer, []).append(item)
    return rewritten(body, lambda pointer, text: _without(text, chosen.get(pointer, ()))) if chosen else body


def rewritten(body: Any, change: Callable[[str, str], str]) -> Any:
    """Return the body with `change(pointer, text)` for the texts that `texts_in` names; the very same if none changed."""
    changed = replaced(_carrier(body), change)
    return changed.body if isinstance(changed, NetRequest) else body


# ---- header fields --------------------------------------------------------------------------------------------------

_PROTOCOL: Final = frozenset(
    {"accept-ranges", "age", "allow", "cache-control", "connection", "content-encoding", "content-language",
     "content-length", "content-range", "content-security-policy", "content-type", "date", "etag", "expires",
     "last-modified", "retry-after", "server", "strict-transport-security", "vary", "via", "x-powered-by"}
)  # fmt: skip
"""Fields in the protocol's own words: guesses about names, dates and places say nothing there."""
_GUESSED: Final = frozenset({"DATE_TIME", "URL", "PERSON", "LOCATION", "ORGANIZATION", "NRP", "AGE", "PHONE_NUMBER"})
_LINKS: Final = frozenset({"location", "content-location", "link", "content-security-policy", "report-to", "nel"})
_COOKIE_TOKENS: Final = frozenset({"SECRET_TOKEN", "SECRET_JWT"})
"""What a cookie is made of: the token of the client's own session."""


def counted(found: Sequence[Finding]) -> list[Finding]:
    """Return the findings of a response's head (pointers `/<number>/<field name>`) without what a field holds by design."""
    return [item for item in found if not _by_design(item.pointer.rpartition("/")[2], item.type)]


def _by_design(name: str, kind: str) -> bool:
    return (
        (name in _PROTOCOL and kind in _GUESSED)
        or (name in _LINKS and kind == "URL")
        or (name == "set-cookie" and (kind in _COOKIE_TOKENS or kind == "DATE_TIME"))
    )


def masked_field(value: str, found: Sequence[Finding], rules: Sequence[FindingRule]) -> str:
    """Return the value of a header field with the findings that a masking rule meets replaced."""
    return _without(value, [item for item in found if any(rule.meets(item) for rule in rules if not rule.deny)])


def _carrier(body: Any) -> NetRequest:
    """The same walk as for requests: what is scanned is what can be rewritten."""
    return NetRequest(host="response.invalid", port=443, method="GET", path="/", body=body)


def _without(text: str, found: Sequence[Finding]) -> str:
    out, edge = [], 0
    for item in resolve(list(found), text=text):
        out += [text[edge : item.start], f"[REDACTED_{item.type}]"]
        edge = item.end
    return "".join(out) + text[edge:]
