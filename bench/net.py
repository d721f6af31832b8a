"""`make bench-net`: the egress guard beside direct loopback and beside squid, tinyproxy and mitmproxy where they are.

Everything in one run, the load and the server on one core, the proxy on the other; the guard with its real policy of 1,000
rules, monitor and synced audit. Each table is measured in rounds, every proxy once a round, and shows each one's best
round: what else the machine does hits all alike. What is printed are ratios; a peer that is not installed is named as
missing.

    python -m bench.net [--seconds 2] [--rounds 3] [--quick]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GUARD_CORE, LOAD_CORE = 1, 0
GUARDS = (
    ("asyncio", "disk", "always"),
    ("uvloop", "disk", "always"),
    ("asyncio", "memory", "always"),
    ("uvloop", "memory", "always"),
    ("asyncio", "memory", "never"),
)
"""Its loop, where its audit is, and whether it has its carrier (compiled) or does all in Python."""
MITMDUMP = os.environ.get("MITMDUMP", "mitmdump")


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


def load(**options: Any) -> dict[str, Any]:
    """One measurement."""
    argv = [sys.executable, "-m", "bench.net_load", "load", "--core", str(LOAD_CORE)]
    for name, value in options.items():
        argv += [f"--{name.replace('_', '-')}", str(value)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    if said.returncode or not said.stdout:
        return {"rate": 0.0, "count": 0, "p50_us": 0.0, "p99_us": 0.0, "failed": said.stderr[-300:], "lost": 0}
    result: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return result


def certificate(folder: Path) -> tuple[str, str]:
    """A root and a server certificate for look.test."""
    root, leaf = folder / "root.pem", folder / "leaf.pem"
    run = lambda *argv: subprocess.run(argv, check=True, capture_output=True)  # noqa: E731
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=bench root", "-keyout", str(folder / "root.key"), "-out", str(root))  # fmt: skip
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=look.test",
        "-keyout", str(folder / "leaf.key"), "-out", str(folder / "leaf.csr"))  # fmt: skip
    (folder / "san").write_text("subjectAltName=DNS:look.test\nauthorityKeyIdentifier=keyid")
    run("openssl", "x509", "-req", "-in", str(folder / "leaf.csr"), "-CA", str(root), "-CAkey", str(folder / "root.key"),
        "-CAcreateserial", "-days", "2", "-extfile", str(folder / "san"), "-out", str(folder / "leaf.crt"))  # fmt: skip
    leaf.write_text((folder / "leaf.crt").read_text() + (folder / "leaf.key").read_text())
    return str(root), str(leaf)


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


def peers(stack: ExitStack, folder: Path) -> list[Proxy]:
    """Start the peers that are installed."""
    found = []

    def start(name: str, port: int, *argv: str) -> None:
        child, _ = stack.enter_context(process("taskset", "-c", str(GUARD_CORE), *argv, first_line=False))
        found.append(Proxy(name, port, [child.pid]))

    squid, tiny, mitm = shutil.which("squid"), shutil.which("tinyproxy"), shutil.which(MITMDUMP)
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


@dataclass
class Row:
    """One line of a table: what is measured, and the best of its rounds."""

    name: str
    options: dict[str, Any]
    tested: Proxy | None = None
    rate: float = 0.0
    cpu_us: float = float("inf")
    p50_us: float = float("inf")
    p99_us: float = float("inf")
    failed: str = ""

    def measure(self, scale: float) -> None:
        """One round."""
        before = self.tested.cpu_us() if self.tested is not None else 0.0
        result = load(**self.options)
        if result["failed"] or not result["count"]:
            self.failed = str(result["failed"]) or "nothing went through"
            return
        self.rate = max(self.rate, result["rate"] / scale)
        if self.tested is not None:
            self.cpu_us = min(self.cpu_us, (self.tested.cpu_us() - before) / (result["count"] / scale))
        if result["p50_us"]:
            self.p50_us, self.p99_us = min(self.p50_us, result["p50_us"]), min(self.p99_us, result["p99_us"])

    def show(self, unit: str, direct: Row) -> None:
        """Print the line; `direct` is the same without a proxy."""
        if not self.rate:
            print(f"  {self.name:<44} failed: {self.failed[:80]!r}", flush=True)
            return
        words = f"  {self.name:<44} {self.rate:9.0f} {unit} {self.rate / direct.rate:6.2f} of direct"
        if self.tested is not None:
            words += f"  cpu {self.cpu_us:6.0f} us each"
        if self.p50_us != float("inf"):
            words += f"  p50 {self.p50_us:7.0f} us  p99 {self.p99_us:7.0f} us"
            if self is not direct:
                words += f"  p50 added {self.p50_us - direct.p50_us:7.0f} us"
        print(words, flush=True)


def table(title: str, unit: str, rows: list[Row], rounds: int, scale: float = 1.0) -> list[Row]:
    """Measure every row once a round, and print the best of each; the first is the one without a proxy."""
    print(title, flush=True)
    for _ in range(rounds):
        for each in rows:
            each.measure(scale)
    if not rows[0].rate:
        raise SystemExit(f"nothing to compare with: {rows[0].failed}")
    for each in rows:
        each.show(unit, rows[0])
    return rows


def main() -> int:
    """Run everything and print ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bulk", type=int, default=1 << 30)
    parser.add_argument("--quick", action="store_true", help="a fifth of everything")
    options = parser.parse_args(sys.argv[1:] if sys.argv[0].endswith(("net.py", "__main__.py")) else [])
    if options.quick:
        options.seconds, options.rounds, options.bulk = 1.0, 1, 128 << 20
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-net-")))
        folder.chmod(0o755)
        root, leaf = certificate(folder)
        server = [sys.executable, "-m", "bench.net_load", "server", "--core", str(LOAD_CORE)]
        plain = int(stack.enter_context(process(*server))[1])
        secure = int(stack.enter_context(process(*server, "--certificate", leaf))[1])
        guards = [
            start_guard(stack, folder, kind, place, carry, plain, secure, root)
            for kind, place, carry in GUARDS
            if kind == "asyncio" or importlib.util.find_spec("uvloop")
        ]
        others = peers(stack, folder)
        measure(options, plain, secure, guards, others, root)
    return 0


