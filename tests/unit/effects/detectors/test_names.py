"""Names by lists and context, and by the language model where it is installed."""

from __future__ import annotations

import pytest

from agent_os.core.errors import MissingPartError
from agent_os.effects.detectors import ner
from agent_os.effects.detectors.ner import LanguageModel, installed_model
from agent_os.runtime.privacy import local_detector

DETECTOR = local_detector(ner=False)


def found(text: str) -> set[tuple[str, str]]:
    return {(item.type, text[item.start : item.end]) for item in DETECTOR.scan_text(text)}


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("My name is Kuyra Bazhaev", "PERSON", "Kuyra Bazhaev"),
        ("Mrs. Vickie Friedman called", "PERSON", "Vickie Friedman"),
        ("according to Maria von der Heide, yes", "PERSON", "Maria von der Heide"),
        ("my name is john smith", "PERSON", "john smith"),
        ("Mein Name ist Jürgen Müller", "PERSON", "Jürgen Müller"),
        ("Bonjour Hélène, merci", "PERSON", "Hélène"),
        ("She works for Stratec SE in Berlin", "ORGANIZATION", "Stratec SE"),
        ("She works for Stratec SE in Berlin", "LOCATION", "Berlin"),
        ("He lives at 12 Baker Street, London NW1 6XE", "LOCATION", "12 Baker Street, London NW1 6XE"),
        ("Ich wohne in der Hauptstraße 5, 10115 Berlin", "LOCATION", "Hauptstraße 5, 10115 Berlin"),
        ("habite au 12 rue de la Paix, 75002 Paris", "LOCATION", "12 rue de la Paix, 75002 Paris"),
        ("two estonians and a German man", "NRP", "estonians"),
        ("two estonians and a German man", "NRP", "German"),
    ],
)
def test_names_are_found_without_a_model(text: str, kind: str, value: str) -> None:
    """Names, addresses, organisations and nationalities are found with their characters."""
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "The Quick Start Guide", "Wisdom and Discipline are capitalised words", "Install Python and run the Test Suite", "Terms Of Service apply", "May I ask you something?",
        "Will this work?", "class HttpServer(Base):", "ERROR Timeout while reading from Queue", "SELECT Name FROM Users",
    ],
)  # fmt: skip
def test_capitalised_words_are_not_people(text: str) -> None:
    """BENIGN: headings, products, code and sentence beginnings are no people."""
    assert not [value for kind, value in found(text) if kind == "PERSON"]


def test_the_model_is_demanded_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for the model where none is installed names the extra that installs it."""
    monkeypatch.setattr(ner, "MODELS", ("no_such_model_package",))
    assert installed_model() is None
    with pytest.raises(MissingPartError, match="ner"):
        local_detector(ner=True)
    with pytest.raises(MissingPartError):
        LanguageModel()


@pytest.mark.skipif(installed_model() is None, reason="no language model is installed")
def test_the_model_adds_names_that_no_list_has() -> None:
    """A name without any cue of the lists is found by the model, marked as such."""
    text = "Yesterday Xiaoling Quaye presented the results in Ouagadougou to everyone."
    kinds = {item.by for item in local_detector(ner=True).scan_text(text)}
    people = [text[i.start : i.end] for i in local_detector(ner=True).scan_text(text) if i.type == "PERSON"]
    assert any("Quaye" in name for name in people)
    assert kinds <= {"ner", "names", "pattern"}


@pytest.mark.skipif(installed_model() is None, reason="no language model is installed")
def test_the_model_is_not_loaded_for_text_without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text without unexplained capitalised words never reaches the model."""
    monkeypatch.setattr(ner, "_engine", lambda _name: pytest.fail("the model was asked"))
    detector = local_detector(ner=True)
    assert (
        detector.scan_text("please send the report to the office by 3 pm, the total is 4200 units as agreed before")
        is not None
    )
    assert (
        detector.scan_text("def handler(event):\n    return {'status': 200, 'Body': event['Records'][0]}\n") is not None
    )


GERMAN = (
    "Sehr geehrte Damen und Herren, die Rechnung für den letzten Monat wurde zweimal verschickt. Der Kunde hat die Ware "
    "erhalten, die Lieferung war vollständig. Mit freundlichen Grüßen, Thomas Weber"
)


@pytest.mark.parametrize("ner_wanted", [False, True])
def test_german_nouns_are_not_people(ner_wanted: bool) -> None:
    """BENIGN: the nouns of a German letter are no people, with the (English) model installed either; its writer is one."""
    if ner_wanted and installed_model() is None:
        pytest.skip("no language model is installed")
    people = [GERMAN[i.start : i.end] for i in local_detector(ner=ner_wanted).scan_text(GERMAN) if i.type == "PERSON"]
    assert people == ["Thomas Weber"]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("Vivo en Calle Mayor 12, 28013 Madrid. Gracias, Carmen López", "LOCATION", "Calle Mayor 12, 28013 Madrid"),
        ("Potete contattare la signora Bianchi al numero 06 1234 5678?", "PERSON", "Bianchi"),
        ("Pourriez-vous vérifier le montant avec Monsieur Dupont ?", "PERSON", "Dupont"),
    ],
)
def test_names_in_other_languages(text: str, kind: str, value: str) -> None:
    """Titles and addresses of Spanish, Italian and French letters are understood."""
    assert (kind, value) in found(text)
