"""Two launchers, one sandbox: what a program meets inside is the same whether C or Python built it, and so are the errors."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_os.core.errors import EffectError
from agent_os.effects import native
from agent_os.effects.sandbox.launch import Launcher, ProgramError, launch
from agent_os.guards.confine import Confinement, Limits, wire
from agent_os.guards.confine.plan import SandboxPlan
from agent_os.runtime.sandbox.prepare import Captured, SandboxSettings, prepare, run_captured

pytestmark = pytest.mark.kernel
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ssl")
KINDS = ("compiled", "python")
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, native.COMPILERS)), reason="no C compiler here: there is only the Python launcher"
)
LOOK = r"""
import fcntl, json, os, re, resource, socket, stat
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
names = ("Uid", "Gid", "Groups", "NSpid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
         "Seccomp_filters", "SigBlk", "SigIgn", "SigCgt", "Umask")
def look(path):
    info = os.lstat(path)
    link = os.readlink(path) if stat.S_ISLNK(info.st_mode) else ""
    return [oct(info.st_mode), info.st_uid, info.st_gid, link]
mounts = []
for line in open("/proc/self/mountinfo"):
    left, right = line.rstrip("\n").split(" - ")
    fields, kind = left.split(), right.split()
    options = re.sub(r"(upperdir|lowerdir|workdir)=[^,]*", r"\1", kind[2])
    options = re.sub(r"([ug]id)=\d{6,}", r"\1=transient", options)
    mounts.append([re.sub(r"\.staged-\d+", "staged", fields[3]), fields[4], fields[5], kind[0], options])
files = {path: look(path) for root in ("/", "/etc", "/dev", "/run", "/var", "/home") for path in
         (os.path.join(root, name) for name in sorted(os.listdir(root)))}
def denied(call):
    try:
        call()
        return "allowed"
    except OSError as error:
        return error.errno
