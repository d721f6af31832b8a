"""What it costs to start: `import agent_os`, `agentos --help`, against bare Python. Medians of fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 9
CASES = {
    "python -c pass": ["-c", "pass"],
    "import agent_os": ["-c", "import agent_os"],
    "from agent_os import decide": ["-c", "from agent_os import decide, Policy, Action"],
    "agentos --help": ["-m", "agent_os", "--help"],
}
TARGETS_S = {"import agent_os": 0.15, "agentos --help": 0.35}


def median_s(arguments: list[str]) -> float:
    """Return the median wall time of a fresh interpreter, in seconds."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print each case, its cost over bare Python, and the target where there is one."""
    bare = median_s(CASES["python -c pass"])
    print(f"{'python -c pass':32} {bare * 1e3:8.1f} ms")
    for name, arguments in list(CASES.items())[1:]:
        over = median_s(arguments) - bare
        target = TARGETS_S.get(name)
        aim = f"  (target {target * 1e3:.0f} ms: {'met' if over <= target else 'MISSED'})" if target else ""
        print(f"{name:32} {over * 1e3:8.1f} ms over bare{aim}")


if __name__ == "__main__":
    main()
