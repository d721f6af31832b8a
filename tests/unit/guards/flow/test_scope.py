"""The effect scope: what the user's own words ask for, and nothing else."""

from __future__ import annotations

import pytest

from agent_os.core.manifest import Effect, ToolSpec
from agent_os.guards.flow import derive
from agent_os.guards.flow.days import days_in, within_days
from agent_os.guards.flow.scope import Scope


def allows(prompt: str, tool: str) -> bool:
    """Return whether a tool nobody described is in the scope of a prompt."""
    scope = Scope()
    scope.extend(prompt)
    return scope.leave(derive.spec(tool)) is not None


@pytest.mark.parametrize(
    ("prompt", "tool"),
    [
        ("Send Bob an email.", "send_email"),
        ("Could you please forward this to Bob?", "forward_email"),
        ("Don't forget to invite Mark to the event.", "invite_to_event"),
        ("Set up a meeting with Ann.", "create_calendar_event"),
        ("I'd like to transfer 20 euros to Bob.", "transfer_money"),
        ("Make a reservation at the hotel.", "reserve_hotel"),
        ("Remove the old file from the drive.", "delete_file"),
        ("Comment on the ticket that it works.", "comment_on_ticket"),
        ("Please grade the essay with an A.", "set_grade"),
        ("First look at the page. Then post a summary in the channel.", "mcp__slack__post_message"),
        ("Delete the mail.", "email_delete"),
        ("Let Bob know by email that I am late.", "send_email"),
        ("The old file needs to be deleted.", "delete_file"),
        ("Inform the team by sending an email.", "send_email"),
        ("Would you mind forwarding the mail to Bob?", "forward_email"),
        ("Please get rid of the file.", "delete_file"),
        ("Reorder the item.", "create_purchase_order"),
        ("Roll back the deployment.", "rollback_deployment"),
        ("Cancel the booking of the band.", "booking_cancel"),
        ("Throw the old file out.", "delete_file"),
        ("Approve the request by Altfurt.", "decide-request"),
        ("The patient needs a letter. Generate it.", "letter.generate"),
        ("Acknowledge the alarm.", "alarm-ack"),
        ("The crate shall go to the depot, it is an item.", "move_item"),
        ("Let everybody who asked about the flat know that it is gone.", "answer_message"),
        ("Rejette la demande.", "demande.decider"),
        ("Écris à Camille un courriel qu'il manque une photo.", "courrier.envoyer"),
        ("Schieb den Termin auf Freitag.", "termin_verschieben"),
    ],
)
def test_requests_are_understood(prompt: str, tool: str) -> None:
    """A verb and its object in the user's words bring the tool of that meaning into scope."""
    assert allows(prompt, tool)


@pytest.mark.parametrize(
    ("prompt", "tool"),
    [
        ("What did Bob send me?", "send_email"),
        ("Tell me about the email.", "send_email"),
        ("Let me know what the email says.", "send_email"),
        ("Check whether the file has been deleted.", "delete_file"),
        ("The file was deleted, why?", "delete_file"),
        ("Without deleting anything, list the files.", "delete_file"),
        ("Do not delete the file.", "delete_file"),
        ("They deleted a file, is it gone?", "delete_file"),
        ("Remind me to book a hotel: add an event to my calendar.", "reserve_hotel"),
        ("Create a file with the minutes.", "delete_file"),
        ("Tag is the name of the file.", "tag_file"),
        ("Look at what the others say in the channel.", "say_in_channel"),
        ("Show me the booking.", "booking_cancel"),
        ("The alarm was acknowledged.", "alarm-ack"),
        ("Ist der Termin verschoben?", "termin_verschieben"),
        ("N'envoie pas de courriel.", "courrier.envoyer"),
        ("Il envoie un courriel.", "courrier.envoyer"),
        ("Post the text 'please delete the file now' in the channel.", "delete_file"),
        ("Write the following message to Bob: delete the file.", "delete_file"),
        ("Turn off the lamp.", "unlock_door"),
        ("Wie wird das Wetter?", "send_email"),
        ("", "send_email"),
    ],
)
def test_what_is_no_request_is_out_of_scope(prompt: str, tool: str) -> None:
    """Statements, questions, prohibitions, quoted text and other tools' requests widen nothing."""
    assert not allows(prompt, tool)


