"""Laws of pseudonyms: what was replaced comes back exactly, however a stream is cut, and nothing else does."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agent_os.core.facts import Finding
from agent_os.guards.privacy.pseudonyms import PLACEHOLDER, Entry, PseudonymBook
from agent_os.guards.privacy.restore import ByteRestorer, StreamRestorer, restore_text
from agent_os.guards.privacy.rewrite import pseudonymise
from agent_os.guards.privacy.spans import resolve

KEY = b"k" * 32
PIECES = st.sampled_from(
    ["[PERSON_1_", "9f2c04ab]", "[", "]", "]]", "[[", "_", "[LITERAL_1_00000000]", "Maria ", "a@b.example", "\\n", "é", "[EMAIL_ADDRESS_2_deadbeef]", "0"]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=12).map("".join))
TYPES = st.sampled_from(["PERSON", "EMAIL_ADDRESS", "SECRET_API_KEY", "IBAN_CODE", "US_SSN"])


@st.composite
def found(draw: st.DrawFn) -> tuple[str, list[Finding]]:
    """A text and findings anywhere in it, overlaps included."""
    text = draw(TEXTS)
    findings = []
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, max(0, len(text) - 1)))
        end = draw(st.integers(start, len(text)))
        if end > start:
            findings.append(Finding(draw(TYPES), start, end, draw(st.sampled_from([0.4, 0.6, 0.9]))))
    return text, findings


@settings(max_examples=400, deadline=None)
@given(found())
def test_restore_inverts_pseudonymise(case: tuple[str, list[Finding]]) -> None:
    """For every text and every set of findings, restore(pseudonymise(x)) == x."""
    text, findings = case
    book = PseudonymBook(KEY, scope="s")
    assert restore_text(pseudonymise(text, findings, book), book) == text


@settings(max_examples=300, deadline=None)
@given(found(), found())
def test_restore_inverts_with_a_used_book(first: tuple[str, list[Finding]], second: tuple[str, list[Finding]]) -> None:
    """It holds as well when the second text carries real placeholders of the same book."""
    book = PseudonymBook(KEY, scope="s")
    carried = pseudonymise(first[0], first[1], book)
    text = carried + second[0]
    findings = [Finding(f.type, f.start + len(carried), f.end + len(carried), f.score) for f in second[1]]
    assert restore_text(pseudonymise(text, findings, book), book) == text


@settings(max_examples=300, deadline=None)
@given(found(), st.lists(st.integers(1, 9), max_size=40))
def test_streams_restore_at_any_cut(case: tuple[str, list[Finding]], sizes: list[int]) -> None:
    """A stream cut into any chunks of characters restores to the same text as the whole."""
    text, findings = case
    book = PseudonymBook(KEY, scope="s")
    sent = pseudonymise(text, findings, book)
    restorer = StreamRestorer(book)
    out, place = [], 0
    for size in [*sizes, len(sent) + 1]:
        out.append(restorer.feed(sent[place : place + size]))
        place += size
    out.append(restorer.finish())
    assert "".join(out) == text


@settings(max_examples=200, deadline=None)
@given(found(), st.integers(1, 7), st.binary(max_size=20))
def test_byte_streams_restore_at_any_cut(case: tuple[str, list[Finding]], size: int, noise: bytes) -> None:
    """Bytes cut anywhere, inside a UTF-8 sequence too, restore; bytes that are no UTF-8 pass as they are."""
    text, findings = case
    text = text.encode("utf-8", "ignore").decode()
    findings = [item for item in findings if item.end <= len(text)]
    book = PseudonymBook(KEY, scope="s")
    sent = pseudonymise(text, findings, book).encode() + noise.replace(b"[", b"")
    restorer = ByteRestorer(book)
    out = b"".join(restorer.feed(sent[place : place + size]) for place in range(0, len(sent), size)) + restorer.finish()
    assert out == text.encode() + noise.replace(b"[", b"")


@settings(max_examples=200, deadline=None)
@given(found())
def test_resolved_findings_are_disjoint_and_cover(case: tuple[str, list[Finding]]) -> None:
    """Resolution leaves no overlap, and every found character of a winner stays covered."""
    text, findings = case
    kept = resolve(findings, text=text)
    assert all(first.end <= second.start for first, second in pairwise(kept))
    for item in findings:
        assert any(other.start < item.end and item.start < other.end for other in kept)


@settings(max_examples=200, deadline=None)
@given(found())
def test_nothing_found_stays_in_the_output(case: tuple[str, list[Finding]]) -> None:
    """A pseudonymised text holds an original only where the same characters stand outside every finding."""
    text, findings = case
    book = PseudonymBook(KEY, scope="s")
    sent = pseudonymise(text, findings, book)
    bare = PLACEHOLDER.sub("\x00", sent)
    for item in resolve(findings, text=text):
        original = text[item.start : item.end]
        outside = text.count(original) > sum(text[f.start : f.end] == original for f in resolve(findings, text=text))
        assert outside or len(original) < 3 or original not in bare


@given(st.text(max_size=40), st.text(max_size=40))
def test_scopes_share_nothing(name: str, other: str) -> None:
    """A placeholder of one scope is a stranger in another, under the same tenant key."""
    one, two = PseudonymBook(KEY, scope="a"), PseudonymBook(KEY, scope="b")
    sent = one.pseudonym("PERSON", name)
    two.pseudonym("PERSON", other)
    assert restore_text(sent, two) == sent


@given(TYPES, st.integers(1, 999), st.text(max_size=60))
def test_entries_round_trip(kind: str, number: int, original: str) -> None:
    """What a vault stores of a pseudonym comes back as it was."""
    entry = Entry(f"[{kind}_{number}_00000000]", kind, number, original)
    assert Entry.from_text(entry.pseudonym, entry.to_text()) == entry
