"""Laws of labels, capabilities and of the taint index."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent_os.core.errors import ActionError
from agent_os.core.label import TRUSTED, Confidentiality, Integrity, Label
from agent_os.core.principal import Capability
from agent_os.guards.flow.taint import TaintIndex

LABELS = st.builds(
    Label,
    st.sampled_from(Integrity),
    st.sampled_from(Confidentiality),
    st.frozensets(st.sampled_from("abc")),
    st.frozensets(st.sampled_from(["pii", "secret"])),
    st.lists(st.sampled_from("xyz"), unique=True).map(lambda items: tuple(sorted(items))),
)
TARGETS = ["a", "b", "dir/", "dir/x", "other"]
CAPABILITIES = st.builds(
    Capability,
    st.sampled_from(["*", "tool.call", "fs.read"]),
    st.none() | st.frozensets(st.sampled_from(TARGETS)),
    st.dictionaries(st.sampled_from(["tokens", "usd"]), st.floats(0, 100)),
)
WORDS = st.lists(st.text(alphabet="abcdefghij0123456789@.-", min_size=1, max_size=12), min_size=1, max_size=6)


@given(LABELS, LABELS, LABELS)
def test_join_is_a_least_upper_bound(one: Label, two: Label, three: Label) -> None:
    """Commutative, associative, idempotent; integrity only falls and confidentiality only rises."""

    def core(label: Label) -> tuple[object, ...]:
        readers = label.readers if label.confidentiality is Confidentiality.READERS else None
        return label.integrity, label.confidentiality, readers, label.tags, label.sources

    assert core(one.join(two)) == core(two.join(one))
    assert core(one.join(two).join(three)) == core(one.join(two.join(three)))
    joined = one.join(two)
    assert joined.integrity <= min(one.integrity, two.integrity)
    assert joined.confidentiality >= max(one.confidentiality, two.confidentiality)
    assert joined.tags == one.tags | two.tags


@given(LABELS, LABELS, st.sampled_from("abc"))
def test_who_may_read_a_join_may_read_both(one: Label, two: Label, reader: str) -> None:
    """Mixing never lets anybody see more."""
    if one.join(two).flows_to(reader):
        assert one.flows_to(reader)
        assert two.flows_to(reader)


@given(LABELS)
def test_labels_survive_their_wire_form(label: Label) -> None:
    """Parse after format is the identity; joining with nothing changes nothing that counts."""
    assert Label.from_json(label.to_json()) == label
    assert label.join(TRUSTED).integrity is label.integrity


@given(CAPABILITIES, CAPABILITIES, st.sampled_from(["tool.call", "fs.read", "net.connect"]), st.sampled_from(TARGETS))
def test_attenuation_only_narrows(parent: Capability, wish: Capability, verb: str, target: str) -> None:
    """Whatever a child may do its parent may do; what would widen raises."""
    try:
        child = parent.attenuate(wish.verb, wish.scope, wish.limits)
    except ActionError:
        return
    if child.covers(verb, target):
        assert parent.covers(verb, target)
    for name, limit in parent.limits.items():
        assert child.limits[name] <= limit


@given(WORDS, WORDS, WORDS)
def test_what_was_added_is_held(before: list[str], value: list[str], after: list[str]) -> None:
    """Whatever stands around a value, the index finds it, in capitals and backwards too; and never forgets."""
    text = " ".join(value)
    if not any(char.isalnum() for char in text):
        return
    index = TaintIndex()
    index.add(" ".join([*before, text, *after]), "s")
    index.add("something else", "t")
    assert index.holds(text)
    assert index.holds(text.upper())
    assert index.holds(text[::-1])
