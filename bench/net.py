"""`make bench-net`: the egress guard beside direct loopback and beside squid, tinyproxy and mitmproxy where they are.

Everything in one run, the load and the server on one core, the proxy on the other; the guard with its real policy of 1,000
rules, monitor and synced audit. What is printed are ratios; a peer that is not installed is named as missing.

    python -m bench.net [--seconds 2] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

GUARD_CORE, LOAD_CORE = 1, 0
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
    said = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    if said.returncode or not said.stdout:
        return {"rate": 0.0, "p50_us": 0.0, "p99_us": 0.0, "failed": said.stderr[-300:], "lost": 0}
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


def peers(stack: ExitStack, folder: Path) -> dict[str, int]:
    """Start the peers that are installed; name -> port."""
    found = {}
    squid = shutil.which("squid")
    if squid:
        port = 33128
        config = folder / "squid.conf"
        config.write_text(
            f"http_port 127.0.0.1:{port}\nhttp_access allow all\ncache deny all\ncache_log /dev/null\naccess_log none\n"
            f"pid_filename {folder}/squid.pid\ncache_store_log none\nshutdown_lifetime 0 seconds\n"
            f"coredump_dir {folder}\nmax_filedescriptors 8192\nhosts_file {folder}/hosts\n"
        )
        stack.enter_context(process("taskset", "-c", str(GUARD_CORE), squid, "-N", "-f", str(config), first_line=False))
        found["squid"] = port
    tiny = shutil.which("tinyproxy")
    if tiny:
        port = 33129
        config = folder / "tiny.conf"
        config.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 3000\nLogLevel Critical\n")
        stack.enter_context(process("taskset", "-c", str(GUARD_CORE), tiny, "-d", "-c", str(config), first_line=False))
        found["tinyproxy"] = port
    mitm = shutil.which(MITMDUMP)
    if mitm:
        port = 33130
        stack.enter_context(
            process("taskset", "-c", str(GUARD_CORE), mitm, "-q", "-p", str(port), "--listen-host", "127.0.0.1",
                    "--set", f"confdir={folder}/mitm", "--set", "ssl_insecure=true", "--set", "http2=false",
                    first_line=False)
        )  # fmt: skip
        found["mitmproxy"] = port
    time.sleep(6 if mitm else 2)
    for name in ("squid", "tinyproxy", "mitmproxy"):
        if name not in found:
            print(f"{name}: not installed, left out")
    return found


def row(name: str, result: dict[str, Any], base: float, unit: str, scale: float = 1.0) -> None:
    """Print one line with its ratio."""
    if result["failed"]:
        print(f"  {name:<28} failed: {result['failed'][:80]!r}")
        return
    ratio = result["rate"] / base if base else 0.0
    tail = f"  p50 {result['p50_us']:7.0f} us  p99 {result['p99_us']:7.0f} us" if result["p50_us"] else ""
    print(f"  {name:<28} {result['rate'] / scale:10.0f} {unit}  {ratio:6.2f} of direct{tail}", flush=True)


def main() -> int:
    """Run everything and print ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--bulk", type=int, default=1 << 30)
    parser.add_argument("--quick", action="store_true", help="a fifth of everything")
    options = parser.parse_args(sys.argv[1:] if sys.argv[0].endswith(("net.py", "__main__.py")) else [])
    if options.quick:
        options.seconds, options.bulk = 1.0, 128 << 20
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-net-")))
        folder.chmod(0o755)
        (folder / "hosts").write_text("127.0.0.1 pass.test look.test localhost\n")
        root, leaf = certificate(folder)
        server = [sys.executable, "-m", "bench.net_load", "server", "--core", str(LOAD_CORE)]
        plain = int(stack.enter_context(process(*server))[1])
        secure = int(stack.enter_context(process(*server, "--certificate", leaf))[1])
        guards = {}
        for name in ("asyncio", "uvloop"):
            place = folder / name
            place.mkdir()
            argv = [sys.executable, "-m", "bench.net_guard", "--folder", str(place), "--plain", str(plain), "--tls",
                    str(secure), "--roots", root, "--core", str(GUARD_CORE)]  # fmt: skip
            if name == "uvloop":
                try:
                    import uvloop  # noqa: F401
                except ImportError:
                    print("uvloop: not installed, left out")
                    continue
                argv.append("--uvloop")
            guards[name] = json.loads(stack.enter_context(process(*argv))[1])
        others = peers(stack, folder)
        _measure(options, plain, secure, guards, others, root, folder)
    return 0


