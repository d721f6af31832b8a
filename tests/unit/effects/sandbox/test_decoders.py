"""Two decoders, one language: the C launcher takes exactly the requests that the Python one takes, and reads no byte beside them."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_os.effects import native
from agent_os.effects.sandbox.launcher import wire as reading
from agent_os.effects.sandbox.server import COMPILED
from agent_os.guards.confine import Confinement, wire
from tests.unit.guards.confine.test_plan import plan

ROUNDS = 500
COMPILER = next(filter(None, map(shutil.which, native.COMPILERS)), "")
pytestmark = pytest.mark.skipif(not COMPILER, reason="no C compiler here")
PLAN = wire.encode_plan(plan(Confinement(read_only=("/usr",), read_write=("/tmp",), network=True), guard=True))
REQUESTS = (
    wire.encode_start(
        PLAN, wire.encode_arguments(["/bin/sh", "-c", "é\udcff"]), seed="s", cgroups=("/a", "/b"), terminal=(1, 2)
    ),
    wire.encode_start(PLAN, wire.encode_arguments(["x"])),
    wire.encode_plant("token", ("/sys/fs/cgroup/a/cgroup.procs",)),
    wire.encode_forget("token"),
    wire.encode_keep(""),
)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[bytes]], str]:
    """Build the C decoder with the sanitizers, where they are, and return what asks it about requests."""
    program = tmp_path_factory.mktemp("decode") / "decode"
    sources = [Path(__file__).with_name("decode.c"), COMPILED.sources / "wire.c", COMPILED.sources / "kernel.c"]
    command = [
        COMPILER,
        "-std=c11",
        "-D_GNU_SOURCE",
        "-g",
        "-O1",
        "-I",
        str(COMPILED.sources),
        "-o",
        str(program),
        *map(str, sources),
    ]
    for extra in (["-fsanitize=address,undefined", "-fno-sanitize-recover=all"], []):
        if subprocess.run([*command, *extra], capture_output=True, check=False).returncode == 0:
            break

    def ask(requests: list[bytes]) -> str:
        data = b"".join(struct.pack("<I", len(request)) + request for request in requests)
        return subprocess.run([str(program)], input=data, capture_output=True, check=True).stdout.decode()

    return ask


def python_takes(data: bytes) -> str:
    """Return 1 if the Python launcher would carry a request out, else 0."""
    try:
        request = reading.decode(data)
    except ValueError:
        return "0"
    return "1" if request.get("argv", True) else "0"  # a start of nothing is refused later there


def damaged(chance: random.Random) -> bytes:
    """Return a request with something wrong in it: cut, lengthened, flipped, a length or count replaced, parts of two joined."""
    whole = bytearray(chance.choice(REQUESTS))
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        place, how = chance.randrange(len(whole)), chance.randrange(6)
        if how == 0:
            del whole[place:]
        elif how == 1:
            whole += bytes(chance.randrange(1, 9))
        elif how == 2:
            whole[place] ^= 1 << chance.randrange(8)
        elif how == 3:
            number = chance.choice((0, 1, 2, 255, 65536, 65537, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**64 - place))
            whole[place : place + 8] = struct.pack("<Q", number % 2**64)
        elif how == 4:
            del whole[place : place + chance.randrange(1, 20)]
        else:
            whole[place:] = chance.choice(REQUESTS)[place:]
        if not whole:
            break
    return bytes(whole)


def test_every_whole_request_is_taken_by_both(taken: Callable[[list[bytes]], str]) -> None:
    """What the supervisor writes is read at both ends; nothing at all, a header alone and a foreign form are refused."""
    assert taken(list(REQUESTS)) == "1" * len(REQUESTS) == "".join(map(python_takes, REQUESTS))
    odd = [b"", b"\0" * 16, REQUESTS[1][:16], b"{}" * 40]
    assert taken(odd) == "0000" == "".join(map(python_takes, odd))


def test_damaged_requests_get_one_answer(taken: Callable[[list[bytes]], str]) -> None:
    """Over random damage both decoders agree, and the C one touches no memory that is not the request."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    requests = [damaged(chance) for _ in range(ROUNDS)]
    answers, expected = taken(requests), "".join(map(python_takes, requests))
    assert "X" not in answers, (seed, requests[answers.index("X")])
    assert [i for i in range(ROUNDS) if answers[i] != expected[i]] == [], seed
    assert "0" in answers
