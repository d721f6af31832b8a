"""The proxies that the network benchmark compares with, started: squid and tinyproxy from the system, mitmproxy from a place of its own,
and the floor: a relay in C that looks at nothing (`net_floor.c`), built where there is a compiler.

mitmproxy pins other versions of our parts, so it lives in a virtual environment beside ours, made at the first run where a package
registry can be reached (`$MITMDUMP` names another one).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_os.effects.native import COMPILERS

GUARD_CORE, LOAD_CORE = 1, 0
FLOOR = "floor"
MITMPROXY = "mitmproxy==11.0.2"
"""The last one for Python 3.11."""
MITM_VENV = Path(__file__).parent.parent / ".venv-mitmproxy"
INSTALL_SECONDS_MAX = 300


@contextmanager
def process(*argv: str, first_line: bool = True) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A child process, its first line of output, and its end."""
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    try:
        line = child.stdout.readline() if first_line and child.stdout else ""
        yield child, line
    finally:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@dataclass
class Proxy:
    """A proxy under test."""

    name: str
    port: int
    pids: list[int]
    """Its processes."""
    host: str = "127.0.0.1"
    """The destination's name as this proxy is asked for it."""
    ca: str = ""
    decide_us: float = 0.0

    def cpu_us(self) -> float:
        """Processor time used so far, all processes and threads."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids]
        return sum(int(each[11]) + int(each[12]) for each in fields) * 1e6 / os.sysconf("SC_CLK_TCK")


def mitmdump(*, install: bool) -> str | None:
    """Return mitmproxy's program, installed in a virtual environment of its own if it is nowhere yet; None without one."""
    found = shutil.which(os.environ.get("MITMDUMP", "mitmdump")) or shutil.which(str(MITM_VENV / "bin" / "mitmdump"))
    if found or not install:
        return found
    try:
        for command in (
            [sys.executable, "-m", "venv", str(MITM_VENV)],
            [
                str(MITM_VENV / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                MITMPROXY,
            ],
        ):
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS_MAX)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(MITM_VENV, ignore_errors=True)
        print(f"{MITMPROXY} cannot be installed here: {error}")
    return shutil.which(str(MITM_VENV / "bin" / "mitmdump"))


def floor(stack: ExitStack, folder: Path) -> list[Proxy]:
    """Build and start the relay that looks at nothing; none without a compiler."""
    compiler, program = next(filter(None, map(shutil.which, COMPILERS)), None), folder / "floor"
    if compiler is None:
        print("floor: no C compiler, left out")
        return []
    subprocess.run([compiler, "-O2", "-o", str(program), str(Path(__file__).with_name("net_floor.c"))], check=True)
    child, line = stack.enter_context(process("taskset", "-c", str(GUARD_CORE), str(program)))
    return [Proxy(FLOOR, int(line), [child.pid])]


def peers(stack: ExitStack, folder: Path, *, install: bool) -> list[Proxy]:
    """Start the peers that are installed, and mitmproxy where it can be."""
    found = []

    def start(name: str, port: int, *argv: str) -> None:
        child, _ = stack.enter_context(process("taskset", "-c", str(GUARD_CORE), *argv, first_line=False))
        found.append(Proxy(name, port, [child.pid]))

    squid, tiny, mitm = shutil.which("squid"), shutil.which("tinyproxy"), mitmdump(install=install)
    if squid:
        config = folder / "squid.conf"
        config.write_text(
            "http_port 127.0.0.1:33128\nhttp_access allow all\ncache deny all\ncache_log /dev/null\naccess_log none\n"
            f"pid_filename {folder}/squid.pid\ncache_store_log none\nshutdown_lifetime 0 seconds\n"
            f"coredump_dir {folder}\nmax_filedescriptors 8192\n"
        )
        start("squid", 33128, squid, "-N", "-f", str(config))
    if tiny:
        config = folder / "tiny.conf"
        config.write_text("Port 33129\nListen 127.0.0.1\nTimeout 60\nMaxClients 3000\nLogLevel Critical\n")
        start("tinyproxy", 33129, tiny, "-d", "-c", str(config))
    if mitm:
        settings = ["confdir=" + str(folder / "mitm"), "ssl_insecure=true", "http2=false", "connection_strategy=lazy"]
        hosts = folder / "resolve.py"
        hosts.write_text("def server_connect(data):\n    data.server.address = ('127.0.0.1', data.server.address[1])\n")
        options = [word for setting in settings for word in ("--set", setting)]
        start("mitmproxy", 33130, mitm, "-q", "-p", "33130", "--listen-host", "127.0.0.1", "-s", str(hosts), *options)
        found[-1].ca = str(folder / "mitm" / "mitmproxy-ca-cert.pem")
    time.sleep(8 if mitm else 2)
    for name in {"squid", "tinyproxy", "mitmproxy"} - {proxy.name for proxy in found}:
        print(f"{name}: not installed, left out")
    return found
