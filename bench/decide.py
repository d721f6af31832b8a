"""Cost of `decide` against the number of rules: first, last and no match, wildcard-heavy, files and hosts.

Prints microseconds (p50) and the ratio to 10 rules in the same run. Run: `python -m bench.decide [--json]`.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from agent_os.core.action import Action
from agent_os.policy import Policy, decide

SIZES = (10, 100, 1_000, 10_000)
ROUNDS = 9
CALLS_PER_ROUND = 1_000


def tools_exact(count: int) -> dict[str, Any]:
    rule = {"allow": {"path": {"under": "inbox"}, "mode": {"in": ["r", "w"]}}, "deny": {"path": {"glob": "*.key"}}}
    return {"tools": {f"tool_{number}": rule for number in range(count)}}


def tools_wild(count: int) -> dict[str, Any]:
    return {"tools": {f"tool_{number}_*": {"allow": {"mode": {"in": ["r", "w"]}}} for number in range(count)}}


def tools_infix(count: int) -> dict[str, Any]:
    return {"tools": {f"*_{number}_*": {"allow": {"mode": {"in": ["r", "w"]}}} for number in range(count)}}


def files(count: int) -> dict[str, Any]:
    return {
        "filesystem_policy": {"read_only": [f"/srv/data/{number}" for number in range(count)], "read_write": ["/tmp"]}
    }


def hosts(count: int) -> dict[str, Any]:
    entry = {"protocol": "rest", "enforcement": "enforce", "access": "read-only", "port": 443}
    return {
        "network_policies": {f"p{n}": {"endpoints": [{**entry, "host": f"h{n}.example.com"}]} for n in range(count)}
    }


def hosts_wild(count: int) -> dict[str, Any]:
    entry = {"protocol": "rest", "enforcement": "enforce", "access": "read-only", "port": 443}
    return {
        "network_policies": {f"p{n}": {"endpoints": [{**entry, "host": f"*.h{n}.example.com"}]} for n in range(count)}
    }


def call(tool: str) -> dict[str, Any]:
    return {"kind": "tool.call", "tool": tool, "args": {"path": "inbox/a.txt", "mode": "r"}}


def request(host: str) -> dict[str, Any]:
    return {"kind": "net.request", "host": host, "port": 443, "method": "GET", "path": "/a/b", "query": {}}


CASES: dict[str, tuple[Callable[[int], dict[str, Any]], Callable[[int], dict[str, Any]]]] = {
    "tool, first rule": (tools_exact, lambda _n: call("tool_0")),
    "tool, last rule": (tools_exact, lambda n: call(f"tool_{n - 1}")),
    "tool, no rule": (tools_exact, lambda _n: call("other")),
    "tool glob, last rule": (tools_wild, lambda n: call(f"tool_{n - 1}_x")),
    "tool glob, no rule": (tools_wild, lambda _n: call("other")),
    "tool infix glob, last rule": (tools_infix, lambda n: call(f"a_{n - 1}_x")),
    "file, last rule": (files, lambda n: {"kind": "fs.read", "path": f"/srv/data/{n - 1}/a/b"}),
    "file, no rule": (files, lambda _n: {"kind": "fs.read", "path": "/var/lib/a/b"}),
    "host, last rule": (hosts, lambda n: request(f"h{n - 1}.example.com")),
    "host, no rule": (hosts, lambda _n: request("other.example.com")),
    "host glob, last rule": (hosts_wild, lambda n: request(f"a.h{n - 1}.example.com")),
}


def measure(policy: Policy, action: Action) -> float:
    """Return the p50 of microseconds a decision over rounds."""
    rounds = []
    for _ in range(ROUNDS):
        before = time.perf_counter()
        for _ in range(CALLS_PER_ROUND):
            decide(policy, action)
        rounds.append((time.perf_counter() - before) / CALLS_PER_ROUND * 1e6)
    return statistics.median(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    options = parser.parse_args()
    policies: dict[tuple[Any, int], Policy] = {}
    report: dict[str, dict[int, float]] = {}
    gc.disable()
    for name, (document, action) in CASES.items():
        report[name] = {}
        for size in options.sizes:
            key = (document, size)
            if key not in policies:
                policies[key] = Policy.parse(json.dumps(document(size)))
            report[name][size] = measure(policies[key], Action.parse(action(size)))
        if not options.json:
            base = report[name][options.sizes[0]]
            cells = "  ".join(f"{size:>6}: {us:6.2f} us x{us / base:4.2f}" for size, us in report[name].items())
            print(f"{name:<28} {cells}")
    worst = max(found[1_000] / found[10] for found in report.values() if 1_000 in found and 10 in found)
    if options.json:
        print(json.dumps({"p50_us": report, "worst_ratio_1000_to_10": worst}))
    else:
        print(f"1,000 rules cost at most {worst:.2f} times 10 rules (target: 1.5)")


if __name__ == "__main__":
    main()
