"""Runs every escape program in a sandbox of its own and reports ESCAPED or BLOCKED, one line each.

    python -m tests.e2e.escape.runner [--json] [--launcher compiled|python] [NAME...]

The world outside is real: a file, a folder, listening sockets, a process, a state directory, secrets in the environment.
Programs flagged `control` run outside as well and must escape there: a BLOCKED that is a mistake in the program shows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from agent_os.effects.sandbox.launch import Launcher
from agent_os.guards.confine import Confinement, Limits
from agent_os.runtime.sandbox.prepare import SandboxSettings, prepare, run_captured

ATTACK = Path(__file__).with_name("attack")
MIB = 1 << 20
LIMITS = Limits(
    memory_bytes=256 * MIB, processes=64, tmp_bytes=32 * MIB, tmp_files=2000, file_bytes=128 * MIB, shm_bytes=64 * MIB,
    disk_bytes=400 * MIB, wall_seconds=8, output_bytes=4 * MIB, cpu_seconds=2,
)  # fmt: skip
PYTHON = "/usr/bin/python3"
SECRET = "T_SECRET_VALUE_OUTSIDE"


@dataclass(frozen=True)
class Row:
    """One program's verdict. `control` is what it printed outside, where it was run there."""

    name: str
    verdict: str
    detail: str
    control: str
    seconds: float


