"""What network rules cost: a connection and a request judged with 10, 100, 1,000 and 10,000 endpoints around them.

Exact names, wildcards of distinct domains, and the worst case: wildcards of one domain, all of which could match. The
last line of each table is the ratio of 1,000 endpoints to 10; where rules cannot match it stays under 1.5. Beside it
stand compile time and the check of a whole file. `python -m bench.network_rules`
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from agent_os.core.action import Action
from agent_os.core.facts import Facts
from agent_os.policy.network import NetworkSection, check_network, compile_network
from agent_os.policy.schema.network import AllowRule, Binary, Endpoint, NetworkPolicy, RequestRule

SIZES = (10, 100, 1_000, 10_000)
ROUNDS = 2_000
PROGRAM = "/usr/bin/curl"


def _endpoint(host: str) -> Endpoint:
    rule = AllowRule(allow=RequestRule(method="GET", path="/v1/**"))
    return Endpoint(host=host, port=443, protocol="rest", enforcement="enforce", rules=[rule])


def _policies(size: int, shape: str) -> dict[str, NetworkPolicy]:
    hosts = {
        "exact": lambda i: f"h{i}.example.com",
        "wildcard": lambda i: f"*.d{i}.example.com",
        "one domain": lambda i: f"t{i}-*.example.com",
    }[shape]
    return {
        f"p{i}": NetworkPolicy(endpoints=[_endpoint(hosts(i))], binaries=[Binary(path=PROGRAM)]) for i in range(size)
    }


def _host(shape: str, number: int) -> str:
    return {
        "exact": f"h{number}.example.com",
        "wildcard": f"a.d{number}.example.com",
        "one domain": f"t{number}-a.example.com",
    }[shape]


def _time(section: NetworkSection, wire: dict[str, Any], rounds: int) -> float:
    """Median microseconds of one judgement, over nine batches."""
    action = Action.parse({"binary": PROGRAM, "port": 443, **wire})
    facts = Facts.defaults().with_stated(action.stated)
    judge = section.judge
    times = []
    for _ in range(9):
        start = time.perf_counter()
        for _ in range(rounds // 9):
            judge(action, facts)
        times.append((time.perf_counter() - start) / (rounds // 9))
    return statistics.median(times) * 1e6


def main() -> None:
    """Print one table a shape."""
    for shape in ("exact", "wildcard", "one domain"):
        print(
            f"{shape:>10}  {'compile ms':>10} {'check ms':>9} {'connect':>8} {'request':>8} {'denied':>8} {'no match':>8}  (us)"
        )
        first: list[float] = []
        for size in SIZES:
            if shape == "one domain" and size > 1_000:
                continue
            policies = _policies(size, shape)
            start = time.perf_counter()
            section = compile_network(policies)
            compiled = (time.perf_counter() - start) * 1e3
            start = time.perf_counter()
            if size <= 1_000:
                check_network(policies)
            checked = (time.perf_counter() - start) * 1e3
            last = _host(shape, size - 1)
            rounds = ROUNDS if shape != "one domain" or size < 1_000 else 90
            row = [
                _time(section, {"kind": "net.connect", "host": last}, rounds),
                _time(section, {"kind": "net.request", "host": last, "method": "GET", "path": "/v1/a/b"}, rounds),
                _time(section, {"kind": "net.request", "host": last, "method": "POST", "path": "/v1/a"}, rounds),
                _time(section, {"kind": "net.connect", "host": "nowhere.test"}, rounds),
            ]
            first = first or row
            print(f"{size:>10}  {compiled:>10.1f} {checked:>9.1f} " + " ".join(f"{item:>8.2f}" for item in row))
            if size == 1_000:
                print(
                    f"{'1,000 / 10':>10}  {'':>20} "
                    + " ".join(f"{a / b:>8.2f}" for a, b in zip(row, first, strict=True))
                )


if __name__ == "__main__":
    main()
