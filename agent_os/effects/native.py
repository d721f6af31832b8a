"""Small programs in C that ship as source: built where a C compiler is, pinned, and run from sealed memory.

A build is kept beside its sources where this user may write there (then whoever could change it could change the sources),
else in the state directory. Its name is the digest of sources, flags and machine, so that an upgrade builds anew; a second
file pins the digest of what was built. The bytes that were checked are the bytes that run: they are copied into a sealed
memory file first. Where there is no compiler, or anything does not fit, what uses the program does the same work in Python,
more slowly: the sandbox's launcher (`sandbox/server.py`), the guard's carrier (`proxy/carrier.py`).

Threat: a file that another user could have written is not run; a damaged one is not run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_os.core.errors import EffectError

COMPILERS: Final = ("cc", "gcc", "clang")
FLAGS: Final = (
    "-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-fPIE", "-pie",
    "-Wl,-z,relro,-z,now",
)  # fmt: skip
BUILD_SECONDS_MAX: Final = 60.0
BINARY_BYTES_MAX: Final = 4 * 1024 * 1024
REASON_CHARS_MAX: Final = 2000
_MEMFD_EXEC: Final = 0x10
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class NotBuiltError(EffectError):
    """There is no compiled program here; the message says why."""


@dataclass(frozen=True)
class Program:
    """One program: its name, and the folder of its sources (`*.c`, `*.h`)."""

    name: str
    sources: Path

    def digest(self) -> str:
        """Return the digest that names a build: of the sources, the flags and the machine."""
        digest = hashlib.sha256(repr((FLAGS, platform.machine())).encode())
        for path in sorted(self.sources.glob("*.[ch]")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:24]

    def sealed(self, state: Path | None = None) -> int:
        """Return a descriptor of the program in sealed memory, building it if it is not there yet.

        `state`: the state directory, used where the folder of the sources cannot be written. Raises NotBuiltError.
        """
        name = f"{self.name}-{self.digest()}"
        reasons = []
        for folder in self._places(state):
            try:
                return _sealed(self.name, _checked(self.sources, folder, name))
            except FileNotFoundError:
                pass
            except OSError as error:
                reasons.append(f"{folder}: {error.strerror}")
                continue
            except NotBuiltError as error:
                reasons.append(str(error))
                continue
            try:
                _build(self.sources, folder, name)
                return _sealed(self.name, _checked(self.sources, folder, name))
            except PermissionError:
                reasons.append(f"{folder} cannot be written")
            except (OSError, NotBuiltError) as error:
                reasons.append(str(error))
        raise NotBuiltError("; ".join(dict.fromkeys(reasons)) or "there is no place to keep it")

    def _places(self, state: Path | None) -> Iterator[Path]:
        yield self.sources / "built"
        if state is not None:
            yield state / self.name


def _checked(sources: Path, folder: Path, name: str) -> bytes:
    """Return the bytes of a build that nobody else could have written. Raises FileNotFoundError, NotBuiltError."""
    trusted = {0, os.geteuid(), os.stat(sources).st_uid}
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid not in trusted or info.st_mode & 0o022:
        raise NotBuiltError(f"{folder}: others may write there")
    failed = folder / f"{name}.failed"
    if failed.exists():
        raise NotBuiltError(f"it could not be built: {_read(failed, trusted).decode(errors='replace')}")
    data = _read(folder / name, trusted)
    pinned = _read(folder / f"{name}.sha256", trusted).decode(errors="replace").strip()
    if hashlib.sha256(data).hexdigest() != pinned:
        raise NotBuiltError(f"{folder / name}: not what was built; remove it")
    return data


def _read(path: Path, trusted: set[int]) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_uid not in trusted or info.st_mode & 0o022:
            raise NotBuiltError(f"{path}: others may write it")
        data = file.read(BINARY_BYTES_MAX + 1)
    if len(data) > BINARY_BYTES_MAX:
        raise NotBuiltError(f"{path}: too large")
    return data


def _sealed(name: str, data: bytes) -> int:
    """Return a descriptor of a memory file with these bytes, which nobody can change any more. Raises OSError."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create(f"agentos-{name}", flags | _MEMFD_EXEC)
    except OSError as error:
        if error.errno != 22:  # EINVAL: a kernel before 6.3 does not know the flag and lets memory run
            raise
        descriptor = os.memfd_create(f"agentos-{name}", flags)
    try:
        os.write(descriptor, data)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        if os.fstat(descriptor).st_size != len(data):
            raise NotBuiltError("the memory file is too short")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _build(sources: Path, folder: Path, name: str) -> None:
    """Compile the sources and pin the result. A compiler that fails is remembered, so that it is not asked each time."""
    compiler = next((found for found in map(shutil.which, COMPILERS) if found), None)
    if compiler is None:
        raise NotBuiltError(f"no C compiler ({', '.join(COMPILERS)}) is installed")
    folder.mkdir(mode=0o755, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as place:
        made = Path(place, "program")
        command = [compiler, *FLAGS, "-o", str(made), *map(str, sorted(sources.glob("*.c")))]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": place, "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=place,
                timeout=BUILD_SECONDS_MAX,
            )  # fmt: skip
            said = done.stderr if done.returncode or not made.exists() else ""
        except subprocess.TimeoutExpired:
            said = f"{compiler} took more than {BUILD_SECONDS_MAX:.0f} s"
        if said:
            _write(Path(place, "failed"), said.strip()[:REASON_CHARS_MAX].encode(), 0o644)
            os.replace(Path(place, "failed"), folder / f"{name}.failed")
            raise NotBuiltError(f"it could not be built: {said.strip()[:REASON_CHARS_MAX]}")
        pin = Path(place, "pin")
        _write(pin, hashlib.sha256(made.read_bytes()).hexdigest().encode(), 0o644)
        made.chmod(0o755)
        # Two builders at once may differ in a byte: the first to place its pin is right, the other takes that one's work.
        with contextlib.suppress(FileExistsError):
            os.link(made, folder / name)
            os.replace(pin, folder / f"{name}.sha256")


def _write(path: Path, data: bytes, mode: int) -> None:
    with path.open("wb") as file:
        file.write(data)
    path.chmod(mode)
