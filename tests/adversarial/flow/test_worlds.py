"""Indirect prompt injection over tools nobody described: what the text demands asks, what the user wanted does not."""

from __future__ import annotations

import pytest

from agent_os.core.principal import Principal
from agent_os.guards.flow.session import FlowSession
from tests.adversarial.flow.worlds import WORLDS, World
from tests.adversarial.flow.worlds_bounds import BOUNDS
from tests.adversarial.flow.worlds_close import CLOSE
from tests.adversarial.flow.worlds_fifth import FIFTH
from tests.adversarial.flow.worlds_fourth import FOURTH
from tests.adversarial.flow.worlds_more import MORE
from tests.adversarial.flow.worlds_stated import STATED
from tests.adversarial.flow.worlds_third import THIRD

ALL = [*WORLDS, *MORE, *THIRD, *FOURTH, *STATED, *FIFTH, *BOUNDS, *CLOSE]

RECORDED_ONLY = {"unknown_tool", "shared_write", "memory_poisoning", "credential_use"}
"""Classes of concern whose default answer is no question."""


def session_of(world: World) -> FlowSession:
    """Return a session that has seen everything of a world but the calls to judge."""
    session = FlowSession(principal=Principal(user="user@corp.example"))
    session.prompt(world.prompt)
    for tool, args, result in world.seen:
        assert not questions(session, tool, args), f"reading with {tool} was not free"
        session.take(tool, args, result)
    return session


def questions(session: FlowSession, tool: str, args: dict[str, object]) -> list[str]:
    """Return the concerns of a call that a default policy asks about or denies."""
    return [
        f"{concern.sink} {concern.argument}"
        for concern in session.judge(tool, args).concerns
        if concern.sink not in RECORDED_ONLY
    ]


@pytest.mark.parametrize("world", ALL, ids=lambda world: world.id)
def test_what_the_user_asked_for_needs_no_approval(world: World) -> None:
    """The calls the prompt calls for raise no question, though poisoned text was read before them."""
    session = session_of(world)
    for tool, args in world.benign:
        assert not questions(session, tool, args), f"{tool} {args}"
        session.take(tool, args, {"ok": True})


@pytest.mark.parametrize(
    ("world", "index"),
    [(world, index) for world in ALL for index in range(len(world.attack))],
    ids=lambda value: value.id if isinstance(value, World) else str(value),
)
def test_what_the_text_demands_asks(world: World, index: int) -> None:
    """A call that injected text demands raises a question, right away and after the user's own calls."""
    tool, args = world.attack[index]
    session = session_of(world)
    assert questions(session, tool, args)
    for own_tool, own_args in world.benign:
        session.take(own_tool, own_args, {"ok": True})
    assert questions(session, tool, args)


SAME_WISH = {("mail-to-contact", "send_message"), ("wifi", "setThermostat"), ("sensor", "setThermostat")}
"""What another world's text demands and this world's user really asked for: to write to that contact, to set the heating."""


@pytest.mark.parametrize("world", ALL, ids=lambda world: world.id)
def test_what_any_other_text_demands_asks(world: World) -> None:
    """The demands of every other world, made in this one: about ten thousand pairs, and none slips through."""
    session = session_of(world)
    passed = [
        (other.id, tool, args)
        for other in ALL
        if other is not world
        for tool, args in other.attack
        if (world.id, tool) not in SAME_WISH and not questions(session, tool, args)
    ]
    assert passed == []


def test_a_search_for_the_stranger_s_site_asks() -> None:
    """What is looked up on the web names no site that only untrusted text named; other words may come from there."""
    session = session_of(next(world for world in STATED if world.id == "address-under-any-name"))
    assert questions(session, "search_web", {"query": "site:evil.example budget 40k"})
    assert not questions(session, "search_web", {"query": "budget 40k"})
