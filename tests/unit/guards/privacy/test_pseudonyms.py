"""Pseudonyms: one entity is one number, scopes are strangers, stand-ins keep their kind."""

from __future__ import annotations

import pytest

from agent_os.core.errors import EffectError
from agent_os.guards.privacy import accounts, pseudonyms
from agent_os.guards.privacy.pseudonyms import PseudonymBook, SentBook
from agent_os.guards.privacy.restore import StreamRestorer, restore_text, restore_tree
from agent_os.guards.privacy.surrogates import marked_iban

KEY = b"0123456789abcdef"


def number(placeholder: str) -> str:
    return placeholder.split("_")[-2]


def test_one_value_is_one_placeholder() -> None:
    """The same value gets the same placeholder, another value another."""
    book = PseudonymBook(KEY)
    assert book.pseudonym("PERSON", "Ada Byron") == book.pseudonym("PERSON", "Ada Byron")
    assert book.pseudonym("PERSON", "Ada Byron") != book.pseudonym("PERSON", "Bo Li")


@pytest.mark.parametrize(
    "spelling", ["Schmidt", "Frau Schmidt", "Dr. Maria Schmidt", "maria schmidt", "Maria", "Maria K. Schmidt"]
)
def test_spellings_of_one_person_are_linked(spelling: str) -> None:
    """A title, a first name alone and a surname alone share the number, and each restores to its own spelling."""
    book = PseudonymBook(KEY)
    first, other = book.pseudonym("PERSON", "Maria Schmidt"), book.pseudonym("PERSON", spelling)
    assert number(first) == number(other)
    assert restore_text(f"{first} {other}", book) == f"Maria Schmidt {spelling}"


def test_a_surname_that_two_people_bear_belongs_to_neither() -> None:
    """An ambiguous part is a person of its own."""
    book = PseudonymBook(KEY)
    numbers = [number(book.pseudonym("PERSON", name)) for name in ("Maria Schmidt", "Jan Schmidt", "Schmidt")]
    assert len(set(numbers)) == 3


def test_spellings_of_numbers_are_linked() -> None:
    """An IBAN with and without blanks is one account."""
    book = PseudonymBook(KEY)
    spaced, tight = (
        book.pseudonym("IBAN_CODE", "DE89 3704 0044 0532 0130 00"),
        book.pseudonym("IBAN_CODE", "DE89370400440532013000"),
    )
    assert number(spaced) == number(tight)
    assert spaced != tight


def test_another_key_makes_other_tags() -> None:
    """Without the key nobody can compute a placeholder from a guess of the value."""
    one, two = PseudonymBook(b"a" * 16), PseudonymBook(b"b" * 16)
    assert one.pseudonym("US_SSN", "536221234") != two.pseudonym("US_SSN", "536221234")


def test_a_book_comes_back_from_a_vault() -> None:
    """Stored entries restore, and further pseudonyms continue the numbers."""
    book = PseudonymBook(KEY, scope="s")
    sent = book.pseudonym("PERSON", "Ada: Byron")
    again = PseudonymBook(KEY, scope="s")
    again.load({entry.pseudonym: entry.to_text() for entry in book.take_fresh()})
    assert restore_text(sent, again) == "Ada: Byron"
    assert again.pseudonym("PERSON", "Ada: Byron") == sent
    assert number(again.pseudonym("PERSON", "Bo Li")) == "2"
    assert book.take_fresh() == []


