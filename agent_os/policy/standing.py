"""The `standing` section: answers that people gave for always, as policy text. Pure.

`agentos approvals overlay` writes it from lasting grants; a person puts it beside a policy file and extends that by it. It is a
grant with a stated scope (core/scope.py) and never a rule: it allows nothing, it discharges asks of the layer it stands in and
of no other, and only where that layer's `approvals` say `allow_always` (and, where two must approve, two gave it). Threats: a
user's file that answers what the organisation's file asks, an entry that somebody widens by leaving an argument out (what is
not named is outside), one that nobody ever looks at again (it ends).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from agent_os.core.action import Action
from agent_os.core.errors import ActionError
from agent_os.core.facts import Facts
from agent_os.core.grant import Grant
from agent_os.core.scope import Scope
from agent_os.policy.rule import Context

if TYPE_CHECKING:
    from agent_os.policy.schema.agents import Standing

FILE = "file"
"""What such a grant is bound to: the file it stands in."""


class Asks(Protocol):
    """What is asked of a compiled layer: its terms, and the answers given for always."""

    @property
    def approvals(self) -> Any: ...
    @property
    def standing(self) -> tuple[Grant, ...]: ...


def compile_standing(parts: Sequence[tuple[Sequence[Standing], Context]]) -> tuple[Grant, ...]:
    """Return the grants of the files of a layer; an entry that is no scope is a problem of its file."""
    found: list[Grant] = []
    for entries, context in parts:
        for index, entry in enumerate(entries):
            data = {
                "kind": entry.kind, "target": entry.target, "who": entry.who.model_dump(mode="json"),
                "tool_digest": entry.tool_digest, "equal": entry.equal, "at_most": dict(entry.at_most), "free": entry.free,
            }  # fmt: skip
            try:
                scope = Scope.parse(data)
            except ActionError as error:
                context.problem(f"standing[{index}]", str(error))
                continue
            found.append(
                Grant(
                    id=entry.id,
                    rules=tuple(entry.asks),
                    action_digest="",
                    policy_digest=FILE,
                    expires_at=entry.until,
                    approver=entry.approvers[-1],
                    approvers=tuple(dict.fromkeys(entry.approvers)),
                    scope=scope,
                )
            )
    return tuple(found)


def standing_for(layer: Asks, rule: str, action: Action, facts: Facts) -> str | None:
    """Return the id of the grant that stands for this ask in its own layer, or None."""
    if layer.approvals is None or facts.now is None:
        return None
    terms = layer.approvals.terms(action, facts, (rule,)).params
    if terms.get("allow_always") is not True:
        return None
    for grant in layer.standing:
        people = len(grant.approvers) >= int(terms.get("people", 1))
        if people and grant.discharges(rule, action, FILE, facts.now):
            return grant.id
    return None


def overlay(grants: Sequence[Grant]) -> dict[str, Any]:
    """Return the policy document that says what these lasting grants say; those held to one session are left out."""
    entries = []
    for grant in grants:
        if grant.scope is None or grant.scope.session:
            continue
        said = grant.scope.to_json()
        entries.append({"id": grant.id, "asks": list(grant.rules), **said, "until": grant.expires_at})
        entries[-1]["approvers"] = list(grant.approvers)
    return {"version": 1, "default": "abstain", "standing": entries}
