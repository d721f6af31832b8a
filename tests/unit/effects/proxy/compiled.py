"""A function of the carrier's, built for a test by itself with the sanitizers, and asked about many inputs at once."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from agent_os.effects import native
from agent_os.effects.proxy.carrier import PROGRAM

COMPILER = next(filter(None, map(shutil.which, native.COMPILERS)), "")
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
Ask = Callable[[Iterable[bytes]], str]


def asked(folder: Path, harness: str, *sources: str) -> Ask:
    """Build a harness with sources of the carrier's, with the sanitizers where they are; return what asks it (stdin, stdout)."""
    program = folder / "asked"
    files = [Path(__file__).with_name(harness), *(PROGRAM.sources / source for source in sources)]
    command = [COMPILER, "-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-I", str(PROGRAM.sources), "-o",
               str(program), *map(str, files)]  # fmt: skip
    for extra in (SANITIZERS, []):
        if subprocess.run([*command, *extra], capture_output=True, check=False).returncode == 0:
            break

    def ask(inputs: Iterable[bytes]) -> str:
        return subprocess.run([str(program)], input=b"".join(inputs), capture_output=True, check=True).stdout.decode()

    return ask
