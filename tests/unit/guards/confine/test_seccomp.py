"""The system call filter, judged by a small interpreter of classic BPF: what the kernel would answer."""

from __future__ import annotations

import errno
import random
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent_os.core.errors import EnforcementError
from agent_os.guards.confine.seccomp import AUDIT_ARCH, CALLS, LAST_KNOWN_CALL, CallRule, call_rules, compile_rules

ALLOW, KILL = "allow", "kill"
X86 = AUDIT_ARCH["x86_64"]


def answer(program: bytes, number: int, *arguments: int, arch: int = X86) -> str:
    """Run a filter over one call and return allow, kill or the errno's name."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("=IIQ6Q", number, arch, 0, *[value & (2**64 - 1) for value in padded])
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, position = 0, 0
    while True:
        operation, true, false, value = code[position]
        position += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif operation == 0x54:
            accumulator &= value
        elif operation in (0x15, 0x25):
            position += true if (accumulator == value if operation == 0x15 else accumulator > value) else false
        elif operation == 0x06:
            if value == 0x7FFF0000:
                return ALLOW
            return KILL if value == 0x80000000 else errno.errorcode[value & 0xFFFF]
        else:
            raise AssertionError(f"unknown operation {operation:#x}")


@pytest.fixture
def x86() -> bytes:
    return compile_rules(call_rules(sockets=True, memory_counted=True), "x86_64")


def ask(program: bytes, name: str, *arguments: int) -> str:
    return answer(program, CALLS[name][0], *arguments)


def test_a_foreign_architecture_is_killed(x86: bytes) -> None:
    """A call made under another architecture's numbers ends the program, whatever the number."""
    assert answer(x86, 20, arch=0x40000003) == KILL


def test_x32_and_future_calls_do_not_exist(x86: bytes) -> None:
    """The x32 numbers and every call newer than the table answer ENOSYS."""
    assert answer(x86, 0x40000000 | 39) == "ENOSYS"
    assert answer(x86, 451) == "ENOSYS"
    assert answer(x86, 0xFFFFFFFF) == "ENOSYS"


@pytest.mark.parametrize(
    "name", ["mount", "ptrace", "bpf", "setns", "keyctl", "perf_event_open", "kexec_load", "open_by_handle_at"]
)
def test_dangerous_calls_are_denied(x86: bytes, name: str) -> None:
    """Families of calls that reach beyond the sandbox answer EPERM with any argument."""
    assert ask(x86, name) == "EPERM"
    assert ask(x86, name, 1, 2, 3) == "EPERM"


@pytest.mark.parametrize("number", [0, 1, 2 + 1, 9, 57, 59, 231, 257])
def test_ordinary_calls_pass(x86: bytes, number: int) -> None:
    """read, write, mmap, fork, execve, exit_group and openat without creation pass."""
    assert answer(x86, number) == ALLOW


def test_clone_may_make_threads_and_no_name_spaces(x86: bytes) -> None:
    """Thread and process flags pass; any name space flag does not, also beside junk in the upper half."""
    assert ask(x86, "clone", 0x3D0F00) == ALLOW
    assert ask(x86, "clone", 17) == ALLOW
    for flag in (0x10000000, 0x20000, 0x40000000, 0x02000000):
        assert ask(x86, "clone", flag | 17) == "EPERM"
        assert ask(x86, "unshare", flag) == "EPERM"
    assert ask(x86, "unshare", 0x80) == "EPERM"
    assert ask(x86, "unshare", 0x400) == ALLOW
    assert ask(x86, "clone3") == "ENOSYS"


def test_terminal_requests_are_compared_in_their_low_half(x86: bytes) -> None:
    """TIOCSTI is denied with junk above its 32 bits too, as the kernel cuts them off; TCGETS passes."""
    assert ask(x86, "ioctl", 0, 0x5412) == "EPERM"
    assert ask(x86, "ioctl", 0, 0x1_0000_5412) == "EPERM"
    assert ask(x86, "ioctl", 0, 0x541C) == "EPERM"
    assert ask(x86, "ioctl", 0, 0x5401) == ALLOW


