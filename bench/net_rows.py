"""Rows and tables of the network benchmark: one measurement, the best of its rounds, and the summary that the documents take over."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.net_peers import LOAD_CORE, Proxy


def load(**options: Any) -> dict[str, Any]:
    """One measurement."""
    argv = [sys.executable, "-m", "bench.net_load", "load", "--core", str(LOAD_CORE)]
    for name, value in options.items():
        argv += [f"--{name.replace('_', '-')}", str(value)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    if said.returncode or not said.stdout:
        return {"rate": 0.0, "count": 0, "p50_us": 0.0, "p99_us": 0.0, "failed": said.stderr[-300:], "lost": 0}
    result: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return result


@dataclass
class Row:
    """One line of a table: what is measured, and the best of its rounds."""

    name: str
    options: dict[str, Any]
    tested: Proxy | None = None
    rate: float = 0.0
    cpu_us: float = float("inf")
    p50_us: float = float("inf")
    p99_us: float = float("inf")
    failed: str = ""

    def measure(self, scale: float) -> None:
        """One round."""
        before = self.tested.cpu_us() if self.tested is not None else 0.0
        result = load(**self.options)
        if result["failed"] or not result["count"]:
            self.failed = str(result["failed"]) or "nothing went through"
            return
        self.rate = max(self.rate, result["rate"] / scale)
        if self.tested is not None:
            self.cpu_us = min(self.cpu_us, (self.tested.cpu_us() - before) / (result["count"] / scale))
        if result["p50_us"]:
            self.p50_us, self.p99_us = min(self.p50_us, result["p50_us"]), min(self.p99_us, result["p99_us"])

    def show(self, unit: str, direct: Row) -> None:
        """Print the line; `direct` is the same without a proxy."""
        if not self.rate:
            print(f"  {self.name:<44} failed: {self.failed[:80]!r}", flush=True)
            return
        words = f"  {self.name:<44} {self.rate:9.0f} {unit} {self.rate / direct.rate:6.2f} of direct"
        if self.tested is not None:
            words += f"  cpu {self.cpu_us:6.0f} us each"
        if self.p50_us != float("inf"):
            words += f"  p50 {self.p50_us:7.0f} us  p99 {self.p99_us:7.0f} us"
            if self is not direct:
                words += f"  p50 added {self.p50_us - direct.p50_us:7.0f} us"
        print(words, flush=True)


def table(title: str, unit: str, rows: list[Row], rounds: int, scale: float = 1.0) -> list[Row]:
    """Measure every row once a round, and print the best of each; the first is the one without a proxy."""
    print(title, flush=True)
    for _ in range(rounds):
        for each in rows:
            each.measure(scale)
    if not rows[0].rate:
        raise SystemExit(f"nothing to compare with: {rows[0].failed}")
    for each in rows:
        each.show(unit, rows[0])
    return rows


def summary(guards: Sequence[Proxy], found: Mapping[str, Sequence[Row]], held: Mapping[str, float]) -> list[str]:
    """Return a Markdown table of the targets: a column for each guard that has a carrier."""
    rows = {table: {row.name: row for row in measured} for table, measured in found.items()}
    shown = [guard for guard in guards if "no carrier" not in guard.name]

    def beside(table: str, peer: str, what: Callable[[Row], float] = lambda row: row.rate) -> list[str]:
        other = rows[table].get(peer)
        if other is None or not other.rate:
            return ["-"] * len(shown)
        return [f"{what(rows[table][guard.name]) / what(other):.2f}" for guard in shown]

    def each(table: str, shape: Callable[[Row], str], suffix: str = "") -> list[str]:
        return [shape(rows[table][guard.name + suffix]) for guard in shown]

    def added(table: str) -> Callable[[Row], float]:
        return lambda row: row.p50_us - found[table][0].p50_us

    lines = [
        ("keep-alive requests, of squid's rate", "1", beside("keep", "squid")),
        ("the same, processor time each, us", "", each("keep", lambda row: f"{row.cpu_us:.0f}")),
        ("each unlike the one before, of squid's rate", "1", beside("unlike", "squid")),
        ("one large body, of direct", "0.70", beside("bulk", found["bulk"][0].name)),
        ("new tunnels, of tinyproxy's rate", "0.8", beside("connect", "tinyproxy")),
        ("the same, processor time each, us", "", each("connect", lambda row: f"{row.cpu_us:.0f}")),
        ("new tunnels with the peer identified, a second", "1,000", each("connect", lambda row: f"{row.rate:,.0f}", ", who")),
        ("inspected HTTPS, times mitmproxy's rate", "10", beside("look32", "mitmproxy")),
        ("inspected HTTPS, of mitmproxy's added p50", "0.2", beside("look32", "mitmproxy", added("look32"))),
        ("p50 added, one connection, ms", "1", each("look1", lambda row: f"{added('look1')(row) / 1000:.2f}")),
        ("the decision's part", "5 %", [f"{guard.decide_us / rows['look32'][guard.name].cpu_us:.1%}" for guard in shown]),
        ("2,000 connections, MB", "300", [f"{held[guard.name]:.0f}" for guard in shown]),
    ]  # fmt: skip
    names = [guard.name.removeprefix("guard, ") for guard in shown]
    table = [
        ["what", "target", *names],
        ["---"] * (len(names) + 2),
        *([what, target, *cells] for what, target, cells in lines),
    ]
    return ["", *("| " + " | ".join(line) + " |" for line in table)]