def _measure(
    options: argparse.Namespace, plain: int, secure: int, guards: dict[str, Any], others: dict[str, int], root: str,
    folder: Path,
) -> None:  # fmt: skip
    seconds = options.seconds
    tunnels = {f"guard ({name})": guard["plain"] for name, guard in guards.items()}
    relays = {name: port for name, port in others.items() if name != "mitmproxy"}
    passed = {"host": "pass.test", "port": plain, "seconds": seconds}
    local = {"host": "127.0.0.1", "port": plain, "seconds": seconds}
    print("keep-alive requests through a passed tunnel, 32 connections")
    direct = load(mode="keep", **local)
    row("direct", direct, direct["rate"], "req/s")
    for name, port in tunnels.items():
        row(name, load(mode="keep", proxy=port, **passed), direct["rate"], "req/s")
    for name, port in relays.items():
        row(name, load(mode="keep", proxy=port, **local), direct["rate"], "req/s")
    print(f"one body of {options.bulk >> 20} MB")
    direct = load(mode="bulk", bulk=options.bulk, connections=1, **local)
    row("direct", direct, direct["rate"], "MB/s", 1e6)
    for name, port in tunnels.items():
        row(name, load(mode="bulk", bulk=options.bulk, connections=1, proxy=port, **passed), direct["rate"], "MB/s", 1e6)
    for name, port in relays.items():
        row(name, load(mode="bulk", bulk=options.bulk, connections=1, proxy=port, **local), direct["rate"], "MB/s", 1e6)
    print("new tunnels, 32 at once")
    direct = load(mode="connect", **local)
    row("direct", direct, direct["rate"], "conn/s")
    for name, port in tunnels.items():
        row(name, load(mode="connect", proxy=port, **passed), direct["rate"], "conn/s")
    for name, guard in guards.items():
        found = load(mode="connect", proxy=guard["identified"], **passed)
        row(f"guard ({name}), identified", found, direct["rate"], "conn/s")
    for name, port in relays.items():
        row(name, load(mode="connect", proxy=port, **local), direct["rate"], "conn/s")
    looked = {"host": "look.test", "port": secure, "seconds": seconds, "path": "/ok/1"}
    for connections in (32, 1):
        print(f"inspected https, keep-alive, {connections} connection(s)")
        direct = load(mode="keep", ca=root, connections=connections, **looked)
        row("direct tls", direct, direct["rate"], "req/s")
        for name, guard in guards.items():
            found = load(mode="keep", ca=guard["ca"], proxy=guard["plain"], connections=connections, **looked)
            row(f"guard ({name})", found, direct["rate"], "req/s")
            share = guard["decide_us"] * found["rate"] / 1e6
            print(f"    decision alone {guard['decide_us']:.1f} us at 1,000 rules: {share:.1%} of a request's cost")
        if "mitmproxy" in others:
            ca = folder / "mitm" / "mitmproxy-ca-cert.pem"
            with open("/etc/hosts", encoding="utf-8") as hosts:
                known = "look.test" in hosts.read()
            if ca.exists() and known:
                found = load(mode="keep", ca=str(ca), proxy=others["mitmproxy"], connections=connections, **looked)
                row("mitmproxy", found, direct["rate"], "req/s")
            elif connections == 32:
                print("  mitmproxy: needs look.test in /etc/hosts (127.0.0.1), left out")
    for name, guard in guards.items():
        argv = [sys.executable, "-m", "bench.net_load", "load", "--mode", "hold", "--connections", "2000", "--proxy",
                str(guard["plain"]), "--host", "pass.test", "--port", str(plain)]  # fmt: skip
        with process(*argv) as (child, _):
            time.sleep(0.5)
            status = Path(f"/proc/{guard['pid']}/status").read_text()
            resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
            said = child.communicate("\n", timeout=20)[0]
            print(f"2,000 connections held, guard ({name}): {resident:.0f} MB resident; {said.strip()[-80:]}")


if __name__ == "__main__":
    sys.exit(main())
