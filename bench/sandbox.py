"""How long a sandbox takes to start, against bubblewrap and against no sandbox; ratios in one run.

    python -m bench.sandbox [--rounds N]

Both make user, mount, pid, ipc, uts, cgroup and network name spaces, a private root of read-only system folders, /proc, /dev, a
private /tmp and a writable workspace. Ours adds Landlock, the system call filter, limits, protected paths and a supervisor.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agent_os.effects.sandbox.launch import Launcher, launch, resident_bytes
from agent_os.guards.confine import Confinement, Limits
from agent_os.runtime.sandbox import SandboxSettings, prepare

SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ssl")
PROGRAM = ["/bin/true"]


def milliseconds(action: Callable[[], object], rounds: int) -> float:
    """Return the median time of an action."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def bubblewrap(workspace: str) -> list[str]:
    """Return the comparable bubblewrap command."""
    binds = [part for path in ("/usr", "/etc/ssl") for part in ("--ro-bind", path, path)]
    links = [part for name in ("lib", "lib64", "bin", "sbin") for part in ("--symlink", f"usr/{name}", f"/{name}")]
    return ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", *binds, *links, "--proc", "/proc", "--dev", "/dev",
            "--tmpfs", "/tmp", "--bind", workspace, workspace, "--chdir", workspace]  # fmt: skip


async def ours(workspace: str, state: Path, rounds: int) -> tuple[float, float]:
    """Return the median of a start through a warm launcher, and of one with the plan made anew."""
    confinement = Confinement(read_only=SYSTEM, read_write=("/tmp",), limits=Limits())
    launcher = Launcher()
    null = os.open("/dev/null", os.O_RDWR)
    planned: list[float] = []
    whole: list[float] = []
    for _ in range(rounds + 3):
        begun = time.perf_counter()
        prepared = prepare(confinement, SandboxSettings(workspace=workspace), state=state)
        with prepared.held():
            started = time.perf_counter()
            running = await launch(launcher, prepared.plan, PROGRAM, stdio=(null, null, null))
            await running.wait()
            planned.append((time.perf_counter() - started) * 1000)
        whole.append((time.perf_counter() - begun) * 1000)
    launcher.close()
    return statistics.median(planned[3:]), statistics.median(whole[3:])


async def idle(workspace: str, state: Path, count: int) -> float:
    """Return the resident memory of one idle sandbox in MB, from many at once (shared pages counted in part)."""
    confinement = Confinement(read_only=SYSTEM, limits=Limits(memory_bytes=0, disk_bytes=0))
    launcher = Launcher()
    null = os.open("/dev/null", os.O_RDWR)
    running = []
    prepared = prepare(confinement, SandboxSettings(workspace=workspace, protect_workspace=False), state=state)
    for _ in range(count):
        running.append(await launch(launcher, prepared.plan, ["/bin/sleep", "60"], stdio=(null, null, null)))
    proportional = 0
    for one in running:
        children = Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text().split()
        for pid in (str(one.pid), *children):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    proportional += int(line.split()[1])
    resident_bytes(running[0].pid)
    for one in running:
        one.kill("bench")
    await asyncio.gather(*(one.wait() for one in running))
    prepared.close()
    launcher.close()
    return proportional / 1024 / count


def work(workspace: str, state: Path) -> tuple[float, float]:
    """Return the time of a compile loop outside and inside, in seconds (best of three)."""
    Path(workspace, "a.c").write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint main(){return 0;}\n"
    )
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do gcc -O2 -o a a.c; done"

    def outside() -> None:
        subprocess.run(["sh", "-c", script], cwd=workspace, check=True)

    async def inside_once(launcher: Launcher, null: int) -> float:
        prepared = prepare(Confinement(read_only=SYSTEM), SandboxSettings(workspace=workspace), state=state)
        with prepared.held():
            running = await launch(launcher, prepared.plan, ["sh", "-c", script], stdio=(null, null, null))
            started = time.perf_counter()
            ended = await running.wait()
            assert ended.returncode == 0
            return time.perf_counter() - started

    async def inside() -> float:
        launcher, null = Launcher(), os.open("/dev/null", os.O_RDWR)
        times = [await inside_once(launcher, null) for _ in range(3)]
        launcher.close()
        return min(times)

    outer = min(milliseconds(outside, 1) for _ in range(3)) / 1000
    return outer, asyncio.run(inside())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--idle", type=int, default=50)
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="agentos-bench-"))
    (base / "ws").mkdir()
    (base / "state").mkdir(mode=0o700)
    workspace, state = str(base / "ws"), base / "state"
    try:
        bare = milliseconds(lambda: subprocess.run(PROGRAM, check=True), options.rounds)
        print(f"{'no sandbox':<44} {bare:7.2f} ms")
        wrapped = None
        if shutil.which("bwrap"):
            command = [*bubblewrap(workspace), *PROGRAM]
            wrapped = milliseconds(lambda: subprocess.run(command, check=True), options.rounds)
            print(f"{'bubblewrap':<44} {wrapped:7.2f} ms")
        started, whole = asyncio.run(ours(workspace, state, options.rounds))
        ratio = f"  {started / wrapped:.2f} x bubblewrap" if wrapped else ""
        print(f"{'this sandbox, warm launcher':<44} {started:7.2f} ms{ratio}")
        print(f"{'the same with the plan made anew':<44} {whole:7.2f} ms")
        each = asyncio.run(idle(workspace, state, options.idle))
        print(f"{'an idle sandbox (proportional memory)':<44} {each:7.2f} MB, 200 of them {each * 200:.0f} MB")
        if shutil.which("gcc"):
            outer, inner = work(workspace, state)
            print(f"{'20 compilations outside / inside':<44} {outer:7.2f} s / {inner:.2f} s  {inner / outer:.3f} x")
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
