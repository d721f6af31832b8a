"""`kill -9` at every step of `perform`: nothing acknowledged is lost, and what was begun shows as interrupted.

A real process performs tool calls on a real state directory and kills itself at the n-th call of a port. Afterwards the audit
verifies, every effect that really happened has its intent in the log, and a key that was claimed is not run again blindly.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent_os import AgentOS, EffectError, Policy
from agent_os.audit.view import INTERRUPTED, Overview
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec
from agent_os.runtime.audit import open_audit

POLICY = "version: 1\ntools: {send: {allow: true}}\n"
CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from agent_os import AgentOS, Policy
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec

root, step = Path(sys.argv[1]), int(sys.argv[2])
count = 0

def tick(name):
    global count
    count += 1
    if count == step:
        (root / "killed-at").write_text(name)
        os.kill(os.getpid(), signal.SIGKILL)

class Ticking:
    def __init__(self, inner, name):
        self._inner, self._name = inner, name
    def __getattr__(self, attribute):
        value = getattr(self._inner, attribute)
        if not callable(value) or attribute == "keyed_digest":
            return value
        def call(*args, **kwargs):
            tick(f"before {self._name}.{attribute}")
            result = value(*args, **kwargs)
            if hasattr(result, "__await__"):
                async def after():
                    answer = await result
                    tick(f"after {self._name}.{attribute}")
                    return answer
                return after()
            tick(f"after {self._name}.{attribute}")
            return result
        return call

async def main():
    policy = Policy.parse(POLICY_TEXT)
    async with AgentOS.open(policy, principal={"user": "ana", "session": "s1"}, workspace=root / "work", state=root / "state") as system:
        async def run(args):
            tick("in the effect, before it")
            with open(root / "effects", "a") as file:
                file.write(args["n"] + "\\n")
                file.flush(); os.fsync(file.fileno())
            tick("in the effect, after it")
        system.toolbox.register(
            ToolSpec(name="send", effect=Effect.SEND, arguments={"n": Argument(role=Role.PAYLOAD)}), run, code=b"send")
        import dataclasses
        ports = system.monitor._ports
        system.monitor._ports = dataclasses.replace(
            ports, audit=Ticking(ports.audit, "audit"), outcomes=Ticking(ports.outcomes, "outcomes"))
        for number in range(3):
            await system.monitor.perform({"kind": "tool.call", "tool": "send", "args": {"n": str(number)}}, key=f"k{number}")
            with open(root / "acknowledged", "a") as file:
                file.write(f"{number}\\n")
    (root / "finished").write_text("yes")

asyncio.run(main())
"""


def _run(root: Path, step: int) -> int:
    script = CHILD.replace("POLICY_TEXT", repr(POLICY))
    return subprocess.run([sys.executable, "-c", script, str(root), str(step)], timeout=60, check=False).returncode


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("step", range(1, 31))
def test_killed_at_step(tmp_path: Path, step: int) -> None:
    """Killed at any step: the log verifies, every effect has an intent, nothing acknowledged is lost or done again."""
    (tmp_path / "work").mkdir()
    status = _run(tmp_path, step)
    if (tmp_path / "finished").exists():
        assert step > 20, "the child never reached this step"
        return
    assert status == -signal.SIGKILL
    with AgentOS.open(
        Policy.parse(POLICY),
        principal={"user": "ana", "session": "s1"},
        workspace=tmp_path / "work",
        state=tmp_path / "state",
    ) as system:
        done = _lines(tmp_path / "effects")

        async def run(args: object) -> None:
            with (tmp_path / "effects").open("a") as file:
                file.write(args["n"] + "\n")  # type: ignore[index]

        spec = ToolSpec(name="send", effect=Effect.SEND, arguments={"n": Argument(role=Role.PAYLOAD)})
        system.toolbox.register(spec, run, code=b"send")
        for number in range(3):
            try:
                system.perform({"kind": "tool.call", "tool": "send", "args": {"n": str(number)}}, key=f"k{number}")
            except EffectError as error:
                assert "interrupted" in str(error)
    after = _lines(tmp_path / "effects")
    assert len(after) == len(set(after)), "an effect was done twice under one key"
    assert set(_lines(tmp_path / "acknowledged")) <= set(done)
    reader = open_audit(environment={"AGENTOS_STATE": str(tmp_path / "state")})
    report = reader.report("agentos")
    assert report.ok, json.dumps(report.to_json())
    overview = Overview.of(reader.records())
    intents = list(overview.actions.values())
    assert len(intents) >= len(set(after))
    killed = (tmp_path / "killed-at").read_text()
    if killed == "in the effect, after it":
        assert any(item.state == INTERRUPTED for item in intents)
