"""Rego layers: what they are made of, and what their answers mean. Pure.

A layer (a package evaluated in process, or an OPA server) only restricts. Its package may define, over `input` (the
action as `Action.to_json` gives it):

- `allow`: where it is defined and not `true`, the action is denied;
- `deny`, `ask`: sets (`deny contains {"id": "…", "reason": "…"}`), or a boolean; anything in them denies or asks;
- `obligations`: a set or list of `{"kind": "…", …}`.

What is none of these shapes counts as a failure, and a failure denies. What a module may not do: `rego_modules.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.decision import OBLIGATIONS, Obligation, Verdict
from agent_os.core.facts import ExternalVerdict

if TYPE_CHECKING:
    from agent_os.policy.policy import Policy

MAX_ANSWERS: Final = 64
MAX_REASON_CHARS: Final = 400
ANSWERS: Final = ("allow", "ask", "deny", "obligations")


@dataclass(frozen=True, slots=True)
class RegoLayer:
    """One entry of `rego:` with everything it needs. `opa` is the server's URL, empty for modules in process."""

    engine: str
    package: str
    kinds: frozenset[str] = frozenset()
    modules: tuple[tuple[str, str], ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 0.1
    opa: str = ""
    decision: str = ""
    token: str = ""
    ca: str = ""
    certificate: str = ""
    cache_s: float = 0.0
    number: int = 0
    """Its position among the layers of the policy: names may repeat over the files that a policy extends."""
    missing: str = ""
    """Why the layer cannot be evaluated at all, or empty."""

    def distorts(self, text: str) -> str:
        """Return why the engine would misread an action given as JSON text, or an empty text."""
        if "ffff:" in text.lower() and any("net.cidr_contains" in module for _, module in self.modules):
            return "the action holds an IPv4-mapped address, which net.cidr_contains would not recognise"
        return ""

    def judges(self, kind: str) -> bool:
        """Return whether the layer has a say about a kind of action."""
        return not self.kinds or kind in self.kinds


def rego_layers(policy: Policy) -> list[RegoLayer]:
    """Return the Rego layers of a policy, in file order."""
    found: list[RegoLayer] = []
    for section, _layer, unit in policy.sections("rego"):
        for entry in section:
            modules: tuple[tuple[str, str], ...] = ()
            missing = ""
            if entry.inline is not None:
                modules = (("inline.rego", entry.inline),)
            elif entry.path is not None:
                modules = tuple(sorted(unit.modules.get(entry.path, {}).items()))
                missing = "" if modules else f"the module {entry.path} was not read"
            absent = [name for name in entry.data if name not in unit.data]
            if absent:
                missing = missing or f"there is no data set {absent[0]}"
            found.append(
                RegoLayer(
                    engine=entry.engine,
                    number=len(found),
                    package=entry.package or "",
                    kinds=frozenset(entry.kinds),
                    modules=modules,
                    data={name: unit.data[name] for name in entry.data if name in unit.data},
                    timeout_s=entry.timeout,
                    opa=entry.opa or "",
                    decision=entry.decision or (entry.package or "").replace(".", "/"),
                    token=entry.token or "",
                    ca=(entry.tls.ca or "") if entry.tls else "",
                    certificate=(entry.tls.certificate or "") if entry.tls else "",
                    cache_s=entry.cache,
                    missing=missing,
                )
            )
    return found


def failed(layer: RegoLayer, error: str) -> ExternalVerdict:
    """Return the verdict of a layer that could not answer: it denies."""
    return ExternalVerdict(layer.engine, error=error)


def verdict_of(layer: RegoLayer, answer: Any, *, defines: frozenset[str] | None = None) -> ExternalVerdict:
    """Return the verdict an answer means.

    `answer` is the package's document (name -> value, without what is undefined), or a boolean where an OPA decision
    path is one rule. `defines` names the rules the package has: an `allow` that is defined but undefined for this input
    denies. None: an absent `allow` counts as not defined.
    """
    if isinstance(answer, bool):
        answer = {"allow": answer}
    if not isinstance(answer, Mapping):
        return failed(layer, "the answer is neither an object nor a boolean")
    names = defines if defines is not None else frozenset(answer)
    if not names & {"allow", "deny", "ask"}:
        return failed(layer, "the answer has neither allow, ask nor deny")
    try:
        denies = _items(layer, "deny", answer.get("deny"))
        asks = _items(layer, "ask", answer.get("ask"))
        obligations = _obligations(layer, answer.get("obligations"))
    except ValueError as error:
        return failed(layer, str(error))
    allow = answer.get("allow")
    if allow is not None and not isinstance(allow, bool):
        return failed(layer, "allow is no boolean")
    if "allow" in names and allow is not True:
        denies = [*denies, (f"{layer.engine}.allow", "its allow rule does not hold")]
    if denies:
        return ExternalVerdict(layer.engine, Verdict.DENY, _rules(denies), _reason(denies))
    if asks:
        return ExternalVerdict(layer.engine, Verdict.ASK, _rules(asks), _reason(asks), obligations)
    return ExternalVerdict(layer.engine, Verdict.ALLOW, (f"{layer.engine}.allow",), "", obligations)


def _items(layer: RegoLayer, name: str, value: Any) -> list[tuple[str, str]]:
    if value is None or value is False:
        return []
    if value is True:
        return [(f"{layer.engine}.{name}", "")]
    if isinstance(value, Mapping):  # a partial object rule: id -> reason
        value = [{"id": key, "reason": text} for key, text in value.items()]
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} is neither a set nor a boolean")
    if len(value) > MAX_ANSWERS:
        raise ValueError(f"{name} has more than {MAX_ANSWERS} answers")
    items = []
    for item in value:
        if isinstance(item, str):
            item = {"id": name, "reason": item}
        if not isinstance(item, Mapping) or not isinstance(item.get("id"), str):
            raise ValueError(f"{name} holds something without an id")
        reason = item.get("reason", "")
        if not isinstance(reason, str):
            raise ValueError(f"{name} holds a reason that is no text")
        items.append((f"{layer.engine}/{item['id'][:128]}", reason[:MAX_REASON_CHARS]))
    return items


def _obligations(layer: RegoLayer, value: Any) -> tuple[Obligation, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or len(value) > MAX_ANSWERS:
        raise ValueError("obligations is no list")
    found = []
    for item in value:
        kind = item.get("kind") if isinstance(item, Mapping) else None
        if kind not in OBLIGATIONS:
            raise ValueError("obligations holds one of an unknown kind")
        params = {key: entry for key, entry in item.items() if key != "kind"}
        found.append(Obligation(str(kind), params, f"{layer.engine}.obligations"))
    return tuple(found)


def _rules(items: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(sorted({rule for rule, _ in items}))


def _reason(items: Sequence[tuple[str, str]]) -> str:
    return "; ".join(sorted({reason for _, reason in items if reason}))[:MAX_REASON_CHARS]
