"""What a compiled section of a policy answers, and how answers are composed. Pure values.

Every section (`tools`, `filesystem_policy`, `network_policies`, `privacy`, `flow`, …) compiles to a `Section`: a pure
judge of the action kinds it governs. `decide` asks each section of each layer and composes the matches by the laws:
no allow means deny; deny > ask > allow; an errored restriction counts, an errored allow does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agent_os.core.action import Action
from agent_os.core.decision import Obligation, Verdict
from agent_os.core.errors import Place, Problem
from agent_os.core.facts import Facts
from agent_os.policy.prices import Prices

if TYPE_CHECKING:
    from agent_os.policy.reader import Document
    from agent_os.policy.schema import PolicyFile


@dataclass(frozen=True, slots=True)
class Match:
    """One rule that matched an action (or failed while it was judged, which counts if it restricts).

    `rule` is the rule's id (the path of its key in the file, for example `tools.send_payment.ask`), `reason` says in
    lower case which fields decided, never their values; `advice` says what would have been allowed.
    `audit_only` marks a restriction under `enforcement: audit`: recorded, not enforced. An allow with `grants=False`
    carries obligations and allows nothing by itself (matches of guard sections never grant, whatever it says).
    """

    effect: Verdict
    rule: str
    reason: str = ""
    advice: str = ""
    obligations: tuple[Obligation, ...] = ()
    errored: bool = False
    audit_only: bool = False
    grants: bool = True


class Section(Protocol):
    """A compiled section of one layer.

    It may also have `advise(action, facts) -> str` (asked when nothing allowed: says what would have been) or
    `missing(action, facts) -> (reason, advice)` (says why nothing allowed as well), and `may_allow` (False: never; or the
    kinds it can allow).
    """

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
    path: str = ""
    """The key path in that file."""
    effect: str = ""
    """`allow`, `ask` or `deny`; empty where it depends on the action."""


Origins = Mapping[str, Origin]
"""Rule id -> origin."""


@dataclass(slots=True)
class Context:
    """What `compile_<section>(section, context)` may know beside its section, and where it declares rules and problems.

    `prefix` (a pack or a layer) stands in front of every rule id; `data` holds the `data:` sets that could be read;
    `semantics` is `strict` or `openshell`. A section calls `rule()` for every rule id it can ever answer with.
    """

    document: Document
    file: PolicyFile
    semantics: str = "strict"
    prefix: str = ""
    pack: str = ""
    layer: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)
    rules: dict[str, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    prices: Prices = field(default_factory=Prices)
    """What calls of models cost, by every file of every layer."""

    def rule(self, path: str, effect: Verdict | None = None, *, id: str = "") -> str:
        """Declare the rule that stands at a key path and return its id (`id`, or the path, after the prefix)."""
        name = self.prefix + (id or path)
        if name in self.rules:
            self.problem(path, f"there are two rules with the id {name!r}", "give one of them another id")
        origin = Origin(self.document.place(path), self.layer, self.pack, path, effect.value if effect else "")
        self.rules[name] = origin
        return name

    def declare(self, name: str, path: str, effect: Verdict | None = None) -> str:
        """Declare a rule by its whole id (prefix included) and return it."""
        origin = Origin(self.document.place(path), self.layer, self.pack, path, effect.value if effect else "")
        self.rules.setdefault(name, origin)
        return name

    def problem(self, path: str, message: str, hint: str = "", code: str = "policy-invalid") -> None:
        """Record something wrong at a key path; loading fails with every problem found."""
        self.problems.append(Problem(f"{path} {message}", self.document.place(path), hint, code))
