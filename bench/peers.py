"""Beside a peer: the same question asked of Microsoft's Agent Governance Toolkit and of us, in one run.

Its distribution also installs a top-level `agent_os`, so it lives in a virtual environment of its own, made for the run (a package
registry must be reachable; without one this says so and ends). Asked: one tool call against N deny rules of which the last or
none matches, by its bare evaluator and by its one-line wrapper `govern`; ours is `decide` and `perform` with the audit on disk.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agent_os import Action, AgentOS, Policy, decide
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec

PEER = "agent-governance-toolkit-core==5.0.0"
SIZES = (10, 100, 1_000)
ROUNDS = 2_000
THEIRS = """
import json, statistics, sys, time
from agent_os.policies.evaluator import PolicyEvaluator
from agent_os.policies.schema import PolicyDocument
from agentmesh.governance import govern

def median_us(call, rounds):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6

found = {}
for size in SIZES:
    rules = [{"name": f"r{i}", "condition": {"field": "tool_name", "operator": "eq", "value": f"tool_{i}"},
              "action": "deny", "priority": 1} for i in range(size)]
    document = PolicyDocument(name="p", version="1.0", rules=rules, defaults={"action": "allow"})
    evaluator = PolicyEvaluator(policies=[document])
    assert not evaluator.evaluate({"tool_name": f"tool_{size - 1}"}).allowed
    assert evaluator.evaluate({"tool_name": "free"}).allowed
    found[f"evaluate, last of {size}"] = median_us(lambda: evaluator.evaluate({"tool_name": f"tool_{size - 1}"}), ROUNDS)
    found[f"evaluate, none of {size}"] = median_us(lambda: evaluator.evaluate({"tool_name": "free"}), ROUNDS)
policy = '''
apiVersion: governance.toolkit/v1
name: p
default_action: allow
rules:
  - name: no-drop
    condition: "action.type == 'drop'"
    action: deny
  - name: no-wipe
    condition: "action.type == 'wipe'"
    action: deny
'''
def free(**kwargs):
    return None
safe = govern(free, policy=policy)
safe(action="read")
found["govern, two rules, its audit in memory"] = median_us(lambda: safe(action="read"), ROUNDS)
print(json.dumps(found))
"""


def theirs(folder: Path) -> dict[str, float] | None:
    """Return the peer's medians in microseconds, or None where it cannot be had."""
    venv = folder / "venv"
    try:
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, timeout=120, capture_output=True)
        subprocess.run([venv / "bin" / "pip", "install", "-q", PEER], check=True, timeout=300, capture_output=True)
        code = THEIRS.replace("SIZES", repr(SIZES)).replace("ROUNDS", str(ROUNDS))
        done = subprocess.run(
            [venv / "bin" / "python", "-I", "-c", code], check=True, timeout=300, capture_output=True, text=True
        )
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", b"") or b""
        print(f"the peer cannot be measured here: {type(error).__name__} {str(detail)[-300:]}")
        return None


def median_us(call: Callable[[], object]) -> float:
    """Return the median of ROUNDS calls, in microseconds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def ours(folder: Path) -> dict[str, float]:
    """Return our medians for the same questions, in microseconds."""
    found = {}
    for size in SIZES:
        rules = "".join(f"  tool_{number}: {{deny: true}}\n" for number in range(size))
        policy = Policy.parse(f'version: 1\ntools:\n  "*": {{allow: true}}\n{rules}')
        last, none = (Action.parse({"kind": "tool.call", "tool": tool}) for tool in (f"tool_{size - 1}", "free"))
        assert decide(policy, last).verdict == "deny"
        assert decide(policy, none).verdict == "allow"
        found[f"evaluate, last of {size}"] = median_us(lambda policy=policy, last=last: decide(policy, last))
        found[f"evaluate, none of {size}"] = median_us(lambda policy=policy, none=none: decide(policy, none))
    policy = Policy.parse('version: 1\ntools: {"*": {allow: true}, drop: {deny: true}, wipe: {deny: true}}')
    (folder / "work").mkdir()
    with AgentOS.open(policy, principal="bench", workspace=folder / "work", state=folder / "state") as system:

        async def run(args: object) -> None:
            return None

        spec = ToolSpec(name="read", effect=Effect.READ, arguments={"what": Argument(role=Role.PAYLOAD)})
        system.toolbox.register(spec, run, code=b"read")

        async def performs() -> float:
            times = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                await system.monitor.perform({"kind": "tool.call", "tool": "read", "args": {}})
                times.append(time.perf_counter() - start)
            return statistics.median(times) * 1e6

        found["govern, two rules, its audit in memory"] = system.loop.run(performs())
    return found


def main() -> None:
    """Print both columns and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mine, peer = ours(folder), theirs(folder)
    for question, microseconds in mine.items():
        said = f"{question:44} ours {microseconds:8.1f} us"
        if peer is not None:
            said += f"   {PEER.split('==', maxsplit=1)[0]} {peer[question]:8.1f} us   {peer[question] / microseconds:6.1f} x"
        print(said)
    print("(ours in the last line: perform with the hash-chained audit on disk, written but not waited for)")


if __name__ == "__main__":
    main()