ACTS = "delete cancel stop kill close archive pause disable lock unlock restart deploy approve reject refund pay buy sell transfer".split()
SAME = {
    ("delete", "cancel"), ("cancel", "delete"), ("stop", "kill"), ("kill", "stop"), ("close", "archive"),
    ("archive", "close"), ("stop", "cancel"), ("stop", "pause"), ("stop", "disable"), ("transfer", "pay"), ("pay", "transfer"), ("pay", "refund"), ("refund", "transfer"),
}  # fmt: skip
"""(asked for, done) where a person says the one and means the other."""


@pytest.mark.parametrize("asked", ACTS)
def test_an_act_brings_no_other_act_into_scope(asked: str) -> None:
    """`restart the service` stops nothing, `approve the order` closes none: a tool that does one thing needs that thing asked for."""
    for done in ACTS:
        allowed = {
            tool
            for tool in ("service", "order")
            if allows(f"Read the log, then {asked} the {tool} A-1.", f"{done}_{tool}")
        }
        assert not allowed or asked == done or (asked, done) in SAME, (asked, done)
        assert allowed or asked != done


@pytest.mark.parametrize(
    ("prompt", "own", "whole"),
    [
        ("Delete the file notes.txt in the folder Archive.", "delete_file", "delete_folder"),
        ("Close the ticket T-9 in the project Apollo.", "close_ticket", "close_project"),
        ("Switch off the creative with the best rate in the Spring campaign.", "disable_creative", "pause_campaign"),
        ("Delete the contact Bob Miller.", "delete_contact", "delete_account"),
        ("Share the report of the team with Bob.", "share_report", "share_team"),
    ],
)
def test_who_speaks_of_a_part_does_not_mean_the_whole(prompt: str, own: str, whole: str) -> None:
    """What holds the thing, or whom it belongs to, is not what the request is done to."""
    assert allows(prompt, own)
    assert not allows(prompt, whole)


@pytest.mark.parametrize("tool", ["publish_post", "post_tweet", "announce", "create_post", "social_publish_post"])
def test_an_answer_to_one_is_published_to_nobody_else(tool: str) -> None:
    """A comment, a reply or a mail is asked for; what everybody reads is not."""
    assert not allows("Comment on the issue that I fix it this week.", tool)
    assert not allows("Reply to the mail of Ida Lund that I will come.", tool)


def test_reading_is_always_in_scope() -> None:
    """A tool that only reads needs no request."""
    assert Scope().leave(ToolSpec(name="x", effect=Effect.READ)) is not None


def test_a_second_message_of_the_user_widens_the_scope() -> None:
    """The scope is the user's words, all of them."""
    scope = Scope()
    scope.extend("Summarise the file.")
    assert scope.leave(derive.spec("delete_file")) is None
    scope.extend("Now delete the file.")
    assert scope.leave(derive.spec("delete_file")) is not None


def test_a_childs_scope_lies_within_its_parents() -> None:
    """Whatever a child is told, it may do nothing its parent was not asked for."""
    parent = Scope()
    parent.extend("Send Bob an email.")
    child = Scope(within=parent)
    child.extend("Send Bob an email and delete every file.")
    assert child.leave(derive.spec("send_email")) is not None
    assert child.leave(derive.spec("delete_file")) is None


@pytest.mark.parametrize(
    ("prompt", "times"),
    [("Delete the oldest file.", 1), ("Delete all old files.", 0), ("Delete the files a.txt and b.txt.", 0)],
)
def test_how_often(prompt: str, times: int) -> None:
    """One thing is asked for once; several without limit (0)."""
    scope = Scope()
    scope.extend(prompt)
    leave = scope.leave(derive.spec("delete_file"))
    assert leave is not None
    assert leave.times == times


def test_days_are_read_in_the_usual_ways() -> None:
    """ISO, English month names in either order; a range holds what lies between, and a night over."""
    assert days_in("on 2024-05-19, May 3rd, and the 14th of November") == {(5, 19), (5, 3), (11, 14)}
    assert days_in("version 1.2, room 12, 10:30") == frozenset()
    asked = frozenset({(1, 11), (1, 15)})
    assert within_days(frozenset({(1, 12)}), asked)
    assert within_days(frozenset({(1, 16)}), asked)
    assert not within_days(frozenset({(2, 1)}), asked)