def test_a_full_book_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scope that is full raises: nothing goes out unreplaced."""
    monkeypatch.setattr(pseudonyms, "BOOK_ENTRIES_MAX", 1)
    book = PseudonymBook(KEY)
    book.pseudonym("PERSON", "Ada")
    with pytest.raises(EffectError):
        book.pseudonym("PERSON", "Bo")


def test_realistic_iban_is_valid_and_marked() -> None:
    """A stand-in for an IBAN passes the checksum and carries our mark; the real one does not."""
    book = PseudonymBook(KEY, realistic=True)
    for original in ("DE89370400440532013000", "GB82WEST12345698765432", "FR1420041010050500013M02606"):
        stand_in = book.pseudonym("IBAN_CODE", original)
        assert accounts.iban(stand_in)
        assert marked_iban(stand_in)
        assert not marked_iban(original)
        assert restore_text(f"pay {stand_in}.", book) == f"pay {original}."


def test_realistic_stand_ins_are_nobody() -> None:
    """E-mail stands under a reserved domain, addresses in documentation ranges, cards fail Luhn."""
    book = PseudonymBook(KEY, realistic=True)
    assert book.pseudonym("EMAIL_ADDRESS", "ada@corp.test").endswith(".example")
    assert book.pseudonym("IP_ADDRESS", "10.1.2.3").rsplit(".", 1)[0] in ("192.0.2", "198.51.100", "203.0.113")
    assert not accounts.card(book.pseudonym("CREDIT_CARD", "4111111111111111"))


def test_realistic_names_restore_in_streams() -> None:
    """A stand-in cut over chunks comes back whole."""
    book = PseudonymBook(KEY, realistic=True)
    text = (
        f"Dear {book.pseudonym('PERSON', 'Maria Schmidt')}, thanks. {book.pseudonym('EMAIL_ADDRESS', 'm@corp.test')}!"
    )
    restorer = StreamRestorer(book)
    out = "".join(restorer.feed(char) for char in text) + restorer.finish()
    assert out == "Dear Maria Schmidt, thanks. m@corp.test!"


def test_trees_restore_keys_lists_and_bytes() -> None:
    """Structured results restore in every text, object keys included."""
    book = PseudonymBook(KEY)
    sent = book.pseudonym("EMAIL_ADDRESS", "ü@corp.test")
    tree = {sent: [sent, 1, None, {"x": (sent,)}], "b": sent.encode()}
    assert restore_tree(tree, book) == {
        "ü@corp.test": ["ü@corp.test", 1, None, {"x": ("ü@corp.test",)}],
        "b": "ü@corp.test".encode(),
    }


def test_partial_json_arguments_are_escaped() -> None:
    """An original put into the JSON text of a tool call's arguments is escaped like a JSON string."""
    import json

    book = PseudonymBook(KEY)
    sent = json.dumps({"note": "for " + book.pseudonym("PERSON", 'Ann "the\nfox" O\\Neil')})
    restorer = StreamRestorer(book, escape="json")
    out = "".join(restorer.feed(sent[place : place + 3]) for place in range(0, len(sent), 3)) + restorer.finish()
    assert json.loads(out) == {"note": 'for Ann "the\nfox" O\\Neil'}


def test_streams_hold_back_no_more_than_needed() -> None:
    """Text that cannot become a placeholder is shown at once."""
    restorer = StreamRestorer(PseudonymBook(KEY))
    assert restorer.feed("see [1] and [not one") == "see [1] and [not one"
    assert restorer.feed(" [PERSON_1") == " "
    assert restorer.feed("!") == "[PERSON_1!"


def test_one_account_in_two_spellings_is_one_number_and_each_comes_back_as_it_was() -> None:
    """The number links them, the tag tells them apart: nothing is lost on the way back."""
    book = PseudonymBook(b"k" * 32)
    plain, spaced = "DE89370400440532013000", "DE89 3704 0044 0532 0130 00"
    first, second = book.pseudonym("IBAN_CODE", plain), book.pseudonym("IBAN_CODE", spaced)
    assert first.startswith("[IBAN_CODE_1_")
    assert second.startswith("[IBAN_CODE_1_")
    assert first != second
    assert (book.original(first), book.original(second)) == (plain, spaced)
    assert book.pseudonym("IBAN_CODE", "FR1420041010050500013M02606").startswith("[IBAN_CODE_2_")


def test_a_stand_in_comes_back_only_to_the_session_that_sent_it() -> None:
    """ATTACK: with one book for a tenant, a user has a model say every stand-in; placeholders come back to all."""
    book = PseudonymBook(KEY, realistic=True)
    ana, bo = SentBook(book), SentBook(book)
    stand_in, placeholder = ana.pseudonym("PERSON", "Maria Schmidt"), ana.pseudonym("US_SSN", "123-45-6789")
    said = f"{stand_in} {placeholder}"
    assert restore_text(said, ana) == "Maria Schmidt 123-45-6789"
    assert restore_text(said, bo) == f"{stand_in} 123-45-6789"
    assert bo.pseudonym("PERSON", "Maria Schmidt") == stand_in and restore_text(stand_in, bo) == "Maria Schmidt"
