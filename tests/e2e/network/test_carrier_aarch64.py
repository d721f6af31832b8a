"""The carrier built for another machine and run under its emulation: the same words, the same bytes, no call its filter would end.

Needs `aarch64-linux-gnu-gcc` and `qemu-aarch64` (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user). User emulation knows
no filters of system calls: what the program asks of the kernel once it would be confined is compared with the list instead, and the
filter itself is read in `unit/effects/proxy/test_confine_compiled.py`.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent_os.effects.native import FLAGS, Program
from agent_os.effects.proxy.carrier import PROGRAM
from tests.e2e.network.carriers import BIG, carried, echo, live, tunnel, until
from tests.e2e.network.shapes import client_hello
from tests.e2e.network.test_carrier_repeated import HEAD, ask, repeating
from tests.e2e.network.world import Place, World

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", shutil.which("qemu-aarch64")
_MARK = "sched_yield"
"""What the program does here where it would confine itself."""

pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER) is None or EMULATOR is None, reason="no cross compiler or emulation for aarch64"
)


@pytest.fixture
async def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the guard start the carrier of the other machine; return where the calls it makes are written."""
    sources, calls = tmp_path / "compiled", tmp_path / "calls"
    shutil.copytree(PROGRAM.sources, sources, ignore=shutil.ignore_patterns("built"))
    (sources / "confine.c").write_text(
        '#include <sched.h>\n\n#include "carrier.h"\n\nbool confine(void) { return sched_yield() == 0; }\n'
    )
    flags = ["-static", *(flag for flag in FLAGS if flag not in ("-pie", "-fPIE"))]
    built = [COMPILER, *flags, "-o", str(tmp_path / "carrier"), *map(str, sorted(sources.glob("*.c")))]
    subprocess.run(built, check=True, timeout=60)
    script = f'#!/bin/sh\nexec {EMULATOR} -strace {tmp_path}/carrier "$@" 2>{calls}\n'.encode()

    def sealed(self: Program, state: Path | None = None) -> int:
        descriptor = os.memfd_create("carrier")
        os.write(descriptor, script)
        return descriptor

    monkeypatch.setattr(Program, "sealed", sealed)
    return calls


async def test_the_other_machines_carrier_serves_as_this_ones(world: World, elsewhere: Path) -> None:
    """Tunnels of TLS and of plain requests, many at once and large, go through it; every call it makes is one it may make."""
    upstream, speaks = await world.upstream(echo), await world.upstream()
    world.allow(Place("a.test", upstream.port), Place("b.test", speaks.port))
    await world.start(carry="always")
    assert world.guard is not None
    address = await world.listen()
    first = client_hello("a.test")
    clients = await asyncio.gather(*(tunnel(address, upstream) for _ in range(40)))
    for client in clients:
        client.send(first)
        assert await client.reader.readexactly(len(first)) == first
    assert carried(world) == 40
    clients[0].send(BIG)
    clients[0].writer.write_eof()
    assert await clients[0].all() == (BIG, False)
    clients[1].send(b"unlike")
    assert await clients[1].reader.readexactly(6) == b"unlike"
    for client in clients:
        client.close()
    await until(lambda: not live(world))
    client = await tunnel(address, speaks, "b.test")
    async with asyncio.timeout(20):
        while not repeating(world):
            assert (await ask(client, HEAD.replace(b"a.test", b"b.test")))[0] == 200
    for path in (b"/ok", b"/ok", b"/other"):
        assert (await ask(client, HEAD.replace(b"a.test", b"b.test").replace(b"/ok", path)))[0] == 200
    client.close()
    await until(lambda: not live(world))
    made = elsewhere.read_text().partition(_MARK)[2]
    names = set(re.findall(r"^\d+ (\w+)\(", made, re.MULTILINE))
    allowed = set(re.findall(r"__NR_(\w+)", (PROGRAM.sources / "confine.c").read_text()))
    assert {"accept4", "connect", "splice", "recvmsg", "sendmsg", "epoll_pwait"} <= names
    assert names <= allowed
