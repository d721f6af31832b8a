"""The wiring table: which key of a policy file is compiled by whom, governs what, and may grant. Pure.

A section compiles by `compile_<x>(section, context) -> Section` (rule.py), once for each file of a layer (the file
itself and every pack it extends); the matches of all are united, the strictest wins. Sections whose parts must be seen
together (`joined`) get them all: `compile_<x>(parts)` with parts = [(section, context), …].
A section whose compiler is not there denies everything it governs ("guards not there yet deny").
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.core.action import KINDS, Action
from agent_os.core.decision import Verdict
from agent_os.core.errors import Problem
from agent_os.core.facts import Facts
from agent_os.core.grant import Grant
from agent_os.policy.prices import Prices
from agent_os.policy.reader import Document
from agent_os.policy.rule import Context, Match, Origin, Section
from agent_os.policy.schema import PolicyFile

FILES: Final = frozenset({"fs.read", "fs.write", "fs.list", "fs.delete"})
NETWORK: Final = frozenset({"net.connect", "net.request"})
ALL: Final = frozenset(KINDS)


@dataclass(frozen=True, slots=True)
class Wire:
    """One key of the file: its compiler (`module:function`), what it governs, whether its allows grant."""

    key: str
    compiler: str
    kinds: frozenset[str]
    grants: bool = True
    joined: bool = False


WIRING: Final[tuple[Wire, ...]] = (
    Wire("tools", "agent_os.policy.tools:compile_tools", frozenset({"tool.call"})),
    Wire("filesystem_policy", "agent_os.policy.filesystem:compile_filesystem", FILES, joined=True),
    Wire("process", "agent_os.policy.processes:compile_process", frozenset({"process.exec"})),
    Wire("network_policies", "agent_os.policy.netsection:compile_netsection", NETWORK, joined=True),
    Wire("models", "agent_os.policy.models:compile_models", frozenset({"model.call"}), joined=True),
    Wire("agents", "agent_os.policy.agents:compile_agents", frozenset({"agent.spawn", "message.send"}), joined=True),
    Wire("schedules", "agent_os.policy.schedules:compile_schedules", frozenset({"task.schedule"})),
    Wire("messages", "agent_os.policy.messages:compile_messages", frozenset({"message.send"})),
    Wire("memory", "agent_os.policy.messages:compile_memory", frozenset({"memory.read", "memory.write"})),
    Wire("secrets", "agent_os.policy.secrets:compile_secrets", frozenset({"secret.use"}), joined=True),
    Wire("budgets", "agent_os.policy.budgets:compile_budgets", ALL, grants=False),
    Wire(
        "privacy",
        "agent_os.policy.privacy:compile_privacy",
        frozenset({"tool.call", "net.request", "model.call", "message.send"}),
        grants=False,
    ),
    Wire(
        "flow",
        "agent_os.policy.flow:compile_flow",
        frozenset(
            {"tool.call", "net.request", "message.send", "memory.write", "agent.spawn", "task.schedule", "process.exec"}
        )
        | {"fs.write", "fs.delete", "secret.use"},
        grants=False,
    ),
)


@dataclass(frozen=True, slots=True)
class Unit:
    """One file of a layer: the file itself (`pack` is empty) or something it extends."""

    document: Document
    file: PolicyFile
    pack: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    modules: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Rego modules by the `path` that names them: file -> text."""


@dataclass(frozen=True, slots=True)
class Governed:
    """A compiled section in its place."""

    section: Section
    judge: Callable[[Action, Facts], Sequence[Match]]
    grants: bool
    trial: bool
    """The file says `enforcement: audit`: its restrictions are recorded, not enforced."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A compiled layer: what `decide` walks."""

    name: str
    by_kind: Mapping[str, tuple[Governed, ...]]
    may_allow: frozenset[str]
    """Kinds that at least one of its sections could allow."""
    abstains: bool
    trial: bool
    rego: tuple[tuple[str, frozenset[str]], ...] = ()
    """Engines whose verdict must be among the facts, and the kinds they judge (empty: all)."""
    approvals: Any = None
    standing: tuple[Grant, ...] = ()
    """Answers given for always, which discharge asks of this layer (policy/standing.py)."""


