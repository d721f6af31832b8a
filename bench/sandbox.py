"""How long a sandbox takes to start, against bubblewrap and against no sandbox; ratios in one run.

    python -m bench.sandbox [--rounds N]

Both make user, mount, pid, ipc, uts, cgroup and network name spaces, a private root of read-only system folders, /proc, /dev, a
private /tmp and a writable workspace. Ours adds Landlock, the system call filter, limits, protected paths and a supervisor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from agent_os.core.manifest import Needs
from agent_os.core.principal import Principal
from agent_os.effects.sandbox.launch import Launcher, launch
from agent_os.guards.confine import Confinement, Limits
from agent_os.runtime.policies import load_policy
from agent_os.runtime.sandbox.prepare import SandboxSettings, prepare
from agent_os.runtime.tool_servers.host import Caller, ServerHost
from agent_os.runtime.tool_servers.packs import new_record

SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ssl")
PROGRAM = ["/bin/true"]


def bubblewrap(workspace: str) -> list[str]:
    """Return the comparable bubblewrap command."""
    binds = [part for path in ("/usr", "/etc/ssl") for part in ("--ro-bind", path, path)]
    links = [part for name in ("lib", "lib64", "bin", "sbin") for part in ("--symlink", f"usr/{name}", f"/{name}")]
    return ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", *binds, *links, "--proc", "/proc", "--dev", "/dev",
            "--tmpfs", "/tmp", "--bind", workspace, workspace, "--chdir", workspace]  # fmt: skip


async def starts(workspace: str, state: Path, rounds: int) -> dict[str, list[float]]:
    """Time each way of starting the program in turn, round by round, so that a busy machine slows all alike."""
    confinement = Confinement(read_only=SYSTEM, read_write=("/tmp",), limits=Limits())
    launcher = Launcher(warm=True)
    print(f"launcher: {launcher.kind}" + (f" ({launcher.why_python})" if launcher.why_python else ""))
    null = os.open("/dev/null", os.O_RDWR)
    times: dict[str, list[float]] = {name: [] for name in ("no sandbox", "bubblewrap", "bare", "protected", "anew")}
    wrapped = [*bubblewrap(workspace), *PROGRAM] if shutil.which("bwrap") else None

    def spent(begun: float) -> float:
        return (time.perf_counter() - begun) * 1000

    for _ in range(rounds + 2):
        begun = time.perf_counter()
        subprocess.run(PROGRAM, check=True)
        times["no sandbox"].append(spent(begun))
        if wrapped:
            begun = time.perf_counter()
            subprocess.run(wrapped, check=True)
            times["bubblewrap"].append(spent(begun))
        for name in ("bare", "protected"):
            begun = time.perf_counter()
            settings = SandboxSettings(workspace=workspace, protect_workspace=name == "protected")
            prepared = prepare(confinement, settings, state=state)
            with prepared.held():
                started = time.perf_counter()
                running = await launch(launcher, prepared.plan, PROGRAM, stdio=(null, null, null))
                await running.wait()
                times[name].append(spent(started))
            if name == "protected":
                times["anew"].append(spent(begun))
            await asyncio.sleep(0.03)  # the next seed is planted meanwhile
    launcher.close()
    return {name: values[2:] for name, values in times.items()}


async def idle(workspace: str, state: Path, count: int) -> tuple[float, float]:
    """Start `count` idle sandboxes and hold them all at once; return their proportional memory in MB and the seconds it took.

    Counted are every process inside and the launcher: private pages whole, shared ones in their part (PSS).
    """
    confinement = Confinement(read_only=SYSTEM, limits=Limits(memory_bytes=0, disk_bytes=0))
    launcher = Launcher()
    null = os.open("/dev/null", os.O_RDWR)
    running = []
    begun = time.perf_counter()
    prepared = prepare(confinement, SandboxSettings(workspace=workspace, protect_workspace=False), state=state)
    for _ in range(count):
        running.append(await launch(launcher, prepared.plan, ["/bin/sleep", "600"], stdio=(null, null, null)))
    seconds = time.perf_counter() - begun
    total_kib, processes = proportional_kib(launcher.pid), 0
    for one in running:
        children = Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text().split()
        for pid in (one.pid, *map(int, children)):
            total_kib += proportional_kib(pid)
            processes += 1
    assert processes == 2 * count, "an init and a program each: all of them are alive at this moment"
    for one in running:
        one.kill("bench")
    await asyncio.gather(*(one.wait() for one in running))
    prepared.close()
    launcher.close()
    return total_kib / 1024, seconds


def proportional_kib(pid: int) -> int:
    """Return the proportional set size of a process."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))


