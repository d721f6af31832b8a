"""What was admitted and is under way holds as long as everything that let it through does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent_os import Policy
from agent_os.core.action import NetConnect
from agent_os.core.approval import Answer
from agent_os.core.errors import DeniedError
from agent_os.core.ports import Admission, Outcome
from agent_os.core.principal import Capability
from tests.unit.monitor.conftest import Desk, Open

pytest.importorskip("regorus", reason="needs the extra [rego]: an ask of a connection is Rego's")

POLICY = """
version: 1
network_policies:
  out: {endpoints: [{host: a.test, port: 443}, {host: b.test, port: 443}]}
rego:
  - name: wire
    package: wire
    inline: |
      package wire
      import rego.v1

      allow if true
      ask contains {"id": "b", "reason": "b is asked for"} if input.host == "b.test"
approvals: {timeout: 10m, allow_session: true, allow_always: true}
"""
STATED = {"executable": None, "resolved_ips": ("93.184.216.34",)}


class Shifted:
    """A clock some seconds ahead of another one."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.ahead = inner, 0.0

    def now(self) -> float:
        return float(self._inner.now()) + self.ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def opened(open_desk: Open, **options: Any) -> tuple[Desk, Shifted]:
    """A desk, and the clock of its monitor."""
    desk = await open_desk(POLICY, **options)
    monitor = desk.system.monitor
    clock = Shifted(monitor.ports.clock)
    monitor._ports = replace(monitor.ports, clock=clock)
    return desk, clock


async def admitted(desk: Desk, host: str, **answer: Any) -> Admission:
    """An admitted connection; an ask is answered first."""
    monitor = desk.system.monitor
    store: Any = monitor.ports.approvals
    action = NetConnect(principal=monitor.principal, host=host, port=443)
    try:
        return await monitor.admit(action, stated=STATED)
    except DeniedError:
        (approval,) = await store.list("waiting")
        await store.answer(approval.id, Answer(True, "boss", **answer), monitor.ports.clock.now())
    return await monitor.admit(action, stated=STATED)


def reload(desk: Desk, old: str, new: str) -> None:
    """Put a changed policy in force."""
    desk.system.reload(Policy.parse(POLICY.replace(old, new)))


async def test_what_nobody_had_to_answer_holds_until_it_is_settled(open_desk: Open) -> None:
    """Time does not end it; settled, it is nothing any more."""
    desk, clock = await opened(open_desk)
    monitor = desk.system.monitor
    admission = await admitted(desk, "a.test")
    clock.ahead = 400 * 86400.0
    assert await monitor.holds(admission)
    await monitor.settle(admission, Outcome())
    assert not await monitor.holds(admission)


async def test_a_lasting_grant_that_expires_ends_what_it_let_through(open_desk: Open) -> None:
    """An answer for a session ends after half a day, and the connection with it; the one nobody asked for stays."""
    desk, clock = await opened(open_desk)
    monitor = desk.system.monitor
    asked, plain = await admitted(desk, "b.test", lasting="session"), await admitted(desk, "a.test")
    clock.ahead = 11 * 3600.0
    assert await monitor.holds(asked)
    clock.ahead = 13 * 3600.0
    assert not await monitor.holds(asked)
    assert await monitor.holds(plain)


async def test_a_revoked_grant_ends_what_it_let_through(open_desk: Open) -> None:
    """Revoking an answer for always ends it at once."""
    desk, _ = await opened(open_desk)
    monitor = desk.system.monitor
    asked = await admitted(desk, "b.test", lasting="always")
    assert await monitor.holds(asked)
    store: Any = monitor.ports.approvals
    (grant,) = await store.list_standing()
    assert await store.revoke_standing(grant.grant.id)
    assert not await monitor.holds(asked)


async def test_an_answer_for_once_holds_for_what_it_was_used_for(open_desk: Open) -> None:
    """It was used when the connection began: its expiry ends nothing, another policy revision does."""
    desk, clock = await opened(open_desk)
    monitor = desk.system.monitor
    asked = await admitted(desk, "b.test")
    clock.ahead = 3600.0
    assert await monitor.holds(asked)
    reload(desk, '"b is asked for"', '"b is asked for, still"')
    assert not await monitor.holds(asked)


@pytest.mark.parametrize(
    ("old", "new", "held"),
    [
        ("nothing", "nothing", True),
        ("{host: a.test, port: 443}, ", "", False),
        ("allow if true", "allow if false", False),
    ],
    ids=["the same policy", "no rule for the host", "the engine denies"],
)
async def test_another_policy_is_asked_anew(open_desk: Open, old: str, new: str, held: bool) -> None:
    """What the new revision does not allow does not hold, its engines included; what it allows does."""
    desk, _ = await opened(open_desk)
    admission = await admitted(desk, "a.test")
    reload(desk, old, new)
    assert await desk.system.monitor.holds(admission) is held


async def test_what_it_reserved_itself_does_not_count_against_it(open_desk: Open) -> None:
    """The one call of a budget is under way: a second is denied, the first goes on."""
    budget = "version: 1\ntools: {look: {allow: true}}\nbudgets: [{name: one, per: session, window: run, calls: 1}]\n"
    desk = await open_desk(budget)
    monitor = desk.system.monitor
    call = {"kind": "tool.call", "tool": "look", "args": {"what": "x"}}
    first = await monitor.admit(call)
    with pytest.raises(DeniedError):
        await monitor.admit(call)
    assert await monitor.holds(first)
    await monitor.settle(first, Outcome())


async def test_an_agent_that_ended_or_lost_its_right_holds_nothing(open_desk: Open) -> None:
    """A sub-agent's connection goes when its capability or the sub-agent itself does."""
    desk, _ = await opened(open_desk)
    right = Capability("net.connect", frozenset({"a.test:443"}))
    child = desk.system.monitor.child("researcher", (right,))
    action = NetConnect(principal=child.principal, host="a.test", port=443)
    admission = await child.admit(action, stated=STATED)
    assert await child.holds(admission)
    child.session.capabilities = ()
    assert not await child.holds(admission)
    child.session.capabilities = (right,)
    assert await child.holds(admission)
    child.session.ended = True
    assert not await child.holds(admission)


async def test_a_halt_ends_what_is_under_way(open_desk: Open) -> None:
    """A halted agent holds nothing; released, what was not cut meanwhile goes on."""
    desk, _ = await opened(open_desk)
    monitor = desk.system.monitor
    admission = await admitted(desk, "a.test")
    stop = await desk.system.stops.ahalt(by="ana")
    assert not await monitor.holds(admission)
    await desk.system.stops.arelease(stop.id, by="ana")
    assert await monitor.holds(admission)