def test_sockets_are_local_tcp_and_udp(x86: bytes) -> None:
    """UNIX, TCP, UDP and route netlink pass; raw, packet, vsock, MPTCP, SCTP and other netlinks do not."""
    assert ask(x86, "socket", 1, 1, 0) == ALLOW
    assert ask(x86, "socket", 2, 1 | 0o2000000, 6) == ALLOW
    assert ask(x86, "socket", 10, 2, 17) == ALLOW
    assert ask(x86, "socket", 16, 3, 0) == ALLOW
    assert ask(x86, "socket", 16, 3, 15) == "EPROTONOSUPPORT"
    assert ask(x86, "socket", 2, 3, 1) == "ESOCKTNOSUPPORT"
    assert ask(x86, "socket", 2, 1, 262) == "EPROTONOSUPPORT"
    assert ask(x86, "socket", 2, 1, 132) == "EPROTONOSUPPORT"
    for family in (17, 38, 40, 44, 31, 29):
        assert ask(x86, "socket", family, 1, 0) == "EAFNOSUPPORT"


def test_without_a_network_of_its_own_there_are_no_internet_sockets() -> None:
    """Where no network name space could be made, internet families are refused altogether."""
    program = compile_rules(call_rules(sockets=False, memory_counted=True), "x86_64")
    assert ask(program, "socket", 2, 1, 0) == "EAFNOSUPPORT"
    assert ask(program, "socket", 10, 2, 0) == "EAFNOSUPPORT"
    assert ask(program, "socket", 1, 1, 0) == ALLOW


def test_uncounted_memory_is_denied_without_a_cgroup() -> None:
    """memfd and System V memory are only had where a cgroup counts them."""
    program = compile_rules(call_rules(sockets=True, memory_counted=False), "x86_64")
    assert ask(program, "memfd_create") == "EPERM"
    assert ask(program, "shmget") == "EPERM"


@pytest.mark.parametrize(
    ("name", "plain", "set_id"),
    [
        ("chmod", (0, 0o755), (0, 0o4755)),
        ("fchmod", (3, 0o644), (3, 0o2755)),
        ("fchmodat", (0, 0, 0o755), (0, 0, 0o6755)),
        ("mkdir", (0, 0o755), (0, 0o2755)),
        ("open", (0, 0o101, 0o644), (0, 0o101, 0o4755)),
        ("openat", (0, 0, 0o101, 0o644), (0, 0, 0o101, 0o4755)),
        ("mknodat", (0, 0, 0o100644), (0, 0, 0o104644)),
    ],
)
def test_no_set_user_id_files(x86: bytes, name: str, plain: tuple[int, ...], set_id: tuple[int, ...]) -> None:
    """Modes with set-user-id or set-group-id bits are denied wherever a file's mode is given."""
    assert ask(x86, name, *plain) == ALLOW
    assert ask(x86, name, *set_id) == "EPERM"


def test_open_without_creation_ignores_a_stray_mode(x86: bytes) -> None:
    """A register that holds junk where open() reads no mode does not matter."""
    assert ask(x86, "openat", 0, 0, 0o2, 0o7777) == ALLOW
    assert ask(x86, "openat", 0, 0, 0o20200002, 0o4777) == "EPERM"  # O_TMPFILE creates


def test_arm_has_a_table_of_its_own() -> None:
    """The same rules hold under aarch64's numbers and refuse x86's architecture."""
    program = compile_rules(call_rules(sockets=True, memory_counted=True), "aarch64")
    arm = AUDIT_ARCH["aarch64"]
    assert answer(program, CALLS["mount"][1], arch=arm) == "EPERM"
    assert answer(program, 64, arch=arm) == ALLOW
    assert answer(program, 64, arch=X86) == KILL


def test_an_unknown_machine_is_refused() -> None:
    """Without a call table there is no filter and so no sandbox."""
    with pytest.raises(EnforcementError):
        compile_rules(call_rules(sockets=True, memory_counted=True), "riscv64")


HEADERS = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"),),
}
"""The kernel's own tables; aarch64 takes the generic one."""