class World:
    """The outside: everything an escape would reach. Servers answer CANARY to whoever connects."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="agentos-escape-"))
        self.base.chmod(0o755)
        self.outside, self.state, self.ws = self.base / "outside", self.base / "state", self.base / "ws"
        self.outside.mkdir()
        (self.outside / "canary").write_text("CANARY secret of the host\n")
        self.state.mkdir(mode=0o700)
        (self.state / "marker").write_text("CANARY")
        self._sockets: list[socket.socket] = []
        self.port = self._serve(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
        self.port6 = self._serve(socket.AF_INET6, ("::1", 0)).getsockname()[1]
        self.abstract = f"agentos-escape-{os.getpid()}"
        self._serve(socket.AF_UNIX, "\0" + self.abstract)
        self._serve(socket.AF_UNIX, str(self.outside / "socket"))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self._sockets.append(self.udp)
        threading.Thread(target=self._answer, daemon=True).start()
        self.victim = subprocess.Popen(["/bin/sleep", "600"])

    def _serve(self, family: int, address: object) -> socket.socket:
        server = socket.socket(family)
        server.bind(address)
        server.listen(64)
        self._sockets.append(server)
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()
        return server

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                if server.family == socket.AF_UNIX:
                    socket.send_fds(client, [b"CANARY"], [server.fileno()])
                else:
                    client.sendall(b"CANARY")

    def _answer(self) -> None:
        while True:
            try:
                _data, peer = self.udp.recvfrom(64)
                self.udp.sendto(b"CANARY", peer)
            except OSError:
                return

    def fresh_workspace(self) -> None:
        """Build the workspace anew: a repository, a vendored one, secrets, read-only and hidden parts, the policy."""
        shutil.rmtree(self.ws, ignore_errors=True)
        for folder in (
            ".git/hooks",
            ".git/objects",
            ".git/refs/heads",
            "vendor/lib/.git/hooks",
            ".ssh",
            "fixed",
            "nest/fixed",
            "hidden",
            "sub/deep",
        ):
            (self.ws / folder).mkdir(parents=True)
        for repository in (".git", "vendor/lib/.git"):
            (self.ws / repository / "HEAD").write_text("ref: refs/heads/main\n")
            (self.ws / repository / "config").write_text("[core]\n\trepositoryformatversion = 0\n")
        for name in (".ssh/id_ed25519", "fixed/file", "nest/fixed/file", "hidden/file", "sub/deep/key.pem"):
            (self.ws / name).write_text("CANARY\n")
        (self.ws / ".env.production").write_text("KEY=sekret\n")
        (self.ws / "policy.yaml").write_text("version: 1\n")
        shutil.copytree(ATTACK, self.ws / "attack", ignore=shutil.ignore_patterns("__pycache__"))

    def facts(self) -> dict[str, str]:
        """Return what the programs are told, as environment variables."""
        values = {
            "CANARY": self.outside / "canary", "OUTSIDE": self.outside, "STATE": self.state, "WORKSPACE": self.ws,
            "PORT": self.port, "PORT6": self.port6, "UDP_PORT": self.udp.getsockname()[1], "ABSTRACT": self.abstract,
            "SOCKET": self.outside / "socket", "VICTIM": self.victim.pid, "HOST_ADDRESS": _host_address(),
            "NAMESERVER": _name_server(), "PROCESSES": LIMITS.processes, "MEMORY": LIMITS.memory_bytes, "TMP": LIMITS.tmp_bytes,
            "TMP_FILES": LIMITS.tmp_files, "FILE_BYTES": LIMITS.file_bytes,
        }  # fmt: skip
        return {f"T_{name}": str(value) for name, value in values.items()}

    def close(self) -> None:
        """End what was started and remove what was made."""
        self.victim.kill()
        self.victim.wait()
        for sock in self._sockets:
            sock.close()
        shutil.rmtree(self.base, ignore_errors=True)


def _host_address() -> str:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def _name_server() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/etc/resolv.conf").read_text().splitlines():
            if line.startswith("nameserver") and "." in line:
                return line.split()[1]
    return "127.0.0.1"


def confinement(world: World) -> Confinement:
    """The policy the programs run under."""
    ws = str(world.ws)
    return Confinement(
        include_workdir=True,
        read_only=("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ssl", f"{ws}/fixed", f"{ws}/nest/fixed"),
        read_write=("/tmp",),
        hidden=(f"{ws}/hidden",),
        hidden_globs=(f"{ws}/**/*.pem",),
        limits=LIMITS,
    )


async def attempt(world: World, launcher: Launcher, name: str, flags: tuple[str, ...]) -> Row:
    """Run one program inside (and outside, if it has a control) and judge it."""
    control = ""
    if "control" in flags:
        world.fresh_workspace()
        done = await asyncio.to_thread(
            subprocess.run, [PYTHON, "-B", str(world.ws / "attack"), name], env={**world.facts(), "T_SECRET_OUTSIDE": SECRET},
            cwd=world.ws, capture_output=True, text=True, timeout=20,
        )  # fmt: skip
        control = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else f"status {done.returncode}"
        with contextlib.suppress(OSError):
            (world.outside / "planted").unlink()
    world.fresh_workspace()
    started = time.monotonic()
    settings = SandboxSettings(workspace=str(world.ws), hide=(str(world.ws / "policy.yaml"),), values=world.facts())
    prepared = prepare(confinement(world), settings, state=world.state)
    run = await run_captured(prepared, [PYTHON, "-B", "attack", name], launcher=launcher)
    text = (run.stdout + run.stderr).decode(errors="replace")
    ended = run.ended
    if "ESCAPED" in text:
        verdict, detail = "ESCAPED", text.strip()[-200:]
    elif "BLOCKED" in text:
        verdict, detail = "BLOCKED", text.strip().splitlines()[-1][8:80]
    elif ended.reason or ended.signal:
        verdict, detail = "BLOCKED", f"ended: {ended.reason or signal.Signals(ended.signal).name}"
    else:
        verdict, detail = "ERROR", f"status {ended.returncode}: {text.strip()[-300:]}"
    outside = await after(world, name)
    if outside:
        verdict, detail = "ESCAPED", outside
    return Row(name, verdict, detail, control, time.monotonic() - started)


async def after(world: World, name: str) -> str:
    """Return what a program changed outside, or nothing."""
    if world.victim.poll() is not None:
        return "a process outside was ended"
    if (world.outside / "planted").exists():
        return "a file outside was made"
    if name == "survives_as_a_daemon":
        await asyncio.sleep(2.0)
        if (world.ws / "time-bomb").exists():
            return "a process outlived the run"
    owner = os.stat(world.ws).st_uid
    for folder, _folders, files in os.walk(world.ws):
        for file in files:
            info = os.lstat(os.path.join(folder, file))
            if info.st_mode & (stat.S_ISUID | stat.S_ISGID):
                return f"a set-user-id file was left: {file}"
            if info.st_uid != owner:
                return f"a file of another owner was left: {file}"
            if file.startswith("core"):
                return "a core dump was left"
    return ""


async def run_all(names: list[str], kind: str) -> list[Row]:
    """Run the named programs (all, if none is named) through one kind of launcher (the best to be had, if empty)."""
    listed = subprocess.run([sys.executable, str(ATTACK), "--list"], capture_output=True, text=True, check=True).stdout
    programs = {line.split()[0]: tuple(line.split()[1:]) for line in listed.splitlines()}
    os.environ["T_SECRET_OUTSIDE"] = SECRET
    os.environ["SSH_AUTH_SOCK"] = "/tmp/agent.sock"
    os.environ["PYTHONPATH_X"] = SECRET
    world, rows = World(), []
    launcher = Launcher(kind=kind, state=world.state)
    try:
        for name, flags in programs.items():
            if not names or name in names:
                rows.append(await attempt(world, launcher, name, flags))
    finally:
        launcher.close()
        world.close()
    return rows


def main() -> None:
    """Print the report; status 1 if anything escaped, went wrong, or a control did not escape outside."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--launcher", choices=("compiled", "python", ""), default="")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    rows = asyncio.run(run_all(options.names, options.launcher))
    for row in rows:
        if options.json:
            print(json.dumps(row.__dict__), flush=True)
        else:
            print(
                f"{row.verdict:<8} {row.name:<36} {row.detail}" + (f"  [outside: {row.control}]" if row.control else "")
            )
    bad = [row for row in rows if row.verdict != "BLOCKED" or (row.control and row.control != "ESCAPED")]
    if not options.json:
        by = f", {options.launcher} launcher" if options.launcher else ""
        print(f"{len(rows) - len(bad)} of {len(rows)} blocked, as uid {os.geteuid()}{by}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