class Absent:
    """Stands for a section whose engine is not there: denies what it governs."""

    def __init__(self, wire: Wire, context: Context) -> None:
        self.name = wire.key
        self.kinds = wire.kinds
        rule = context.rule(wire.key, Verdict.DENY, id=f"{wire.key}.not-installed")
        self._match = Match(
            Verdict.DENY, rule, f"the engine of the section {wire.key!r} is not installed", errored=True
        )

    def judge(self, _action: Action, _facts: Facts) -> Sequence[Match]:
        return (self._match,)


def compile_layer(
    name: str, units: Sequence[Unit], *, index: int, prefix: str, semantics: str, prices: Prices
) -> tuple[Layer, dict[str, Origin], list[Problem]]:
    """Return the compiled layer of a file and its packs, the origin of every rule, and every problem found.

    `prices` are those of every file of every layer: a budget counts by all of them.
    """
    rules: dict[str, Origin] = {}
    problems: list[Problem] = []
    contexts = [
        Context(
            unit.document,
            unit.file,
            semantics,
            prefix + (unit.pack + "/" if unit.pack else ""),
            unit.pack,
            index,
            unit.data,
            rules,
            problems,
            prices,
        )
        for unit in units
    ]
    governed: list[Governed] = []
    for wire in WIRING:
        governed.extend(_compile_wire(wire, contexts))
    top = units[0].file
    by_kind: dict[str, list[Governed]] = {}
    may_allow: set[str] = set()
    for item in governed:
        for kind in item.section.kinds:
            by_kind.setdefault(kind, []).append(item)
        might = getattr(item.section, "may_allow", True)
        if item.grants and might:
            may_allow |= might if isinstance(might, frozenset) else item.section.kinds
    layer = Layer(
        name,
        {kind: tuple(items) for kind, items in by_kind.items()},
        frozenset(may_allow),
        top.default == "abstain",
        top.enforcement == "audit",
        tuple((entry.engine, frozenset(entry.kinds)) for unit in units for entry in unit.file.rego or ()),
        _compile_approvals(contexts),
        _compile_standing(contexts),
    )
    for context in contexts:
        for position, entry in enumerate(context.file.rego or ()):
            context.rule(f"rego[{position}]", None, id=entry.engine)
            unknown = sorted(set(entry.kinds) - ALL)
            if unknown:
                context.problem(f"rego[{position}].kinds", f"names no kind of action: {unknown[0]!r}")
    return layer, rules, problems


def _compile_wire(wire: Wire, contexts: Sequence[Context]) -> list[Governed]:
    parts = [(section, context) for context in contexts if (section := getattr(context.file, wire.key)) is not None]
    if wire.key == "network_policies" and not parts:  # middlewares alone are checked too
        parts = [({}, context) for context in contexts if context.file.network_middlewares]
    if not parts:
        return []
    compiler = _compiler(wire)
    if compiler is None:
        return [_governed(wire, Absent(wire, context), False) for _, context in parts]
    if wire.joined:
        return [_governed(wire, compiler(parts), parts[0][1].file.enforcement == "audit")]
    return [
        _governed(wire, compiler(section, context), context.file.enforcement == "audit") for section, context in parts
    ]


def _governed(wire: Wire, section: Section, trial: bool) -> Governed:
    return Governed(section, section.judge, wire.grants, trial)


def _compiler(wire: Wire) -> Callable[..., Section] | None:
    module, _, function = wire.compiler.partition(":")
    try:
        found: Callable[..., Section] | None = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise  # the guard is there and broken: that is an error, not an absence
        return None
    return found


def _compile_approvals(contexts: Sequence[Context]) -> Any:
    parts = [(context.file.approvals, context) for context in contexts if context.file.approvals is not None]
    if not parts:
        return None
    from agent_os.policy.approvals import compile_approvals  # noqa: PLC0415

    return compile_approvals(parts)


def _compile_standing(contexts: Sequence[Context]) -> tuple[Grant, ...]:
    parts = [(context.file.standing, context) for context in contexts if context.file.standing]
    if not parts:
        return ()
    from agent_os.policy.standing import compile_standing  # noqa: PLC0415

    return compile_standing(parts)