def judged(rules: Sequence[CallRule], machine: str, number: int, arguments: Sequence[int]) -> str:
    """Return what the rule table says, read straight from the table: the first rule whose tests hold, else allow."""
    column = 0 if machine == "x86_64" else 1
    if number > LAST_KNOWN_CALL:
        return "ENOSYS"
    for rule in rules:
        if number in (CALLS[name][column] for name in rule.calls) and all(
            ((arguments[test.argument] & 0xFFFFFFFF & test.mask) in test.values) is not test.negated
            for test in rule.tests
        ):
            return rule.answer
    return ALLOW


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("sockets", [True, False])
@pytest.mark.parametrize("counted", [True, False])
def test_the_program_says_what_the_table_says(machine: str, sockets: bool, counted: bool) -> None:
    """Over every call number and telling arguments, the assembled filter and the rule table give one answer."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    rules = call_rules(sockets=sockets, memory_counted=counted)
    program = compile_rules(rules, machine)
    telling = [0, 1, 2, 3, 6, 10, 16, 17, 0x40, 0o101, 0o755, 0o4755, 0o20000002, 0x5412, 0x541C, 0x40000, 0x10000000, 2**32 - 1,
               2**32 + 0x5412, 2**63, *(value for rule in rules for test in rule.tests for value in (*test.values, test.mask))]  # fmt: skip
    for number in [*range(LAST_KNOWN_CALL + 3), 0x40000000, 0x40000027, 2**31, 2**32 - 1]:
        for _ in range(12):
            arguments = [chance.choice(telling) for _ in range(6)]
            said = answer(program, number, *arguments, arch=AUDIT_ARCH[machine])
            assert said == judged(rules, machine, number, arguments), (seed, machine, number, arguments)


def test_a_call_gets_one_answer_on_both_machines() -> None:
    """What x86-64 denies by name with some arguments, aarch64 denies under its own number with the same arguments."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    rules = call_rules(sockets=True, memory_counted=True)
    programs = {machine: compile_rules(rules, machine) for machine in AUDIT_ARCH}
    both = [name for name, numbers in CALLS.items() if -1 not in numbers]
    assert len(both) > 50
    for name in both:
        for _ in range(40):
            arguments = [
                chance.choice((0, 1, 2, 0o101, 0o4755, 0o755, 0x5412, 0x10000000, 0x7E020000, 16, 262))
                for _ in range(6)
            ]
            answers = {
                answer(programs[machine], CALLS[name][column], *arguments, arch=AUDIT_ARCH[machine])
                for column, machine in enumerate(("x86_64", "aarch64"))
            }
            assert len(answers) == 1, (seed, name, arguments, answers)


@pytest.mark.parametrize("foreign", [0x40000028, 0x40000003, 0xC000003E, 0xC00000F3, 0x16, 0])
def test_an_arm_program_cannot_change_its_tongue(foreign: int) -> None:
    """Under aarch64's filter every other architecture (32-bit ARM, x86, RISC-V, none) is killed, whatever the number."""
    program = compile_rules(call_rules(sockets=True, memory_counted=True), "aarch64")
    for number in (0, 1, 40, 64, 220, 451, 0x40000000):
        assert answer(program, number, arch=foreign) == KILL


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_numbers_are_the_kernels_own(machine: str) -> None:
    """Each name of the table has the number of the kernel's headers, and a name marked absent is absent there."""
    header = next((path for path in HEADERS[machine] if path.exists()), None)
    if header is None:
        pytest.skip("the kernel's headers are not installed")
    text = header.read_text()
    numbers = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    assert numbers["clone"] == {"x86_64": 56, "aarch64": 220}[machine]
    column = 0 if machine == "x86_64" else 1
    known = {name: entry[column] for name, entry in CALLS.items()}
    wrong = {
        name: (number, numbers[name]) for name, number in known.items() if name in numbers and numbers[name] != number
    }
    assert wrong == {}
    unlisted = {name for name, number in known.items() if number != -1 and name not in numbers}
    assert unlisted <= {"memfd_secret", "quotactl_fd", "set_mempolicy_home_node"}, (
        "older headers lack only recent calls"
    )
