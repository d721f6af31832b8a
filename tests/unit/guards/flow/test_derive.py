"""Drafts for tools nobody described: the worst case wherever names say nothing."""

from __future__ import annotations

import pytest

from agent_os.core.manifest import Effect, Role
from agent_os.guards.flow import derive, fields


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("get_user", Effect.READ),
        ("listFiles", Effect.READ),
        ("list_leave_requests", Effect.READ),
        ("mcp__github__search_issues", Effect.READ),
        ("fetch_and_delete", Effect.WRITE_SHARED),
        ("check_in_guest", Effect.WRITE_SHARED),
        ("tell_person", Effect.SEND),
        ("read_and_forward_mail", Effect.WRITE_SHARED),
        ("run_query", Effect.EXECUTE),
        ("shell", Effect.EXECUTE),
        ("frobnicate", Effect.EXECUTE),
        ("send_email", Effect.SEND),
        ("postMessage", Effect.SEND),
        ("transfer_funds", Effect.PAY),
        ("reset_password", Effect.CREDENTIAL),
        ("create_calendar_event", Effect.WRITE_SHARED),
        ("append_row", Effect.WRITE_OWN),
        ("email_delete", Effect.SEND),
    ],
)
def test_effects_by_name(name: str, effect: Effect) -> None:
    """The gravest class that the words of a name allow; a name that says nothing executes."""
    assert derive.effect_of(name) is effect


@pytest.mark.parametrize(
    ("effect", "name", "value", "role"),
    [
        (Effect.SEND, "to", "a@b.c", Role.AUTHORITY),
        (Effect.SEND, "body", "hi", Role.PAYLOAD),
        (Effect.SEND, "subject", "hi", Role.PAYLOAD),
        (Effect.PAY, "iban", "DE", Role.AUTHORITY),
        (Effect.PAY, "amount", 5, Role.PAYLOAD),
        (Effect.PAY, "amount", "5", Role.AUTHORITY),
        (Effect.WRITE_OWN, "file_id", "7", Role.HANDLE),
        (Effect.WRITE_OWN, "eventId", "7", Role.HANDLE),
        (Effect.WRITE_OWN, "start_time", "10:00", Role.PAYLOAD),
        (Effect.WRITE_OWN, "unheard_of", "x", Role.AUTHORITY),
        (Effect.WRITE_OWN, "enabled", True, Role.PAYLOAD),
        (Effect.READ, "query", "x", Role.SELECTOR),
        (Effect.READ, "url", "x", Role.AUTHORITY),
        (Effect.EXECUTE, "content", "x", Role.AUTHORITY),
    ],
)
def test_roles_by_name(effect: Effect, name: str, value: object, role: Role) -> None:
    """An argument is payload only where its name says so; for what executes, everything is authority."""
    assert derive.argument(effect, name, value).role is role


@pytest.mark.parametrize(
    ("tool", "path", "name", "value", "trusted"),
    [
        ("list_files", "$[*].id", "id", "f1", True),
        ("list_files", "$[*].size", "size", 9, True),
        ("list_files", "$[*].name", "name", "a.txt", False),
        ("search_contacts", "$[*].email", "email", "a@b.c", True),
        ("list_mails", "$[*].body", "body", "hello", False),
        ("list_mails", "$[*].email", "email", "a@b.c", False),
        ("list_mails", "$[*].date", "date", "2024-01-01", True),
        ("list_channels", "$[*]", "~", "general", True),
        ("list_reviews", "$[*]", "~", "general", False),
    ],
)
def test_result_labels_by_name(tool: str, path: str, name: str, value: object, trusted: bool) -> None:
    """Ids, numbers, dates and a directory's addresses are the tool's own words; the rest is somebody's text."""
    found = fields.result(derive.spec(tool), path, name, value)
    assert (found is not None and found.integrity == "trusted") is trusted


def test_whom_a_message_went_to_is_known_only_when_it_is_ones_own() -> None:
    """Recipients of a stranger's mail are the stranger's choice."""
    found = fields.result(derive.spec("list_mails"), "$[*].cc[*]", "cc", "a@b.c")
    assert found is not None
    assert found.integrity == "known"
    assert "sender" in found.mine_if


def test_secrets_by_name() -> None:
    """Passport and card numbers are guarded whoever returns them."""
    for name in ("passport_number", "credit_card_number", "Passport Number", "api_key"):
        found = fields.result(derive.spec("get_user_information"), f"$.{name}", name, "HGK137803")
        assert found is not None
        assert found.confidentiality == "secret"


def test_content_is_not_read_as_structure() -> None:
    """What a page or a file says is its author's, even when it is JSON."""
    assert derive.carries_content("read_file", {"path": "a"}, '[{"id": 1}]')
    assert derive.carries_content("call_api", {"url": "https://x.example"}, [{"id": 1}])
    assert not derive.carries_content("list_contacts", {}, '[{"id": 1}]')


def test_a_schema_gives_the_arguments() -> None:
    """A JSON Schema's properties become arguments; hints of the server are not believed."""
    spec = derive.from_schema(
        "delete_file", {"properties": {"file_id": {}, "note": {}}, "annotations": {"readOnlyHint": True}}
    )
    assert spec.effect is Effect.WRITE_OWN
    assert {name: argument.role for name, argument in spec.arguments.items()} == {
        "file_id": Role.HANDLE,
        "note": Role.PAYLOAD,
    }
    assert spec.derived
