"""`kill -9` at random moments, again and again: every acknowledged record is there and the log verifies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from agent_os.audit.view import Overview
from agent_os.effects import audit_read
from tests.unit.effects.audit_support import check, open_log, types

ROUNDS = 25

WRITER = """
import asyncio, sys
from pathlib import Path
from tests.unit.effects.audit_support import open_log

async def main():
    log = open_log(Path(sys.argv[1]), segment_bytes=20_000)
    async def caller(name):
        count = 0
        while True:
            ref = f"{sys.argv[2]}-{name}-{count}"
            await log.append({"type": "intent", "ref": ref, "time": 1763721000.5})
            sys.stdout.write(ref + "\\n")
            sys.stdout.flush()
            log.append({"type": "outcome", "ref": ref, "time": 1763721000.5, "ok": True})
            count += 1
    await asyncio.gather(*(caller(name) for name in range(8)))

asyncio.run(main())
"""


def test_killed_writers_lose_nothing_they_acknowledged(tmp_path: Path) -> None:
    """After each kill the next start recovers; in the end all acknowledged intents are there and nothing is doubtful."""
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
    chance = random.Random(seed)
    acknowledged: set[str] = set()
    for round_ in range(ROUNDS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(round_)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()
        assert first, f"seed {seed}: round {round_} did not start"
        time.sleep(chance.uniform(0, 0.08))
        writer.send_signal(signal.SIGKILL)
        lines = [first, *writer.stdout.readlines()]
        writer.wait(10)
        writer.stdout.close()
        acknowledged.update(line.strip() for line in lines if line.endswith("\n"))
    open_log(tmp_path, segment_bytes=20_000).close()
    report = check(tmp_path)
    assert report.ok, f"seed {seed}: {report.faults}"
    recorded = {str(record["ref"]) for record in audit_read.records(tmp_path, "main") if record["type"] == "intent"}
    assert acknowledged <= recorded, f"seed {seed}"
    assert types(tmp_path).count("audit.started") == ROUNDS + 1
    overview = Overview.of(audit_read.records(tmp_path, "main"))
    assert all(performed.state != "under way" for performed in overview.actions.values()), f"seed {seed}"
    assert overview.interrupted(), f"seed {seed}: with 8 callers a kill always leaves intents open"
