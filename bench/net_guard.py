"""The guard as the network benchmark runs it: a real policy, the real monitor with its audit, in a process of its own.

Prints one JSON line with the ports of its listeners (plain, and one that identifies its peers) and serves until killed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import socket
import statistics
import time
from pathlib import Path
from typing import Any

from agent_os.core.principal import Principal
from agent_os.effects.proxy import ListenerIdentity
from agent_os.policy import Policy
from agent_os.runtime.compose import compose
from agent_os.runtime.network import open_guard

ENTRY = "  p{n}: {{endpoints: [{{host: h{n}.example, port: 443, protocol: rest, rules: [{{allow: {{method: GET, path: /x/**}}}}]}}]}}\n"


class Loopback:
    """Every `.test` name is this machine."""

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        return ("127.0.0.1",)


def policy(plain: int, tls: int, rules: int) -> str:
    """A policy with one passed and one inspected destination among `rules` others."""
    return (
        "version: 1\nnetwork_policies:\n"
        f"  pass: {{endpoints: [{{host: pass.test, port: {plain}, local: true}}]}}\n"
        f"  look: {{endpoints: [{{host: look.test, port: {tls}, protocol: rest, local: true,"
        " rules: [{allow: {method: GET, path: /ok/**}}]}]}\n" + "".join(ENTRY.format(n=n) for n in range(rules))
    )


async def serve(options: argparse.Namespace) -> None:
    folder = Path(options.folder)
    (folder / "workspace").mkdir(exist_ok=True)
    parsed = Policy.parse(policy(options.plain, options.tls, options.rules))
    composition = await compose(parsed, Principal(user="bench"), str(folder / "workspace"), state=folder / "state")
    guard = await open_guard(
        parsed, composition.monitor, state=folder / "state", resolver=Loopback(), roots=Path(options.roots),
        environment={"AGENTOS_CARRIER": options.carry},
    )  # fmt: skip
    ports: dict[str, Any] = {}
    for name, identity in (
        ("plain", ListenerIdentity(composition.monitor.principal, executables=False)),
        ("identified", ListenerIdentity(composition.monitor.principal)),
    ):
        sock = socket.create_server(("127.0.0.1", 0), backlog=4096)
        ports[name] = sock.getsockname()[1]
        await guard.serve_listener(sock, "proxy", identity)
    assert guard.parts is not None
    ports["ca"] = str(guard.parts.authority.certificate_path)
    ports["decide_us"] = _decide_us(parsed, options.tls)
    ports["pids"] = [pid for pid in (os.getpid(), guard.carrier_pid) if pid]
    gc.freeze()  # as `agentos run` does
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    print(json.dumps(ports), flush=True)
    await over.wait()


def _decide_us(parsed: Policy, port: int) -> float:
    """The decision alone, for the request that the benchmark sends: processor time, the median of nine batches."""
    from dataclasses import replace

    from agent_os.core.action import NetRequest
    from agent_os.core.facts import DEFAULTS
    from agent_os.policy import decide

    action = NetRequest(host="look.test", port=port, method="GET", path="/ok/1", headers={"user-agent": "bench"})
    facts = replace(DEFAULTS, executable=None, resolved_ips=("127.0.0.1",))
    assert decide(parsed, action, facts).allowed
    batches = []
    for _ in range(9):
        started = time.thread_time()
        for _ in range(300):
            decide(parsed, action, facts)
        batches.append((time.thread_time() - started) / 300 * 1e6)
    return statistics.median(batches)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--plain", type=int, required=True)
    parser.add_argument("--tls", type=int, required=True)
    parser.add_argument("--rules", type=int, default=1000)
    parser.add_argument("--roots", required=True)
    parser.add_argument("--core", type=int, default=-1)
    parser.add_argument("--carry", default="always", choices=["always", "never"])
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    if options.core >= 0:
        os.sched_setaffinity(0, {options.core % (os.cpu_count() or 1)})
    if options.uvloop:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(options))
    else:
        asyncio.run(serve(options))


if __name__ == "__main__":
    main()
