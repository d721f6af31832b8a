"""The carrier's filter of system calls, read back as the kernel would get it: on this machine, and built for another one."""

from __future__ import annotations

import platform
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from agent_os.effects.native import COMPILERS, FLAGS
from agent_os.effects.proxy.carrier import PROGRAM

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NEEDED = {
    "x86_64": {
        "recvfrom": 45,
        "sendto": 44,
        "splice": 275,
        "accept4": 288,
        "connect": 42,
        "getrandom": 318,
        "exit_group": 231,
    },
    "aarch64": {
        "recvfrom": 207,
        "sendto": 206,
        "splice": 76,
        "accept4": 242,
        "connect": 203,
        "getrandom": 278,
        "exit_group": 94,
    },
}
KEPT_FROM_IT = {
    "x86_64": {"open": 2, "openat": 257, "execve": 59, "execveat": 322, "fork": 57, "clone": 56, "clone3": 435, "ptrace": 101, "kill": 62,
               "bind": 49, "listen": 50, "mprotect": 10, "prctl": 157, "unlink": 87, "process_vm_readv": 310, "io_uring_setup": 425,
               "x32 sendto": 0x40000000 + 44},
    "aarch64": {"openat": 56, "execve": 221, "execveat": 281, "clone": 220, "clone3": 435, "ptrace": 117, "kill": 129, "bind": 200,
                "listen": 201, "mprotect": 226, "prctl": 167, "unlinkat": 35, "process_vm_readv": 270, "io_uring_setup": 425},
}  # fmt: skip
ALLOW, KILL = 0x7FFF0000, 0x80000000
LOAD, EQUAL, ANY_OF, AND, RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
SOCKET, MMAP = {"x86_64": 41, "aarch64": 198}, {"x86_64": 9, "aarch64": 222}
UNIX, INET, INET6, NETLINK, PACKET, ALG, VSOCK = 1, 2, 10, 16, 17, 38, 40
STREAM, DATAGRAM, RAW, SEQPACKET, NONBLOCK, CLOEXEC, MPTCP = 1, 2, 3, 5, 0o4000, 0o2000000, 262
READ_WRITE, READ_EXECUTE = 3, 5
BUILDS = [
    pytest.param(next(filter(shutil.which, COMPILERS), ""), [], platform.machine(), id="here"),
    pytest.param("aarch64-linux-gnu-gcc", ["qemu-aarch64"], "aarch64", id="aarch64"),
]


def run(program: bytes, number: int, architecture: int, *arguments: int) -> int:
    """What a classic BPF program of the few instructions of this one answers to a system call (seccomp(2))."""
    given = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data, accumulator, at = struct.pack("=IIQ6Q", number, architecture, 0, *given), 0, 0
    while True:
        code, yes, no, operand = struct.unpack_from("=HBBI", program, at * 8)
        at += 1
        if code == LOAD:
            accumulator = struct.unpack_from("=I", data, operand)[0]
        elif code == EQUAL:
            at += yes if accumulator == operand else no
        elif code == ANY_OF:
            at += yes if accumulator & operand else no
        elif code == AND:
            accumulator &= operand
        else:
            assert code == RETURN
            return int(operand)


@pytest.mark.parametrize(("compiler", "runner", "machine"), BUILDS)
def test_it_lets_what_the_carrier_needs_and_nothing_else(
    tmp_path: Path, compiler: str, runner: list[str], machine: str
) -> None:
    """The numbers are those of the machine; of another architecture nothing is let through; no file, program or process."""
    if not compiler or any(shutil.which(each) is None for each in (compiler, *runner)) or machine not in AUDIT_ARCH:
        pytest.skip(f"no {' or '.join([compiler or 'C compiler', *runner])} here")
    flags = ["-static", *(flag for flag in FLAGS if flag not in ("-pie", "-fPIE"))]
    sources = [str(PROGRAM.sources / "confine.c"), str(Path(__file__).with_name("filter.c"))]
    command = [compiler, *flags, "-Dprctl=seen_prctl", f"-I{PROGRAM.sources}", "-o", str(tmp_path / "filter"), *sources]
    subprocess.run(command, check=True, timeout=60)
    program = subprocess.run([*runner, str(tmp_path / "filter")], capture_output=True, check=True, timeout=60).stdout
    here, elsewhere = AUDIT_ARCH[machine], (set(AUDIT_ARCH.values()) - {AUDIT_ARCH[machine]}).pop()
    assert {name: run(program, number, here) for name, number in NEEDED[machine].items()} == dict.fromkeys(
        NEEDED[machine], ALLOW
    )
    kept = KEPT_FROM_IT[machine]
    assert {name: run(program, number, here) for name, number in kept.items()} == dict.fromkeys(kept, KILL)
    assert {run(program, number, elsewhere) for number in range(512)} == {KILL}
    allowed = [number for number in range(1024) if run(program, number, here) == ALLOW]
    assert len(allowed) <= 36
    for family in (INET, INET6):
        assert run(program, SOCKET[machine], here, family, STREAM | NONBLOCK | CLOEXEC, 0) == ALLOW
        for kind, protocol in ((DATAGRAM, 0), (RAW, 0), (SEQPACKET, 0), (STREAM, MPTCP)):
            assert run(program, SOCKET[machine], here, family, kind, protocol) == KILL
    for family in (0, UNIX, NETLINK, PACKET, ALG, VSOCK):
        assert run(program, SOCKET[machine], here, family, STREAM, 0) == KILL
    assert run(program, MMAP[machine], here, 0, 4096, READ_WRITE) == ALLOW
    assert run(program, MMAP[machine], here, 0, 4096, READ_EXECUTE) == KILL
