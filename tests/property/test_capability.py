"""Capabilities only narrow: whatever two sets grant together, each grants alone; allowances never overspend."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent_os.core.errors import ActionError
from agent_os.core.principal import Capability, common
from agent_os.monitor.allowance import Allowance

VERBS = ("*", "tool.call", "fs.read")
TARGETS = ("a", "b", "/w/", "/w/in/", "/w/in/x", "/w/out", "/x")
capabilities = st.builds(
    Capability, st.sampled_from(VERBS), st.none() | st.frozensets(st.sampled_from(TARGETS), max_size=4)
)
asked = st.tuples(st.sampled_from(VERBS[1:]), st.sampled_from(TARGETS))


def covered(held: tuple[Capability, ...] | list[Capability], verb: str, target: str) -> bool:
    """Whether any capability of a set covers a target."""
    return any(capability.covers(verb, target) for capability in held)


@given(st.lists(capabilities, max_size=4), st.lists(capabilities, max_size=4), asked)
def test_what_is_common_is_granted_by_both(
    mine: list[Capability], theirs: list[Capability], question: tuple[str, str]
) -> None:
    """An intersection grants exactly what both sides grant: never more (law 11), and nothing is lost on the way."""
    both = covered(mine, *question) and covered(theirs, *question)
    assert covered(common(mine, theirs), *question) == both


@given(capabilities, st.sampled_from(VERBS[1:]), st.frozensets(st.sampled_from(TARGETS), max_size=3), asked)
def test_attenuation_never_widens(
    held: Capability, verb: str, scope: frozenset[str], question: tuple[str, str]
) -> None:
    """Whatever `attenuate` returns is covered by what it came from; what is not is refused."""
    try:
        narrower = held.attenuate(verb, scope)
    except ActionError:
        return
    if narrower.covers(*question):
        assert held.covers(*question)


@given(
    st.floats(0, 100),
    st.floats(0, 100),
    st.lists(st.tuples(st.booleans(), st.floats(0, 40), st.floats(0, 1)), max_size=20),
)
def test_children_never_use_more_than_their_parent_has(
    most: float, own: float, uses: list[tuple[bool, float, float]]
) -> None:
    """However two children take and settle, the parent's limit and each child's own hold at every moment."""
    parent = Allowance({"tokens": most})
    children = (Allowance({"tokens": own}, parent), Allowance({}, parent))
    for first, amount, share in uses:
        child = children[0] if first else children[1]
        if child.take({"tokens": amount}):
            assert parent.used.get("tokens", 0.0) <= most + 1e-6
            assert children[0].used.get("tokens", 0.0) <= own + 1e-6
            child.settle({"tokens": amount}, {"tokens": amount * share})
    assert parent.used.get("tokens", 0.0) <= most + 1e-6
