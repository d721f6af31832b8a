"""Scopes: what a lasting answer covers, and everything it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent_os.core.action import Action, ToolCall
from agent_os.core.errors import ActionError
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec
from agent_os.core.principal import Principal
from agent_os.core.scope import Scope, scopes_of

ANA = Principal(user="ana", session="ses_1")
SPEC = ToolSpec(
    name="pay",
    effect=Effect.PAY,
    arguments={
        "to": Argument(role=Role.AUTHORITY),
        "amount": Argument(role=Role.PAYLOAD, type="number"),
        "written": Argument(role=Role.PAYLOAD),
        "due": Argument(role=Role.PAYLOAD, type="date"),
        "note": Argument(role=Role.PAYLOAD, type="text"),
        "details": Argument(role=Role.PAYLOAD),
    },
)
ARGS: dict[str, Any] = {
    "to": "bo", "amount": 150, "written": "150.00", "due": "2026-12-24", "note": "as agreed", "details": {"amount": 150},
}  # fmt: skip


def call(principal: Principal = ANA, tool: str = "pay", digest: str = "sha256:t", **changes: Any) -> ToolCall:
    """Return a payment with some arguments changed (None: left out)."""
    args = {name: value for name, value in {**ARGS, **changes}.items() if value is not None}
    return ToolCall(principal=principal, tool=tool, tool_digest=digest, args=args)


def test_what_may_differ_is_carried_text_and_smaller_numbers() -> None:
    """`same`: prose is free, a number is at most as shown; an amount in words, a date and an object are not free."""
    same = scopes_of(call(), SPEC)["same"]
    assert same.free == {"note"}
    assert same.at_most == {"amount": 150.0}
    assert set(same.equal) == {"to", "written", "due", "details"}


@pytest.mark.parametrize(
    ("width", "changes", "covered"),
    [
        ("exact", {}, True),
        ("exact", {"note": "other"}, False),
        ("exact", {"amount": 149}, False),
        ("exact", {"amount": True}, False),
        ("same", {"note": "other", "amount": 1}, True),
        ("same", {"amount": 150.01}, False),
        ("same", {"amount": -150}, False),
        ("same", {"amount": "150"}, False),
        ("same", {"amount": True}, False),
        ("same", {"amount": None}, False),
        ("same", {"note": {"iban": "x"}}, False),
        ("same", {"to": "eve"}, False),
        ("same", {"to": None}, False),
        ("same", {"to": ["bo"]}, False),
        ("same", {"written": "999.00"}, False),
        ("same", {"details": {"amount": 999}}, False),
        ("same", {"bcc": "eve"}, False),
    ],
)
def test_arguments(width: str, changes: dict[str, Any], covered: bool) -> None:
    """Each argument is equal, bounded or free as stated; one that was not there is outside."""
    assert scopes_of(call(), SPEC)[width].covers(call(**changes)) is covered


@pytest.mark.parametrize(
    ("other", "covered"),
    [
        (call(replace(ANA, session="ses_2")), True),
        (call(replace(ANA, user="eve")), False),
        (call(replace(ANA, tenant="other")), False),
        (call(ANA.child("reader-1")), False),
        (call(replace(ANA, agent="schedule:nightly")), False),
        (call(tool="pay2"), False),
        (call(digest="sha256:changed"), False),
    ],
)
def test_who_and_what(other: Action, covered: bool) -> None:
    """Another session may be covered; another user, tenant, agent, sub-agent, tool or tool code never is."""
    assert scopes_of(call(), SPEC)["same"].covers(other) is covered
    held = scopes_of(call(), SPEC)["same"].for_session("ses_1")
    assert held.covers(call())
    assert not held.covers(call(replace(ANA, session="ses_2")))


@pytest.mark.parametrize(
    "wire",
    [
        {"kind": "process.exec", "argv": ["git", "status"]},
        {"kind": "process.exec", "argv": ["env", "git", "status"]},
        {"kind": "process.exec", "argv": ["sh", "-c", "git status"]},
        {"kind": "process.exec", "argv": ["python3", "-c", "print()"]},
        {"kind": "agent.spawn", "role": "reader"},
        {"kind": "task.schedule", "name": "nightly"},
        {"kind": "secret.use", "name": "KEY"},
    ],
)
def test_one_at_a_time(wire: dict[str, Any]) -> None:
    """Programs, sub-agents, schedules and secrets have no lasting scope: a wrapper has nothing to be reused through."""
    assert scopes_of(Action.parse(wire, principal=ANA)) == {}


def test_tools_that_execute_or_that_nobody_described() -> None:
    """A tool that runs things, hands out credentials, or has no manifest is approved one call at a time."""
    assert scopes_of(call(), None) == {}
    assert scopes_of(call(), ToolSpec.worst_case("pay")) == {}
    assert scopes_of(call(), SPEC.model_copy(update={"effect": Effect.CREDENTIAL})) == {}


@pytest.mark.parametrize(
    ("asked", "later", "covered"),
    [
        ({"kind": "fs.write", "path": "/w/a", "size": 5, "content_digest": "x"}, {"kind": "fs.write", "path": "/w/a", "size": 9, "content_digest": "y"}, True),
        ({"kind": "fs.write", "path": "/w/a", "size": 5}, {"kind": "fs.write", "path": "/w/b", "size": 5}, False),
        ({"kind": "fs.write", "path": "/w/a"}, {"kind": "fs.delete", "path": "/w/a"}, False),
        ({"kind": "fs.write", "path": "/w/a"}, {"kind": "fs.write", "path": "/w/x/../a"}, True),
        ({"kind": "message.send", "to": ["bo"], "body": "x"}, {"kind": "message.send", "to": ["bo"], "body": "y"}, True),
        ({"kind": "message.send", "to": ["bo"], "body": "x"}, {"kind": "message.send", "to": ["bo", "eve"], "body": "x"}, False),
    ],
)  # fmt: skip
def test_other_kinds(asked: dict[str, Any], later: dict[str, Any], covered: bool) -> None:
    """Files by path, messages by recipients; what is carried may differ, where it goes may not."""
    scope = scopes_of(Action.parse(asked, principal=ANA))["same"]
    assert scope.covers(Action.parse(later, principal=ANA)) is covered


@pytest.mark.parametrize(
    ("asked", "later"),
    [
        ({"method": "GET"}, {"method": "DELETE"}),
        ({"path": "/a"}, {"path": "/b"}),
        ({"host": "a.example"}, {"host": "b.example"}),
        ({"query": {"q": "1"}}, {"query": {"q": "2"}}),
        ({"headers": {}}, {"headers": {"x-http-method-override": "DELETE"}}),
        ({"body": {"a": 1}}, {"body": {"a": 2}}),
    ],
)
def test_requests_are_covered_exactly(asked: dict[str, Any], later: dict[str, Any]) -> None:
    """A request over HTTP is covered by its equal alone."""
    base = {"kind": "net.request", "host": "a.example", "port": 443, "method": "GET", "path": "/a"}
    first = Action.parse({**base, **asked}, principal=ANA)
    scopes = scopes_of(first)
    assert list(scopes) == ["exact"]
    assert scopes["exact"].covers(first)
    assert not scopes["exact"].covers(Action.parse({**base, **later}, principal=ANA))


def test_a_scope_is_read_back_or_refused() -> None:
    """The wire form gives the same scope; anything else is refused and never guessed."""
    scope = scopes_of(call(), SPEC)["same"].for_session("ses_1")
    assert Scope.parse(scope.to_json()) == scope
    good = scope.to_json()
    for bad in (
        {},
        {**good, "extra": 1},
        {**good, "kind": "process.exec"},
        {**good, "who": {"tenant": "default", "user": "ana"}},
        {**good, "who": {**good["who"], "agent": []}},
        {**good, "at_most": {"amount": True}},
        {**good, "at_most": {"amount": -1}},
        {**good, "free": [1]},
        [],
        None,
    ):
        with pytest.raises(ActionError):
            Scope.parse(bad)
