"""The form in which plans reach a launcher: what is written is what is read, and nothing that does not fit is read."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from agent_os.effects.sandbox.launcher import wire as reading
from agent_os.effects.sandbox.server import LAUNCHER
from agent_os.guards.confine import Confinement, wire
from tests.unit.guards.confine.test_plan import plan

MADE = plan(Confinement(read_only=("/usr", "/data/in/fixed"), read_write=("/data", "/tmp"), network=True), guard=True)


def request(argv: tuple[str, ...] = ("/bin/echo", "", "naïve\udcff"), **how: object) -> bytes:
    """Return an encoded start."""
    return wire.encode_start(wire.encode_plan(MADE), wire.encode_arguments(argv), **how)  # type: ignore[arg-type]


def test_both_ends_name_the_same_numbers() -> None:
    """Every constant of the form has one value at the writing and at the reading end."""
    names = [name for name, value in vars(wire).items() if name.isupper() and isinstance(value, int) and name[0] != "_"]
    assert len(names) >= 15
    assert {name: getattr(reading, name) for name in names} == {name: getattr(wire, name) for name in names}


def test_a_start_is_read_as_it_was_written() -> None:
    """Arguments, groups, terminal and every part of the plan arrive unchanged."""
    got = reading.decode(request(seed="s", cgroups=("/sys/fs/cgroup/a",), terminal=(24, 80)))
    assert got["argv"] == ["/bin/echo", "", "naïve\udcff"]
    assert (got["seed"], got["cgroups"], got["terminal"]) == ("s", ["/sys/fs/cgroup/a"], (24, 80))
    read = got["plan"]
    assert [step["target"] for step in read["mounts"]] == [mount.target for mount in MADE.mounts]
    assert read["landlock"]["rules"] == [(rule.path, rule.access) for rule in MADE.landlock.rules]
    assert read["seccomp"] == MADE.seccomp
    assert read["environment"] == dict(MADE.environment)
    assert read["network"] == {"guarded": True, "tcp_ports": [80, 443], "proxy_port": 3128, "dns": True}
    assert (read["host_uid"], read["transient"], read["own_cgroup"]) == (1000, False, True)


def test_flags_of_a_mount_say_what_the_plan_says() -> None:
    """A read-only mount is read-only in the kernel's numbers; a writable one is not, and both are nosuid."""
    steps = {step["target"]: step for step in reading.decode(request())["plan"]["mounts"]}
    by_target = {mount.target: mount for mount in MADE.mounts if mount.kind in ("bind", "tmpfs")}
    assert {mount.writable for mount in by_target.values()} == {True, False}
    for target, mount in by_target.items():
        assert bool(steps[target]["attributes"] & 1) is not mount.writable, target
        assert steps[target]["attributes"] & 2, target
        assert bool(steps[target]["attributes"] & 8) is not mount.exec, target


def test_a_cut_or_lengthened_request_is_refused() -> None:
    """No prefix of a request is a request, and neither is one with a byte behind it."""
    whole = request()
    reading.decode(whole)
    for size in [*range(0, 600), *range(600, len(whole), 97), len(whole) - 1]:
        with pytest.raises(ValueError, match=r".+"):
            reading.decode(whole[:size])
    with pytest.raises(ValueError, match="behind"):
        reading.decode(whole + b"\0")


def test_a_damaged_request_is_refused_or_means_what_it_says() -> None:
    """A flipped byte in a length, a count or a kind raises ValueError and nothing else, whatever byte it is."""
    seed = random.randrange(1 << 32)
    chance, whole = random.Random(seed), request()
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        try:
            reading.decode(bytes(damaged))
        except ValueError:
            continue
        except Exception as error:  # the message carries the seed
            pytest.fail(f"seed {seed}: {error!r}")


def test_a_zero_byte_is_refused_before_anything_is_sent() -> None:
    """An argument or variable with a zero byte in it cannot be encoded: it would end early at the other end."""
    with pytest.raises(ValueError, match="zero byte"):
        wire.encode_arguments(["echo", "a\0b"])
    with pytest.raises(ValueError, match="zero byte"):
        wire.encode_plan(replace(MADE, environment={"A": "b\0c"}))


def test_preparing_and_forgetting_are_read_as_written() -> None:
    """The two short requests carry their token, and the first its groups."""
    assert reading.decode(wire.encode_plant("t", ("/a", "/b"))) == {"kind": 2, "seed": "t", "cgroups": ["/a", "/b"]}
    assert reading.decode(wire.encode_forget("t")) == {"kind": 3, "seed": "t"}


def test_the_launcher_runs_alone() -> None:
    """In the launcher's process nothing of the agent's world can be imported, and no module of it is."""
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='probe')\n"
        "print([n for n in sys.modules if n.startswith('agent_os') and not n.startswith('agent_os.effects.sandbox.launcher')])\n"
        "try:\n    import agent_os.runtime\nexcept ImportError:\n    print('alone')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(LAUNCHER)], capture_output=True, text=True, check=False, cwd="/",
        env={"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["['agent_os', 'agent_os.effects', 'agent_os.effects.sandbox']", "alone"], (
        done.stderr
    )
