"""Rego layers: one decision of 100 rules in the worker, the same question over REST, and the YAML path beside them.

No OPA binary is at hand: the REST figure is a server of this benchmark that answers at once, so it is what any OPA costs
at least. Worst case: every rule of the module is evaluated and the last one denies.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

from agent_os.core.action import Action
from agent_os.effects.clock import SystemClock
from agent_os.effects.rego import RegoEngines
from agent_os.guards.rego import RegoLayer
from agent_os.policy import Policy, decide

RULES = 100
ROUNDS = 2000
BUDGET_US = 1000.0
ACTION = {"kind": "tool.call", "tool": "pay", "args": {"to": "ana", "amount": RULES - 1, "note": "rent of May"}}


def module(rules: int = RULES) -> str:
    """Return a package of that many deny rules, as people write them."""
    body = [
        f'deny contains {{"id": "r{n}", "reason": "limit {n}"}} if {{\n'
        f'  input.tool == "pay"\n  input.args.amount == {n}\n  not input.args.to in data.suppliers\n}}'
        for n in range(rules)
    ]
    return "\n".join(["package finance", "import rego.v1", "default allow := true", *body, ""])


class _Opa(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"result": {"allow": True, "deny": []}}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self.wfile.write(head + body)

    def log_message(self, *_: object) -> None:
        return


async def measure(call: Callable[[], Awaitable[object]], rounds: int = ROUNDS) -> tuple[float, float]:
    """Return p50 and p99 in microseconds."""
    for _ in range(50):
        await call()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        await call()
        times.append((time.perf_counter() - started) * 1e6)
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


async def embedded(rules: int) -> tuple[float, float]:
    """Measure the worker."""
    layer = RegoLayer(
        "rego:f", "finance", modules=(("f.rego", module(rules)),), data={"suppliers": ["bo"]}, timeout_s=1.0
    )
    engines = RegoEngines([layer], SystemClock(), revision="r")
    try:
        (verdict,) = await engines.evaluate(ACTION, "d")
        assert verdict.error == "", verdict.error
        return await measure(lambda: engines.evaluate(ACTION, "d"))
    finally:
        await engines.aclose()


async def remote() -> tuple[float, float]:
    """Measure a server that answers at once."""
    server = HTTPServer(("127.0.0.1", 0), _Opa)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    layer = RegoLayer("rego:o", "", opa=f"http://127.0.0.1:{server.server_port}", decision="f", timeout_s=1.0)
    engines = RegoEngines([layer], SystemClock(), revision="r")
    try:
        (verdict,) = await engines.evaluate(ACTION, "d")
        assert verdict.error == "", verdict.error
        return await measure(lambda: engines.evaluate(ACTION, "d"), ROUNDS // 4)
    finally:
        await engines.aclose()
        server.shutdown()
        server.server_close()


def yaml_path() -> tuple[float, float]:
    """Return the cost of `decide` for an action no engine judges, without and with a `rego:` section, microseconds."""
    plain = "version: 1\ntools: {pay: {allow: {amount: {max: 1000}}}}\n"
    layered = plain + f"rego: [{{package: finance, kinds: [fs.read], inline: {json.dumps(module())}}}]\n"
    action = Action.parse(ACTION)
    found = []
    for text in (plain, layered):
        policy = Policy.parse(text)
        best = []
        for _ in range(5):
            started = time.perf_counter()
            for _ in range(2000):
                decide(policy, action)
            best.append((time.perf_counter() - started) / 2000 * 1e6)
        found.append(min(best))
    return found[0], found[1]


def main() -> int:
    """Print the figures; 1 when a decision of 100 rules costs more than a millisecond."""
    p50, p99 = asyncio.run(embedded(RULES))
    print(f"embedded, {RULES} rules: p50 {p50:.0f} us, p99 {p99:.0f} us (budget {BUDGET_US:.0f} us)")
    small = asyncio.run(embedded(1))
    print(f"embedded, 1 rule: p50 {small[0]:.0f} us, p99 {small[1]:.0f} us (what the way to the worker costs)")
    server = asyncio.run(remote())
    print(f"REST to a server that answers at once: p50 {server[0]:.0f} us, p99 {server[1]:.0f} us")
    print(f"ratio REST / embedded: {server[0] / p50:.2f}")
    plain, layered = yaml_path()
    print(f"decide without rego {plain:.2f} us, with a layer for other kinds {layered:.2f} us")
    return 0 if p50 < BUDGET_US else 1


if __name__ == "__main__":
    raise SystemExit(main())
