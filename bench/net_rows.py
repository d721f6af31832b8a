"""Rows and tables of the network benchmark: one measurement, the best of its rounds, and the summary that the documents take over."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.net_peers import FLOOR, LOAD_CORE, Proxy


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
    """One line of a table: what is measured, and what each of its rounds said."""

    name: str
    options: dict[str, Any]
    tested: Proxy | None = None
    rates: list[float] = field(default_factory=list)
    """0 for a round that failed."""
    p50s_us: list[float] = field(default_factory=list)
    p99s_us: list[float] = field(default_factory=list)
    cpu_us: float = float("inf")
    """The least of the rounds: what else the machine does only adds to it."""
    failed: str = ""

    @property
    def rate(self) -> float:
        """The median of its rounds."""
        return statistics.median(self.rates) if self.rates else 0.0

    def beside(self, other: Row) -> float:
        """The median of its rate over the other's, round by round."""
        ratios = [mine / theirs for mine, theirs in zip(self.rates, other.rates, strict=True) if theirs]
        return statistics.median(ratios) if ratios else 0.0

    def added_us(self, other: Row) -> float:
        """The median of its p50 less the other's, round by round, in microseconds."""
        return statistics.median(mine - theirs for mine, theirs in zip(self.p50s_us, other.p50s_us, strict=True))

    def measure(self, scale: float) -> None:
        """One round."""
        before = self.tested.cpu_us() if self.tested is not None else 0.0
        result = load(**self.options)
        if result["failed"] or not result["count"]:
            self.failed = str(result["failed"]) or "nothing went through"
        self.rates.append(result["rate"] / scale if not self.failed else 0.0)
        self.p50s_us.append(result["p50_us"])
        self.p99s_us.append(result["p99_us"])
        if self.failed:
            return
        if self.tested is not None:
            self.cpu_us = min(self.cpu_us, (self.tested.cpu_us() - before) / (result["count"] / scale))

    def show(self, unit: str, direct: Row) -> None:
        """Print the line; `direct` is the same without a proxy."""
        if not self.rate:
            print(f"  {self.name:<44} failed: {self.failed[:80]!r}", flush=True)
            return
        words = f"  {self.name:<44} {self.rate:9.0f} {unit} {self.beside(direct):6.2f} of direct"
        if self.tested is not None:
            words += f"  cpu {self.cpu_us:6.0f} us each"
        if any(self.p50s_us):
            p50, p99 = statistics.median(self.p50s_us), statistics.median(self.p99s_us)
            words += f"  p50 {p50:7.0f} us  p99 {p99:7.0f} us"
            if self is not direct:
                words += f"  p50 added {self.added_us(direct):7.0f} us"
        print(words, flush=True)


def table(title: str, unit: str, rows: list[Row], rounds: int, scale: float = 1.0) -> list[Row]:
    """Measure every row once a round, and print medians; the first is the one without a proxy."""
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

    def each(table: str, shape: Callable[[Row], str], suffix: str = "") -> list[str]:
        measured = [rows.get(table, {}).get(guard.name + suffix) for guard in shown]
        return [shape(row) if row is not None and row.rate else "-" for row in measured]

    def beside(table: str, peer: str) -> list[str]:
        other = rows.get(table, {}).get(peer)
        return each(table, lambda row: f"{row.beside(other):.2f}" if other is not None and other.rate else "-")

    def added(table: str) -> Callable[[Row], float]:
        return lambda row: row.added_us(found[table][0])

    def of_added(table: str, peer: str) -> list[str]:
        other = rows.get(table, {}).get(peer)
        return each(table, lambda row: f"{added(table)(row) / added(table)(other):.2f}" if other is not None else "-")

    lines = [
        ("keep-alive requests, of squid's rate", "1", beside("keep", "squid")),
        ("the same, processor time each, us", "", each("keep", lambda row: f"{row.cpu_us:.0f}")),
        ("each for another path, of squid's rate", "1", beside("unlike", "squid")),
        ("each with other fields and a body, of squid's rate", "1", beside("post", "squid")),
        ("one large body, of direct", "0.70", beside("bulk", "direct")),
        ("the same, of the floor's", "", beside("bulk", FLOOR)),
        ("new tunnels, of tinyproxy's rate", "0.8", beside("connect", "tinyproxy")),
        ("the same, processor time each, us", "", each("connect", lambda row: f"{row.cpu_us:.0f}")),
        ("new tunnels with the peer identified, a second", "1,000", each("connect", lambda row: f"{row.rate:,.0f}", ", who")),
        ("inspected HTTPS, times mitmproxy's rate", "10", beside("look32", "mitmproxy")),
        ("inspected HTTPS, of mitmproxy's added p50", "0.2", of_added("look32", "mitmproxy")),
        ("p50 added, one connection, ms", "1", each("look1", lambda row: f"{added('look1')(row) / 1000:.2f}")),
        ("the decision's part", "5 %", [f"{guard.decide_us / rows['look32'][guard.name].cpu_us:.1%}" for guard in shown]
         if "look32" in rows else ["-"] * len(shown)),
        ("2,000 connections, MB", "300", [f"{held[guard.name]:.0f}" if guard.name in held else "-" for guard in shown]),
    ]  # fmt: skip
    lines = [line for line in lines if set(line[2]) != {"-"}]
    names = [guard.name.removeprefix("guard, ") for guard in shown]
    table = [
        ["what", "target", *names],
        ["---"] * (len(names) + 2),
        *([what, target, *cells] for what, target, cells in lines),
    ]
    return ["", *("| " + " | ".join(line) + " |" for line in table)]
