"""`make bench`: every benchmark of the decision path, one after the other; ratios within one run.

Each benchmark is a module with `main()`. Worst cases stand beside best; absolute figures are this machine's, ratios travel.
"""

from __future__ import annotations

import importlib
import sys

BENCHES = (
    "bench.startup",
    "bench.decide",
    "bench.audit",
    "bench.perform",
    "bench.network_rules",
    "bench.rego",
    "bench.flow",
    "bench.peers",
)


def _run(name: str) -> None:
    sys.argv = [name]  # a benchmark reads its own options from a command line of its own
    importlib.import_module(name).main()


def main() -> int:
    """Run the benchmarks named on the command line, or all."""
    chosen = [name if name.startswith("bench.") else f"bench.{name}" for name in sys.argv[1:]] or list(BENCHES)
    for name in chosen:
        print(f"== {name}", flush=True)
        _run(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
