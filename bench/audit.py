"""What a durable record costs: sync per record, group commit with 1 to 256 callers, and append without waiting.

Prints records a second and the ratio to one fdatasync a record, all in one run on one disk. Worst case beside best: one
caller that waits for each record gains nothing from group commit. Run: `python -m bench.audit [records]`.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from agent_os.audit.chain import genesis, seal
from agent_os.audit.checkpoint import verifier
from agent_os.audit.verify import verify
from agent_os.core.budget import Budget
from agent_os.core.principal import Principal
from agent_os.effects import audit_read
from agent_os.effects.audit_files import AuditFiles, read_anchors, read_lines, segments_of
from agent_os.effects.audit_log import AuditLog
from agent_os.effects.stores.keys import Keys
from agent_os.effects.stores.state import StateDatabase

RECORD = {
    "type": "intent", "time": 1763721000.123456, "ref": "act_0123456789abcdef", "tenant": "default", "user": "alice",
    "agent": "main", "session": "s1", "verdict": "allow", "rules": ["tools.read_file.allow"],
    "action": {"kind": "tool.call", "tool": "read_file", "arguments": ["path"], "digest": "sha256:" + "a" * 64},
    "policy": "sha256:" + "b" * 64,
}  # fmt: skip


def sync_each(root: Path, count: int) -> float:
    """Return records a second with one write and one fdatasync for each."""
    descriptor = os.open(root / "each.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    previous, begun = genesis("bench"), time.perf_counter()
    for seq in range(count):
        line, previous = seal(previous, {**RECORD, "seq": seq, "writer": "bench"})
        os.write(descriptor, line)
        os.fdatasync(descriptor)
    os.close(descriptor)
    return count / (time.perf_counter() - begun)


async def group_commit(log: AuditLog, callers: int, count: int) -> float:
    """Return records a second with so many callers, each waiting until its record is durable."""

    async def caller() -> None:
        for _ in range(count // callers):
            await log.append(RECORD)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return count // callers * callers / (time.perf_counter() - begun)


async def no_wait(log: AuditLog, count: int) -> tuple[list[float], float]:
    """Return (seconds of each append on the caller's side, records a second until all are durable)."""
    spent = []
    begun = time.perf_counter()
    for number in range(count):
        start = time.perf_counter()
        ticket = log.append(RECORD)
        spent.append(time.perf_counter() - start)
        if number % 500 == 499:
            await ticket  # the queue is bounded: an application breathes too
    await log.append(RECORD)
    return spent, count / (time.perf_counter() - begun)


async def budgets(root: Path, keys: Keys, count: int) -> dict[int, float]:
    """Return reservations with settlement a second, by number of callers."""
    state = StateDatabase.open(root, keys)
    view = state.budgets.view([Budget("user/year", "user", "year", {"tokens": 1e12})], Principal())
    rates = {}
    for callers in (1, 64):
        each = max(1, count // callers // (10 if callers == 1 else 1))

        async def caller(name: int, each: int = each, callers: int = callers) -> None:
            for number in range(each):
                reference = f"{callers}-{name}-{number}"
                await view.reserve(reference, {"user/year": {"tokens": 10}})
                await view.settle(reference, {"user/year": {"tokens": 5}})

        begun = time.perf_counter()
        await asyncio.gather(*(caller(name) for name in range(callers)))
        rates[callers] = each * callers / (time.perf_counter() - begun)
    state.close()
    return rates


def main() -> None:
    """Run everything once and print the table."""
    count = next((int(word) for word in sys.argv[1:] if word.isdigit()), 20_000)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        root = Path(folder)
        keys = Keys.open(root / "keys", environment={})
        key, check = keys.current("audit"), verifier(keys.public("audit"))
        base = sync_each(root, count // 20)
        print(f"{'one fdatasync a record':44} {base:10,.0f}/s   1.0")
        log = AuditLog(AuditFiles(root, "bench", check), (key.id, key.signer())).open()
        for callers in (1, 8, 64, 256):
            rate = asyncio.run(group_commit(log, callers, count // (10 if callers == 1 else 1)))
            print(f"{f'group commit, {callers} callers waiting':44} {rate:10,.0f}/s {rate / base:5.1f}")
        spent, rate = asyncio.run(no_wait(log, count))
        print(f"{'append without waiting (until durable)':44} {rate:10,.0f}/s {rate / base:5.1f}")
        quantiles = statistics.quantiles(spent, n=100)
        print(f"  on the caller's side: p50 {quantiles[49] * 1e6:.2f} us, p99 {quantiles[98] * 1e6:.1f} us")
        log.close()
        files = [(path.name, read_lines(path)) for path in segments_of(root / "audit" / "bench")]
        begun = time.perf_counter()
        report = verify("bench", files, read_anchors("bench", AuditFiles(root, "bench", check).places(), check))
        rate = report.records / (time.perf_counter() - begun)
        print(f"{f'verify ({report.records} records, ok={report.ok})':44} {rate:10,.0f}/s {rate / base:5.1f}")
        for callers, rate in asyncio.run(budgets(root, keys, count // 4)).items():
            print(f"{f'budget reserved and settled, {callers} callers':44} {rate:10,.0f}/s {rate / base:5.1f}")
        assert report.ok, report.faults
        assert audit_read.report(root, "bench", check).ok


if __name__ == "__main__":
    main()