def start_guard(
    stack: ExitStack, folder: Path, kind: str, place: str, carry: str, plain: int, secure: int, root: str
) -> tuple[Proxy, int]:
    """Start a guard; return it and the port of its listener that identifies peers.

    `place`: where its state (the synced audit) is, on the disk or in memory, which takes the disk's speed out.
    """
    if place == "memory":
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-net-", dir="/dev/shm")))
    else:
        state = folder / f"{kind}-{place}-{carry}"
        state.mkdir()
    argv = [sys.executable, "-m", "bench.net_guard", "--folder", str(state), "--plain", str(plain), "--tls", str(secure),
            "--roots", root, "--core", str(GUARD_CORE), "--carry", carry, *(["--uvloop"] if kind == "uvloop" else [])]  # fmt: skip
    _, line = stack.enter_context(process(*argv))
    said = json.loads(line)
    name = f"guard, {kind}, audit on {place}" + ("" if carry == "always" else ", no carrier")
    return Proxy(name, said["plain"], said["pids"], "pass.test", said["ca"], said["decide_us"]), said["identified"]


def measure(
    options: argparse.Namespace,
    plain: int,
    secure: int,
    guards: list[tuple[Proxy, int]],
    others: list[Proxy],
    root: str,
) -> None:
    """Every comparison, one after the other."""
    seconds = options.seconds
    relays = [guard for guard, _ in guards] + [peer for peer in others if peer.name != "mitmproxy"]
    for title, mode, unit, scale, more in (
        ("keep-alive requests through a passed tunnel, 32 connections", "keep", "req/s", 1.0, {}),
        (f"one body of {options.bulk >> 20} MB", "bulk", "MB/s", 1e6, {"bulk": options.bulk, "connections": 1}),
        ("new tunnels, 32 at once", "connect", "conn/s", 1.0, {}),
    ):
        common = {"mode": mode, "port": plain, "seconds": seconds, **more}
        rows = [Row("direct", {**common, "host": "127.0.0.1"})]
        rows += [Row(proxy.name, {**common, "host": proxy.host, "proxy": proxy.port}, proxy) for proxy in relays]
        if mode == "connect":
            rows += [
                Row(f"{proxy.name}, who", {**common, "host": proxy.host, "proxy": port}, proxy)
                for proxy, port in guards
            ]
        table(title, unit, rows, options.rounds, scale)
    for connections in (32, 1):
        common = {"mode": "keep", "host": "look.test", "port": secure, "seconds": seconds, "path": "/ok/1",
                  "connections": connections}  # fmt: skip
        rows = [Row("direct tls", {**common, "ca": root})]
        opened = [guard for guard, _ in guards] + [peer for peer in others if peer.ca]
        rows += [Row(proxy.name, {**common, "ca": proxy.ca, "proxy": proxy.port}, proxy) for proxy in opened]
        table(f"inspected https, keep-alive, {connections} connection(s)", "req/s", rows, options.rounds)
        for each, (guard, _) in zip(rows[1:], guards, strict=False):
            if each.rate:
                share = guard.decide_us / each.cpu_us
                print(
                    f"  the decision, 1,000 rules: {guard.decide_us:.1f} us, {share:.1%} of {guard.name}'s cpu",
                    flush=True,
                )
    for proxy, _ in guards:
        argv = [sys.executable, "-m", "bench.net_load", "load", "--mode", "hold", "--connections", "2000", "--proxy",
                str(proxy.port), "--host", "pass.test", "--port", str(plain)]  # fmt: skip
        with process(*argv) as (child, _):
            time.sleep(1.5)
            status = [Path(f"/proc/{pid}/status").read_text() for pid in proxy.pids]
            resident = sum(int(each.split("VmRSS:")[1].split()[0]) for each in status) / 1024
            said = json.loads(child.communicate("\n", timeout=20)[0].splitlines()[-1])
            print(f"2,000 connections held, {proxy.name}: {resident:.0f} MB resident, {said['lost']} lost")


if __name__ == "__main__":
    sys.exit(main())
