"""What a compiled section of a policy answers, and how answers are composed. Pure values.

Every section (`tools`, `filesystem_policy`, `network_policies`, `privacy`, `flow`, …) compiles to a `Section`: a pure
judge of the action kinds it governs. `decide` asks each section of each layer and composes the matches by the laws:
no allow means deny; deny > ask > allow; an errored restriction counts, an errored allow does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent_os.core.action import Action
from agent_os.core.decision import Obligation, Verdict
from agent_os.core.errors import Place
from agent_os.core.facts import Facts


@dataclass(frozen=True, slots=True)
class Match:
    """One rule that matched an action (or failed while it was judged, which counts if it restricts).

    `rule` is the rule's id (the path of its key in the file, for example `tools.send_payment.ask`), `reason` says in
    lower case which fields decided, never their values; `advice` says what would have been allowed.
    `audit_only` marks a restriction under `enforcement: audit`: recorded, not enforced.
    """

    effect: Verdict
    rule: str
    reason: str = ""
    advice: str = ""
    obligations: tuple[Obligation, ...] = ()
    errored: bool = False
    audit_only: bool = False


class Section(Protocol):
    """A compiled section of one layer."""

    @property
    def name(self) -> str:
        """The key of the section in the file."""
        ...

    @property
    def kinds(self) -> frozenset[str]:
        """The action kinds this section governs."""
        ...

    def judge(self, action: Action, facts: Facts) -> Sequence[Match]:
        """Return every match, in any order. Must be total; an exception denies."""
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a rule comes from: the file or pack, and its place in it."""

    place: Place
    layer: int = 0
    pack: str = ""


Origins = Mapping[str, Origin]
"""Rule id -> origin."""
