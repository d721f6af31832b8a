"""`make bench-net`: the egress guard beside direct loopback and beside squid, tinyproxy and mitmproxy where they are.

Everything in one run, the load and the server on one core, the proxy on the other; the guard with its real policy of 1,000
rules, monitor and synced audit. Each table is measured in rounds, every proxy once a round, and shows the median of the
ratios of each round, and of processor time the least: what else the machine does hits all alike. The floor is what a relay
that looks at nothing does in the same rounds. A peer that is not installed is named as missing.

    python -m bench.net [--seconds 2] [--rounds 3] [--quick] [--only bulk,connect] [--guards asyncio-disk-always]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.net_peers import GUARD_CORE, LOAD_CORE, Proxy, floor, peers, process
from bench.net_rows import Row, summary, table

GUARDS = (
    ("asyncio", "disk", "always"),
    ("uvloop", "disk", "always"),
    ("asyncio", "memory", "always"),
    ("uvloop", "memory", "always"),
    ("asyncio", "memory", "never"),
)
"""Its loop, where its audit is, and whether it has its carrier (compiled) or does all in Python."""
BULK_ROUNDS = 3
"""Rounds of one large body for each of the others: they are short, and far apart."""


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


def main() -> int:
    """Run everything and print ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bulk", type=int, default=1 << 30)
    parser.add_argument("--no-install", action="store_true", help="leave mitmproxy out where it is not installed")
    parser.add_argument("--only", default="keep,unlike,post,bulk,connect,look,hold", help="tables, with commas")
    parser.add_argument("--guards", default="", help="guards, with commas: loop-place-carrier; all by default")
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
            if (kind == "asyncio" or importlib.util.find_spec("uvloop"))
            and (not options.guards or f"{kind}-{place}-{carry}" in options.guards.split(","))
        ]
        others = [*floor(stack, folder), *peers(stack, folder, install=not options.no_install)]
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
    seconds, found, held = options.seconds, dict[str, list[Row]](), dict[str, float]()
    only = options.only.split(",")
    relays = [guard for guard, _ in guards] + [peer for peer in others if peer.name != "mitmproxy"]
    for title, mode, unit, scale, more in (
        ("keep-alive requests through a passed tunnel, 32 connections", "keep", "req/s", 1.0, {}),
        ("the same, each request for another path", "unlike", "req/s", 1.0, {"mode": "keep", "paths": 64}),
        (
            "the same, each with other fields and a body",
            "post",
            "req/s",
            1.0,
            {"mode": "keep", "paths": 64, "post": 200},
        ),
        (f"one body of {options.bulk >> 20} MB", "bulk", "MB/s", 1e6, {"bulk": options.bulk, "connections": 1}),
        ("new tunnels, 32 at once", "connect", "conn/s", 1.0, {}),
    ):
        if mode not in only:
            continue
        common = {"mode": mode, "port": plain, "seconds": seconds, **more}
        rows = [Row("direct", {**common, "host": "127.0.0.1"})]
        rows += [Row(proxy.name, {**common, "host": proxy.host, "proxy": proxy.port}, proxy) for proxy in relays]
        if mode == "connect":
            rows += [
                Row(f"{proxy.name}, who", {**common, "host": proxy.host, "proxy": port}, proxy)
                for proxy, port in guards
            ]
        found[mode] = table(title, unit, rows, options.rounds * (BULK_ROUNDS if mode == "bulk" else 1), scale)
    for connections in (32, 1) if "look" in only else ():
        common = {"mode": "keep", "host": "look.test", "port": secure, "seconds": seconds, "path": "/ok/1",
                  "connections": connections}  # fmt: skip
        rows = [Row("direct tls", {**common, "ca": root})]
        opened = [guard for guard, _ in guards] + [peer for peer in others if peer.ca]
        rows += [Row(proxy.name, {**common, "ca": proxy.ca, "proxy": proxy.port}, proxy) for proxy in opened]
        found[f"look{connections}"] = table(
            f"inspected https, keep-alive, {connections} connection(s)", "req/s", rows, options.rounds
        )
        for each, (guard, _) in zip(rows[1:], guards, strict=False):
            if each.rate:
                share = guard.decide_us / each.cpu_us
                print(
                    f"  the decision, 1,000 rules: {guard.decide_us:.1f} us, {share:.1%} of {guard.name}'s cpu",
                    flush=True,
                )
    for proxy, _ in guards if "hold" in only else ():
        argv = [sys.executable, "-m", "bench.net_load", "load", "--mode", "hold", "--connections", "2000", "--proxy",
                str(proxy.port), "--host", "pass.test", "--port", str(plain)]  # fmt: skip
        with process(*argv) as (child, _):
            time.sleep(1.5)
            status = [Path(f"/proc/{pid}/status").read_text() for pid in proxy.pids]
            resident = sum(int(each.split("VmRSS:")[1].split()[0]) for each in status) / 1024
            said = json.loads(child.communicate("\n", timeout=20)[0].splitlines()[-1])
            held[proxy.name] = resident
            print(f"2,000 connections held, {proxy.name}: {resident:.0f} MB resident, {said['lost']} lost", flush=True)
    print("\n".join(summary([guard for guard, _ in guards], found, held)))


if __name__ == "__main__":
    sys.exit(main())
