"""Hot reload: nothing is dropped, an invalid candidate changes nothing, changed files are seen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS, Policy
from agent_os.core.errors import DeniedError, PolicyError
from agent_os.core.manifest import ToolSpec
from agent_os.runtime.policies import load_policy
from agent_os.runtime.reload import reload_policy, watch_policy
from tests.unit.policy.helpers import call

OPEN, CLOSED = "tools: {work: {allow: true}}", "tools: {work: {deny: true}}\nprocess: {allow: [ls]}"


def desk(tmp_path: Path, policy: Policy) -> AgentOS:
    """Return a session that is not open yet."""
    (tmp_path / "work").mkdir(exist_ok=True)
    return AgentOS.open(policy, workspace=tmp_path / "work", state=tmp_path / "state", principal="kim@corp.example")


async def work(_args: Mapping[str, Any]) -> Any:
    """A tool that takes a moment."""
    await asyncio.sleep(0.001)
    return {"done": True}


async def test_reload_under_load_drops_nothing(tmp_path: Path) -> None:
    """Two hundred calls while the policy changes four times: each is done or denied, none fails otherwise."""
    async with desk(tmp_path, Policy.parse(OPEN)) as system:
        system.toolbox.register(ToolSpec(name="work"), work, code=b"work")
        results: list[str] = []

        async def one() -> None:
            try:
                outcome = await system.monitor.perform(call("work"))
                results.append("done" if getattr(outcome, "ok", False) else "failed")
            except DeniedError:
                results.append("denied")

        async def change() -> None:
            for text in (CLOSED, OPEN, CLOSED, OPEN):
                await asyncio.sleep(0.01)
                reload_policy(system, Policy.parse(text))

        await asyncio.gather(change(), *(one() for _ in range(200)))
        assert len(results) == 200
        assert "failed" not in results
        assert (await system.monitor.perform(call("work"))).ok  # type: ignore[union-attr]


async def test_an_invalid_candidate_leaves_the_last_valid_policy(tmp_path: Path) -> None:
    """A file that does not load raises, and the policy in force goes on."""
    file = tmp_path / "policy.yaml"
    file.write_text(OPEN)
    async with desk(tmp_path, load_policy(file)) as system:
        digest = system.monitor.policy.digest
        file.write_text("tools: {work: {alow: true}}")
        with pytest.raises(PolicyError, match="did you mean"):
            reload_policy(system, file)
        assert system.monitor.policy.digest == digest
        rollout = reload_policy(system, Policy.parse(CLOSED))
        assert (rollout.dynamic, rollout.static) == (("tools",), ("process",))
        assert not reload_policy(system, Policy.parse(CLOSED)).changed


async def test_a_changed_file_is_seen(tmp_path: Path) -> None:
    """The watcher tells of a good change and of a refused one, and goes on after both."""
    file = tmp_path / "policy.yaml"
    file.write_text(OPEN)
    told: asyncio.Queue[Any] = asyncio.Queue()
    async with desk(tmp_path, load_policy(file)) as system:
        watching = asyncio.ensure_future(watch_policy(system, file, told.put_nowait, seconds=0.01))
        await asyncio.sleep(0.05)
        file.write_text(CLOSED)
        assert (await asyncio.wait_for(told.get(), 5)).dynamic == ("tools",)
        file.write_text("tools: [")
        assert isinstance(await asyncio.wait_for(told.get(), 5), PolicyError)
        file.write_text(OPEN + "\nmemory: allow")
        assert "memory" in (await asyncio.wait_for(told.get(), 5)).dynamic
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def test_a_changed_rego_module_is_asked_at_once(tmp_path: Path) -> None:
    """Modules, and detectors, are made from the policy: after a reload the old ones are asked no more."""
    pytest.importorskip("regorus", reason="needs the extra [rego]")
    module = "\nrego: [{name: r, package: r, inline: 'package r\n\n  import rego.v1\n\n  allow if %s'}]\n"
    async with desk(tmp_path, Policy.parse(OPEN + module % "true")) as system:
        system.toolbox.register(ToolSpec(name="work"), work, code=b"work")
        assert (await system.monitor.perform(call("work"))).ok  # type: ignore[union-attr]
        reload_policy(system, Policy.parse(OPEN + module % "false"))
        with pytest.raises(DeniedError):
            await system.monitor.perform(call("work"))
        reload_policy(system, Policy.parse(OPEN))
        assert (await system.monitor.perform(call("work"))).ok  # type: ignore[union-attr]
