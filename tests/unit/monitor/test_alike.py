"""Equal actions of one moment are admitted together only where that is the same as one by one."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from agent_os.core.action import NetConnect
from agent_os.core.errors import DeniedError, EffectError
from agent_os.core.ports import Outcome
from tests.unit.monitor.conftest import Desk, Open

POLICY = """
version: 1
network_policies:
  out: {endpoints: [{host: a.test, port: 443}]}
"""
STATED = {"executable": None, "resolved_ips": ("93.184.216.34",)}


def connect(desk: Desk, host: str = "a.test") -> NetConnect:
    """A connection of the desk's principal."""
    return NetConnect(principal=desk.system.monitor.principal, host=host, port=443)


def records(desk: Desk, kind: str) -> list[dict[str, Any]]:
    """The audit's records of one kind."""
    lines = [json.loads(line).get("record", {}) for line in desk.on_disk().splitlines()]
    return [record for record in lines if record.get("type") == kind]


async def test_each_has_a_record_a_permit_and_an_end_of_its_own(open_desk: Open) -> None:
    """Five at once: five intents on disk before they are handed out, equal but for their reference; five outcomes."""
    desk = await open_desk(POLICY)
    monitor = desk.system.monitor
    admissions = await monitor.admit_alike(connect(desk), stated=STATED, count=5)
    assert admissions is not None
    intents = records(desk, "intent")
    assert [intent["ref"] for intent in intents] == [each.permit.nonce for each in admissions]
    assert len({intent.pop("ref") for intent in intents}) == len({intent.pop("seq") for intent in intents}) == 5
    assert len({json.dumps(intent, sort_keys=True) for intent in intents}) == 1
    single = await monitor.admit(connect(desk), stated=STATED)
    alone = records(desk, "intent")[-1]
    assert {**alone, "time": 0, "ref": "", "seq": 0} == {**intents[0], "time": 0, "ref": "", "seq": 0}
    assert {each.permit.resolved_ips for each in (*admissions, single)} == {("93.184.216.34",)}
    for each in (*admissions, single):
        await monitor.settle(each, Outcome())
        await monitor.settle(each, Outcome())
    await monitor.admit(connect(desk), stated=STATED)  # waits until the outcomes before it are on disk
    assert len(records(desk, "outcome")) == 6


@pytest.mark.parametrize(
    "policy",
    [
        "version: 1\nnetwork_policies: {out: {endpoints: [{host: b.test, port: 443}]}}",
        POLICY + "budgets: [{per: user, window: day, calls: 100}]\n",
        POLICY + "audit: {payloads: encrypted, keep: 1d}\n",
        POLICY + "rego: [{path: x.rego, package: x}]\n",
    ],
    ids=["denied", "counted", "kept", "asked of an engine"],
)
async def test_whatever_is_not_plain_is_admitted_one_by_one(open_desk: Open, policy: str) -> None:
    """A denial, a budget, kept payloads, an engine: nothing is admitted together, and nothing is recorded of it."""
    desk = await open_desk(policy)
    assert await desk.system.monitor.admit_alike(connect(desk), stated=STATED, count=3) is None
    assert records(desk, "intent") == []


async def test_another_kind_and_an_agent_that_is_over_are_not_admitted_together(open_desk: Open) -> None:
    """Only connections are plain enough; an ended session admits none."""
    desk = await open_desk(POLICY)
    monitor = desk.system.monitor
    request = {"kind": "net.request", "host": "a.test", "port": 443, "method": "GET", "path": "/"}
    assert await monitor.admit_alike(request, stated=STATED, count=2) is None  # type: ignore[arg-type]
    monitor.session.ended = True
    assert await monitor.admit_alike(connect(desk), stated=STATED, count=2) is None
    monitor.session.ended = False
    assert await monitor.admit_alike(connect(desk), stated=STATED, count=2) is not None


async def test_an_audit_that_fails_admits_none(open_desk: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a log that cannot be written nothing is handed out, together or alone."""
    desk = await open_desk(POLICY)
    monitor = desk.system.monitor

    def refuses(record: object) -> Any:
        raise EffectError("audit: cannot be written")

    with monkeypatch.context() as broken:
        broken.setattr(monitor.ports.audit, "append", refuses)
        assert await monitor.admit_alike(connect(desk), stated=STATED, count=3) is None
        with pytest.raises(DeniedError):
            await monitor.admit(connect(desk), stated=STATED)
    assert await monitor.admit_alike(connect(desk), stated=STATED, count=3) is not None


async def test_one_that_is_given_up_while_it_waits_is_closed(open_desk: Open) -> None:
    """Cancelled before the disk answered, every intent that was written has an outcome that says so."""
    desk = await open_desk(POLICY)
    monitor = desk.system.monitor
    waiting = asyncio.ensure_future(monitor.admit_alike(connect(desk), stated=STATED, count=3))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await monitor.admit(connect(desk), stated=STATED)
    given_up = [record["ref"] for record in records(desk, "outcome") if record.get("error") == "cancelled"]
    assert given_up == [intent["ref"] for intent in records(desk, "intent")][:3]


async def test_an_agent_that_may_be_halted_is_admitted_nothing(open_desk: Open) -> None:
    """Where nobody can say that there is no halt, connections are denied one by one, and not let out together."""

    class Unreadable:
        def current(self) -> Any:
            raise EffectError("the stops cannot be read")

    desk = await open_desk(POLICY)
    monitor = desk.system.monitor
    monitor._ports = replace(monitor.ports, stops=Unreadable())
    assert await monitor.admit_alike(connect(desk), stated=STATED, count=2) is None
    with pytest.raises(DeniedError):
        await monitor.admit(connect(desk), stated=STATED)
