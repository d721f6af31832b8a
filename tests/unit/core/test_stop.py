"""Whom a stop names: an agent, everything below it, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from agent_os.core.errors import ActionError
from agent_os.core.principal import Principal
from agent_os.core.stop import NONE, Stop, Stops

ANA = Principal(tenant="acme", user="ana", agent="desk", session="ses_1")
CHILD = ANA.child("reader-1")
GRANDCHILD = CHILD.child("writer-2")


def stop(scope: str, name: str = "", **changes: Any) -> Stop:
    """Return a stop by lea."""
    values: dict[str, Any] = {"id": "stp_1", "by": "lea", "reason": "odd", "at": 1.0, **changes}
    return Stop(scope=scope, name=name, **values)


@pytest.mark.parametrize(
    ("scope", "name", "held"),
    [
        ("all", "", {ANA, CHILD, GRANDCHILD}),
        ("tenant", "acme", {ANA, CHILD, GRANDCHILD}),
        ("tenant", "other", set()),
        ("user", "ana", {ANA, CHILD, GRANDCHILD}),
        ("agent", "desk", {ANA, CHILD, GRANDCHILD}),
        ("agent", "reader-1", {CHILD, GRANDCHILD}),
        ("agent", "desk/reader-1", {CHILD, GRANDCHILD}),
        ("agent", "reader", set()),
        ("agent", "other/reader-1", set()),
        ("role", "reader", {CHILD, GRANDCHILD}),
        ("role", "writer", {GRANDCHILD}),
        ("role", "desk", set()),
        ("task", "ses_1", {ANA, CHILD, GRANDCHILD}),
        ("task", "ses_2", set()),
    ],
)
def test_a_stop_holds_whom_it_names_and_all_below(scope: str, name: str, held: set[Principal]) -> None:
    """An ancestor's stop is a descendant's too; a name is not a part of a name."""
    stops = Stops.of([stop(scope, name)])
    assert {each for each in (ANA, CHILD, GRANDCHILD) if stops.holding(each)} == held


def test_tasks_above_count() -> None:
    """A durable child's session is its own id; the tasks above it are told beside it."""
    stops = Stops.of([stop("task", "tsk_root")])
    assert stops.holding(ANA, ("tsk_root", "tsk_mid")) is not None
    assert stops.holding(ANA, ("tsk_mid",)) is None


def test_a_tenant_s_stop_is_no_other_tenant_s() -> None:
    """A stop that a tenant's person set holds only there."""
    stops = Stops.of([stop("agent", "desk", tenant="acme"), stop("all", tenant="acme", id="stp_2")])
    elsewhere = Principal(tenant="other", user="ana", agent="desk")
    assert stops.holding(ANA) is not None
    assert stops.holding(elsewhere) is None
    assert stops.halted("acme") is not None
    assert stops.halted() is stops.halted("other") is None


def test_the_widest_is_told_first_and_ends_is_asked_for() -> None:
    """The halt is named before a quarantine; only one that ends what runs ends it."""
    stops = Stops.of([stop("agent", "desk", ends=True), stop("all", id="stp_2")])
    found = stops.holding(ANA)
    assert found is not None
    assert found.id == "stp_2"
    ending = stops.holding(ANA, ends=True)
    assert ending is not None
    assert ending.id == "stp_1"
    assert NONE.holding(ANA) is None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"scope": "planet", "name": "x"}, "scope"),
        ({"scope": "agent"}, "name"),
        ({"scope": "all", "name": "x"}, "name"),
        ({"scope": "agent", "name": "a\x1b[2J"}, "name"),
        ({"scope": "agent", "name": "a" * 201}, "name"),
        ({"scope": "agent", "name": "a", "reason": "x" * 501}, "reason"),
        ({"scope": "agent", "name": "a", "by": ""}, "by"),
    ],
)
def test_a_stop_out_of_range_is_refused(given: dict[str, Any], field: str) -> None:
    """The field that is wrong is named."""
    with pytest.raises(ActionError) as caught:
        stop(**given).checked()
    assert caught.value.field == field


def test_the_wire_form_comes_back() -> None:
    """What is stored is what was said."""
    made = stop("role", "reader", tenant="acme", ends=True)
    assert Stop.parse(made.to_json()) == made