tried = {
    "landlock": denied(lambda: open("/proc/self/comm", "w")),
    "mkdir": denied(lambda: os.mkdir("/new")),
    "raw": denied(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "setuid": denied(lambda: os.setuid(0)),
    "held": denied(lambda: open(".bashrc", "w")),
    "hooks": denied(lambda: open(".git/hooks/x", "w")),
    "write": denied(lambda: open("made", "w").close()),
}
print(json.dumps({
    "status": {name: status.get(name, "").split() for name in names}, "mounts": mounts, "files": files, "tried": tried,
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")},
    "environment": dict(os.environ), "cwd": os.getcwd(), "session": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid(),
    os.getppid()], "host": socket.gethostname(), "resolv": open("/etc/resolv.conf").read(),
    "descriptors": [fd for fd in os.listdir("/proc/self/fd") if os.path.lexists("/proc/self/fd/" + fd)],
    "capabilities last": status.get("CapBnd"), "made": look("made"),
}, sort_keys=True))
"""


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    folder = tmp_path / "ws"
    (folder / ".git/hooks").mkdir(parents=True)
    (tmp_path / "state").mkdir(mode=0o700)
    (folder / "look.py").write_text(LOOK)
    return folder


def plan_for(ws: Path, **settings: object) -> object:
    confinement = Confinement(read_only=SYSTEM, read_write=("/tmp",), limits=Limits(wall_seconds=60, cpu_seconds=30))
    return prepare(confinement, SandboxSettings(workspace=str(ws), **settings), state=ws.parent / "state")  # type: ignore[arg-type]


def run(kind: str, ws: Path, *argv: str, **settings: object) -> Captured:
    """Run a program through one kind of launcher."""
    launcher = Launcher(kind=kind, state=ws.parent / "state")
    try:
        return asyncio.run(run_captured(plan_for(ws, **settings), list(argv), launcher=launcher))  # type: ignore[arg-type]
    finally:
        launcher.close()


@needs_compiler
@pytest.mark.parametrize("apart", [False, True], ids=["in place", "changes kept apart"])
def test_the_view_from_inside_is_the_same(ws: Path, apart: bool) -> None:
    """Mounts, files, ids, capabilities, limits, signals, environment, denials: not one differs between the launchers."""
    views = []
    for kind in KINDS:
        settings: dict[str, object] = {}
        if apart:
            changes = ws.parent / f"changes-{kind}"
            (changes / "upper").mkdir(parents=True)
            (changes / "work").mkdir()
            settings["upper"] = str(changes)
        done = run(kind, ws, "/usr/bin/python3", "-I", "-S", "look.py", **settings)
        assert done.ended.returncode == 0, done.stderr.decode()
        views.append(json.loads(done.stdout))
    compiled, python = views
    assert compiled["tried"]["write"] == "allowed"
    assert compiled["tried"]["landlock"] != "allowed"
    assert (compiled["tried"]["hooks"] == "allowed") is apart
    for part, seen in compiled.items():
        assert seen == python[part], part


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_cannot_be_run(ws: Path, kind: str) -> None:
    """Not found is 127; a folder, a file without the bit, and a file in no format are 126, with either launcher."""
    (ws / "plain").write_text("echo hello\n")
    (ws / "odd").write_text("no format\n")
    (ws / "odd").chmod(0o755)
    for program, status in (
        ("nowhere", 127),
        ("./nowhere", 127),
        ("look.py/x", 127),
        ("/usr", 126),
        ("./plain", 126),
        ("./odd", 126),
        ("", 127),
    ):
        with pytest.raises(ProgramError) as caught:
            run(kind, ws, program)
        assert caught.value.exit_status == status, program


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_odd_arguments_arrive_as_they_are(ws: Path, kind: str) -> None:
    """Empty, long, non-ASCII and undecodable arguments reach the program; one with a zero byte starts nothing."""
    odd = ["", "ü", "\udcff", "x" * 60_000, "--", "a b"]
    done = run(
        kind,
        ws,
        "/usr/bin/python3",
        "-I",
        "-S",
        "-c",
        "import os, sys; os.write(1, b'|'.join(map(os.fsencode, sys.argv[1:])))",
        *odd,
    )
    assert done.stdout == b"|".join(map(os.fsencode, odd))
    with pytest.raises(EffectError, match="zero byte"):
        run(kind, ws, "echo", "a\0b")


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_signals_and_a_stubborn_child(ws: Path, kind: str) -> None:
    """A signal of the supervisor reaches the program's group; what it left behind ends with it; its time is reported."""

    async def go() -> tuple[int, float]:
        launcher, made = Launcher(kind=kind, state=ws.parent / "state"), plan_for(ws)
        with made.held():  # type: ignore[attr-defined]
            script = "import os,signal,time\nif os.fork()==0:\n signal.signal(15,signal.SIG_IGN)\n os.setsid()\n open('child','w')\n time.sleep(60)\nx=sum(range(10**6))\nopen('up','w')\ntime.sleep(60)"
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            plan: SandboxPlan = made.plan  # type: ignore[attr-defined]
            running = await launch(launcher, plan, ["/usr/bin/python3", "-I", "-S", "-c", script], stdio=(null,) * 3)
            while not ((ws / "up").exists() and (ws / "child").exists()):
                await asyncio.sleep(0.02)
            running.signal(15)
            ended = await asyncio.wait_for(running.wait(), 20)
            os.close(null)
            assert not Path(f"/proc/{running.pid}").exists() or "Z" in Path(f"/proc/{running.pid}/stat").read_text()
        launcher.close()
        return ended.signal, ended.cpu_seconds

    number, spent = asyncio.run(go())
    assert number == 15
    assert spent > 0


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_request_starts_nothing(ws: Path, kind: str) -> None:
    """Cut, lengthened and flipped requests end without a program, and never with one that the plan does not name."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    made = plan_for(ws)
    plan: SandboxPlan = made.plan  # type: ignore[attr-defined]
    whole = wire.encode_start(wire.encode_plan(plan), wire.encode_arguments(["/usr/bin/touch", "ran"]))
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    damaged = [whole[: chance.randrange(8, len(whole))] for _ in range(6)] + [
        whole + b"\0",
        whole[:8] + b"\x09" + whole[9:],
    ]
    with made.held():  # type: ignore[attr-defined]
        for data in damaged:
            launcher = Launcher(kind=kind, state=ws.parent / "state")
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                launcher.request(data, [theirs.fileno(), null, null, null])
                theirs.close()
                ours.settimeout(20)
                said = b""
                while part := ours.recv(65536):
                    said += part
            launcher.close()
            assert b"ready" not in said, f"seed {seed}"
    os.close(null)
    assert not (ws / "ran").exists()


@needs_compiler
def test_descriptors_that_do_not_fit_start_nothing(ws: Path) -> None:
    """A request with too few or too many descriptors is refused by the compiled launcher, which goes on serving."""
    made = plan_for(ws)
    plan: SandboxPlan = made.plan  # type: ignore[attr-defined]
    whole = wire.encode_start(wire.encode_plan(plan), wire.encode_arguments(["/usr/bin/touch", "ran"]))
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    launcher = Launcher(kind="compiled", state=ws.parent / "state")
    with made.held():  # type: ignore[attr-defined]
        for count, refused in ((0, True), (2, True), (4, True), (3, False)):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours:
                launcher.request(whole, [theirs.fileno(), *[null] * count])
                theirs.close()
                ours.settimeout(20)
                said = b""
                while part := ours.recv(65536):
                    said += part
            assert (b"ready" not in said) is refused, (count, said)
            assert (ws / "ran").exists() is not refused
    launcher.close()
    os.close(null)


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_supervisor_leaves_nothing_in_the_workspace(ws: Path, kind: str) -> None:
    """After `kill -9` of the supervisor the launcher takes the stand-ins away, once nothing runs inside any more.

    A stand-in that a person has made their own meanwhile stays.
    """
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from tests.e2e.sandbox.test_launchers import *\n"
        "run(sys.argv[3], Path(sys.argv[1]), 'sh', '-c', 'echo up > up; while true; do echo x > .bashrc; done')"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(ws), os.getcwd(), kind], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (ws / "up").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (ws / ".bashrc").exists()
    assert (ws / ".envrc").exists()
    (ws / ".envrc").write_text("a person's own\n")
    child.kill()
    child.wait()
    while len(list(ws.iterdir())) > 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sorted(path.name for path in ws.iterdir()) == [".envrc", ".git", "look.py", "up"]
    assert sorted(path.name for path in (ws / ".git").iterdir()) == ["hooks"]
    assert [path.read_text() for path in (ws.parent / "state/sandbox").iterdir()] == [""]


def test_asking_for_a_kind_that_does_not_exist() -> None:
    """A misspelt kind is refused with the words that are taken."""
    with pytest.raises(EffectError, match="`compiled`, `python` or empty"):
        Launcher(kind="rust")
