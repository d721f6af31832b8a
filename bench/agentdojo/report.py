"""The AgentDojo table: what benign tasks cost in approvals, and what a fully hijacked model still gets through.

    PYTHONPATH=. python bench/agentdojo/report.py TRACE_DIR [--derived] [--leave-one-out] [--json]

`TRACE_DIR` is what `export.py` wrote. `--derived` replays with no manifest at all: every tool is judged by the draft made
from its name. `--leave-one-out` replays each suite with the manifests of the other suites only (its own tools are judged
by drafts). A call counts as stopped when its verdict is not `allow`: a person sees it first. Times are ratios between
rows of one run; take no absolute figure from them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent_os.core.manifest import Manifest
from agent_os.guards.flow.replay import replay
from agent_os.policy import Policy

HERE = Path(__file__).parent
OWN = {"workspace": {"mail", "calendar", "drive"}, "travel": {"travel"}, "banking": {"bank"}, "slack": {"chat"}}
"""Suite -> manifests that describe its own tools (travel borrows mail and calendar of workspace)."""


@dataclass
class Tally:
    """Counts of one trace file."""

    traces: int = 0
    calls: int = 0
    free: int = 0
    approvals: int = 0
    attacks: int = 0
    all_stopped: int = 0
    any_stopped: int = 0
    seconds: float = 0.0

    def rows(self) -> dict[str, Any]:
        """Return the table's figures."""
        cost = {"us_per_call": round(self.seconds / max(self.calls, 1) * 1e6)}
        if self.attacks:
            return {
                "attacks": self.attacks,
                "every malicious sink stopped": self.all_stopped,
                "at least one stopped": self.any_stopped,
                **cost,
            }
        per_task = round(self.approvals / max(self.traces, 1), 3)
        return {"tasks": self.traces, "with no approval": self.free, "approvals per task": per_task, **cost}


def manifests() -> list[Manifest]:
    """Return the manifests of the four suites' tools."""
    return [
        Manifest.model_validate(yaml.safe_load(path.read_text())) for path in sorted((HERE / "tools").glob("*.yaml"))
    ]


def pairs(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield (trace, key) of a trace file."""
    with path.open() as traces, path.with_suffix(".key.jsonl").open() as keys:
        for trace, key in zip(traces, keys, strict=True):
            yield json.loads(trace), json.loads(key)


def tally(policy: Policy, path: Path, known: list[Manifest], leave_out: bool, misses: list[str]) -> Tally:
    """Return the counts of one trace file."""
    counts = Tally()
    for trace, key in pairs(path):
        suite = trace["id"].split("/")[0]
        used = [manifest for manifest in known if not leave_out or manifest.name not in OWN[suite]]
        start = time.perf_counter()
        decisions = replay(policy, used, trace)["decisions"]
        counts.seconds += time.perf_counter() - start
        stopped = [decision["verdict"] != "allow" for decision in decisions]
        counts.traces += 1
        counts.calls += len(stopped)
        if path.name == "benign.jsonl":
            counts.free += not any(stopped)
            counts.approvals += sum(stopped)
        elif key["sinks"]:
            hit = [stopped[index] for index in key["sinks"]]
            counts.attacks += 1
            counts.all_stopped += all(hit)
            counts.any_stopped += any(hit)
            if not all(hit):
                misses.append(trace["id"])
    return counts


def main(argv: Iterable[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path)
    parser.add_argument("--policy", type=Path, default=HERE / "policy.yaml")
    parser.add_argument("--derived", action="store_true")
    parser.add_argument("--leave-one-out", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(None if argv is None else list(argv))
    policy = Policy.parse(given.policy.read_text(), file=str(given.policy))
    known = [] if given.derived else manifests()
    misses: list[str] = []
    table = {}
    for path in sorted(given.traces.glob("*.jsonl"), key=lambda item: (item.name != "benign.jsonl", item.name)):
        if not path.name.endswith(".key.jsonl"):
            table[path.stem] = tally(policy, path, known, given.leave_one_out, misses).rows()
    if given.json:
        print(json.dumps({"table": table, "not stopped": misses}))
        return
    for name, row in table.items():
        print(f"{name:<36}" + "  ".join(f"{label} {value}" for label, value in row.items()))
    for trace_id in misses:
        print(f"not every sink stopped: {trace_id}", file=sys.stderr)


if __name__ == "__main__":
    main()