async def tool_calls(workspace: str, state: Path, rounds: int) -> tuple[float, float]:
    """Return the median of one call of the files pack: as a plain child process, and in its sandbox, in milliseconds."""
    record, _manifest = new_record("files", (), Needs())
    server = os.path.join(record.folder, "server.py")
    plain = subprocess.Popen(
        ["python3", "-I", "-S", server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=workspace
    )
    assert plain.stdin is not None
    assert plain.stdout is not None
    outside, inside = [], []
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_folder", "arguments": {}}}
    host = ServerHost(load_policy("pack:baseline"), workspace, state)
    running = await host.start(record, Caller(Principal()))
    await running.hello()
    for _ in range(rounds + 5):
        begun = time.perf_counter()
        plain.stdin.write(json.dumps(call).encode() + b"\n")
        plain.stdin.flush()
        plain.stdout.readline()
        outside.append((time.perf_counter() - begun) * 1000)
        begun = time.perf_counter()
        await running.call("list_folder", {})
        inside.append((time.perf_counter() - begun) * 1000)
    await running.aclose()
    await host.aclose()
    plain.kill()
    plain.wait()
    return statistics.median(outside[5:]), statistics.median(inside[5:])


LOOP = "for i in 1 2 3 4; do gcc -O2 -o a a.c || exit 1; done"
SUITE = ["/usr/bin/python3", "-m", "unittest", "-q", "suite"]


async def work(workspace: str, state: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Time a compile loop and a test suite outside and inside in turn: seconds from start to end, and of the processor."""
    lines = "\n".join(f'int f{i}(int x) {{ return x * {i} + printf("%d", x); }}' for i in range(300))
    Path(workspace, "a.c").write_text(f"#include <stdio.h>\n{lines}\nint main() {{ return 0; }}\n")
    tests = "".join(
        f"    def test_{i}(self):\n        d = tempfile.mkdtemp(dir='.')\n        open(d + '/f', 'w').write('x' * {i})\n"
        f"        self.assertEqual(subprocess.run(['/bin/cat', d + '/f'], capture_output=True).stdout, b'x' * {i})\n"
        f"        shutil.rmtree(d)\n        self.assertTrue(sum(range(60000)))\n"
        for i in range(60)
    )
    Path(workspace, "suite.py").write_text(
        f"import shutil, subprocess, tempfile, unittest\nclass T(unittest.TestCase):\n{tests}"
    )
    programs = {"a test suite (files, processes)": SUITE}
    programs |= {"4 compilations": ["sh", "-c", LOOP]} if shutil.which("gcc") else {}
    launcher, null = Launcher(), os.open("/dev/null", os.O_RDWR)
    kinds = ("outside", "inside", "outside cpu", "inside cpu")
    times: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in kinds} for name in programs}
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for _ in range(rounds):
        for name, argv in programs.items():
            begun = time.perf_counter()
            plain = subprocess.Popen(argv, cwd=workspace, env=environment, stderr=subprocess.DEVNULL)
            _pid, plain.returncode, usage = os.wait4(plain.pid, 0)
            assert plain.returncode == 0
            times[name]["outside"].append(time.perf_counter() - begun)
            times[name]["outside cpu"].append(usage.ru_utime + usage.ru_stime)
            settings = SandboxSettings(workspace=workspace, values={"PYTHONDONTWRITEBYTECODE": "1"})
            prepared = prepare(Confinement(read_only=SYSTEM), settings, state=state)
            with prepared.held():
                running = await launch(launcher, prepared.plan, argv, stdio=(null, null, null))
                begun = time.perf_counter()
                ended = await running.wait()
                times[name]["inside"].append(time.perf_counter() - begun)
                times[name]["inside cpu"].append(ended.cpu_seconds)
                assert ended.returncode == 0
    launcher.close()
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--idle", type=int, default=200)
    parser.add_argument("--work", type=int, default=12, help="rounds of the compile loop and the test suite")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="agentos-bench-"))
    (base / "ws").mkdir()
    (base / "state").mkdir(mode=0o700)
    workspace, state = str(base / "ws"), base / "state"
    try:
        times = asyncio.run(starts(workspace, state, options.rounds))
        labels = {
            "no sandbox": "no sandbox",
            "bubblewrap": "bubblewrap",
            "bare": "this sandbox, warm launcher, same root",
            "protected": "and with protected names held",
            "anew": "and with the plan made anew",
        }
        for name, label in labels.items():
            if times[name]:
                middle, least = statistics.median(times[name]), min(times[name])
                ratio = ""
                if times["bubblewrap"] and name in ("bare", "protected", "anew"):
                    other = times["bubblewrap"]
                    ratio = f"  {middle / statistics.median(other):.2f} x, least {least / min(other):.2f} x bubblewrap"
                print(f"{label:<44} {middle:7.2f} ms, least {least:6.2f}{ratio}")
        outer_call, inner_call = asyncio.run(tool_calls(workspace, state, 200))
        said = f"{outer_call:7.2f} / {inner_call:.2f} ms  {inner_call - outer_call:+.2f} ms"
        print(f"{'a tool call, plain server / in its sandbox':<44} {said}")
        total, seconds = asyncio.run(idle(workspace, state, options.idle))
        print(
            f"{f'{options.idle} idle sandboxes at once':<44} {total:7.1f} MB proportional memory, started in {seconds:.1f} s"
        )
        for name, took in asyncio.run(work(workspace, state, options.work)).items():
            least = {kind: min(values) for kind, values in took.items()}
            said = f"{least['outside']:7.2f} / {least['inside']:.2f} s at the least  {least['inside'] / least['outside']:.3f} x"
            print(
                f"{name + ', outside / inside':<54} {said}, processor time {least['inside cpu'] / least['outside cpu']:.3f} x"
            )
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
