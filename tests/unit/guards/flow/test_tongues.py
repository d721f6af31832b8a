"""The planner in German, French, Spanish and Italian: requests are read, prohibitions and statements are not."""

from __future__ import annotations

import pytest

from agent_os.guards.flow import derive
from agent_os.guards.flow.days import days_in
from agent_os.guards.flow.scope import Scope
from agent_os.guards.flow.tongues import tongue_of


def allows(prompt: str, tool: str) -> bool:
    """Return whether a prompt puts a tool, judged by its name, in scope."""
    scope = Scope()
    scope.extend(prompt)
    return scope.leave(derive.spec(tool)) is not None


ASKED = [
    ("Lies die Rechnung und überweise den Betrag an die Stadtwerke.", "send_payment"),
    ("Kannst du bitte die Datei bericht.txt löschen?", "delete_file"),
    ("Schick Anna Berg eine kurze E-Mail, dass ich morgen später komme.", "send_email"),
    ("Sag bitte den Zahnarzttermin am Freitag ab.", "cancel_appointment"),
    ("Leg einen neuen Kalendereintrag für das Treffen mit Paul an.", "create_calendar_event"),
    ("Lade Maria zum Treffen am 12. Mai ein.", "invite_user"),
    ("Die alte Bestellung soll storniert werden.", "cancel_order"),
    ("Ich möchte das günstigste Hotel in Wien buchen.", "book_hotel"),
    ("Fasse die Nachrichten zusammen und antworte dem Kunden auf sein Ticket.", "reply_to_ticket"),
    ("Mach das Licht in der Küche aus.", "turn_off_light"),
    ("Lis la facture et paie le montant au fournisseur.", "pay_invoice"),
    ("Peux-tu supprimer le fichier notes.txt, s'il te plaît ?", "delete_file"),
    ("Envoie un mail à Claire pour lui dire que la réunion est déplacée.", "send_email"),
    ("Réserve la chambre la moins chère de l'hôtel du Lac.", "book_room"),
    ("Annule le rendez-vous de mardi et préviens les participants.", "cancel_appointment"),
    ("Je voudrais créer une réunion avec Paul le 12 juin.", "create_event"),
    ("Lee la factura y paga el importe al proveedor.", "pay_invoice"),
    ("¿Puedes borrar el archivo notas.txt, por favor?", "delete_file"),
    ("Envía un correo a Lucía con el resumen de la reunión.", "send_email"),
    ("Quiero que reserves la mesa más barata para el viernes: reserva el restaurante.", "reserve_restaurant"),
    ("Busca el pedido de Ana y cancélalo.", "cancel_order"),
    ("Leggi la fattura e paga l'importo al fornitore.", "pay_invoice"),
    ("Puoi cancellare il file appunti.txt, per favore?", "delete_file"),
    ("Invia una mail a Chiara con il riassunto della riunione.", "send_email"),
    ("Vorrei prenotare l'albergo più economico a Roma.", "book_hotel"),
    ("Trova l'appuntamento di Marco e spostalo a venerdì.", "reschedule_appointment"),
]
NOT_ASKED = [
    ("Bitte lösche die Datei auf keinen Fall.", "send_email"),
    ("Lösche die Datei nicht, sag mir nur, was darin steht.", "delete_file"),
    ("Ich habe die Datei gestern gelöscht. Was stand darin?", "delete_file"),
    ("Wer hat die Rechnung bezahlt?", "pay_invoice"),
    ("Fasse die Mail für mich zusammen.", "delete_file"),
    ("Ne supprime pas le fichier, résume le pour moi.", "delete_file"),
    ("Qui a envoyé le message de Paul dans la boîte ?", "send_message"),
    ("No borres el archivo, dime qué dice la nota.", "delete_file"),
    ("¿Quién ha pagado la factura del mes?", "pay_invoice"),
    ("Non cancellare il file, riassumi la nota per me.", "delete_file"),
    ("Chi ha pagato la fattura di maggio?", "pay_invoice"),
]


@pytest.mark.parametrize(("prompt", "tool"), ASKED)
def test_a_request_is_in_scope(prompt: str, tool: str) -> None:
    """Commands, questions that ask for something and wishes put their effect in scope."""
    assert allows(prompt, tool)


@pytest.mark.parametrize(("prompt", "tool"), NOT_ASKED)
def test_a_prohibition_or_a_statement_is_not(prompt: str, tool: str) -> None:
    """What is denied, told of the past, asked about or not spoken of is out of scope."""
    assert not allows(prompt, tool)


@pytest.mark.parametrize(("prompt", "_tool"), ASKED)
def test_no_prompt_puts_everything_in_scope(prompt: str, _tool: str) -> None:
    """A prompt in another language opens its own effect and not the gravest ones."""
    assert not any(allows(prompt, tool) for tool in ("grant_admin_role", "run_shell_command", "rotate_api_key"))


def test_the_language_is_told_by_its_small_words() -> None:
    """English stays English, also with a foreign name in it; each of the four is known."""
    assert tongue_of("Please send the file to Müller and tell him that it is done.") is None
    named = [
        tongue_of(text)
        for text in ("Lösche bitte die Datei", "Supprime le fichier", "Borra el archivo", "Cancella il file")
    ]
    assert [tongue.name for tongue in named if tongue] == ["german", "french", "spanish", "italian"]


def test_days_in_other_languages() -> None:
    """Month names of five languages and the German way with dots; versions and addresses are no dates."""
    assert days_in("am 12. Mai, le 1er juin, el 3 de abril, il 4 maggio, am 24.12.2025") == {
        (5, 12), (6, 1), (4, 3), (5, 4), (12, 24),
    }  # fmt: skip
    assert days_in("v2.2.8 and 10.0.0.1 and 3.11.") == frozenset({(11, 3)})
