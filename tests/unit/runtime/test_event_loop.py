"""One place chooses the event loop of our own processes, and says so."""

from __future__ import annotations

import asyncio
import importlib.util

import pytest

from agent_os.core.errors import EffectError
from agent_os.runtime import event_loop, speed
from agent_os.runtime.loop import LoopThread


def _without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvloop" else find(name))


async def _kind() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


@pytest.mark.parametrize("kind", ["uvloop", "asyncio"])
def test_the_loop_that_is_asked_for_runs(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """`AGENTOS_LOOP` chooses, for a run and for the loop thread of the synchronous SDK."""
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    monkeypatch.setenv(event_loop.VARIABLE, kind)
    assert event_loop.run(_kind()) == kind
    thread = LoopThread()
    try:
        assert thread.run(_kind()) == kind
    finally:
        thread.stop()


def test_uvloop_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be set for it."""
    pytest.importorskip("uvloop")
    monkeypatch.delenv(event_loop.VARIABLE, raising=False)
    assert event_loop.run(_kind()) == "uvloop"
    assert {part.part: part.detail for part in speed.parts(None)}["event-loop"] == "uvloop"


def test_without_uvloop_it_is_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base install has no uvloop: asyncio's loop runs, and doctor says what the faster one takes."""
    monkeypatch.delenv(event_loop.VARIABLE, raising=False)
    _without_uvloop(monkeypatch)
    assert event_loop.run(_kind()) == "asyncio"
    row = next(part for part in speed.parts(None) if part.part == "event-loop")
    assert (row.fast, row.detail) == (False, "asyncio")
    assert "agent-os-runtime[fast]" in row.fix


def test_a_loop_that_is_not_to_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong name, or uvloop asked for where it is not, begins nothing."""
    monkeypatch.setenv(event_loop.VARIABLE, "trio")
    work = _kind()
    with pytest.raises(EffectError, match="AGENTOS_LOOP is `uvloop`, `asyncio` or empty, not `trio`"):
        event_loop.run(work)
    assert work.cr_frame is None  # closed, so that nothing warns
    _without_uvloop(monkeypatch)
    monkeypatch.setenv(event_loop.VARIABLE, "uvloop")
    with pytest.raises(EffectError, match="not installed"):
        event_loop.new_loop()
