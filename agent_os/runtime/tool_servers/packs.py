"""Where tool servers come from: shipped packs, folders with a `tool.yaml`, commands; and the digest of their code.

Threat: code that changes after a person accepted it. What a program loads beyond its own files (an interpreter, packages)
is not covered by the digest; a container or lock file pins that.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml

from agent_os.core import canonical
from agent_os.core.errors import EffectError, PolicyError, Problem
from agent_os.core.manifest import Manifest, Needs
from agent_os.runtime.data import data_dir
from agent_os.runtime.tool_servers.records import ServerRecord, server_name

CODE_BYTES_MAX: Final = 64 * 1024 * 1024
CODE_FILES_MAX: Final = 2000


def code_digest(command: Sequence[str], folder: str) -> str:
    """Return a digest over the server's program: its pack folder, or the files of the command that are its program."""
    digest = hashlib.sha256(canonical.json_bytes(list(command)))
    files: list[Path] = []
    if folder:
        root = Path(folder)
        files = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        shared = root.parent / "serving.py"
        files += [shared] if shared.is_file() else []
    else:
        files = [Path(part) for part in program_files(command)]
    if len(files) > CODE_FILES_MAX:
        raise EffectError(f"the server's folder holds more than {CODE_FILES_MAX} files")
    total = 0
    for path in files:
        data = path.read_bytes()
        total += len(data)
        if total > CODE_BYTES_MAX:
            raise EffectError(f"the server's program is larger than {CODE_BYTES_MAX} bytes")
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(data).digest())
    return "sha256:" + digest.hexdigest()


def program_files(command: Sequence[str]) -> list[str]:
    """Return the files of a command that are its program: the first word, and the first argument that is a file.

    Other files among the arguments are data: a person grants them with --read.
    """
    found = [part for part in command[:1] if part.startswith("/") and os.path.isfile(part)]
    script = next((part for part in command[1:] if part.startswith("/") and os.path.isfile(part)), None)
    return [*found, script] if script else found


def code_paths(record: ServerRecord) -> list[str]:
    """Return the files and folders of a server's program, which its sandbox shows it read-only."""
    if record.folder:
        shared = os.path.join(os.path.dirname(record.folder), "serving.py")
        return [record.folder, *([shared] if os.path.isfile(shared) else [])]
    return program_files(record.command)


def argv_of(record: ServerRecord) -> list[str]:
    """Return the command as it is started: words that are files of the pack's folder become their paths."""
    if not record.folder:
        return list(record.command)
    places = ((part, os.path.join(record.folder, part)) for part in record.command)
    return [inside if os.path.isfile(inside) else part for part, inside in places]


def read_pack(folder: Path) -> Manifest:
    """Return the manifest of a pack folder. Raises PolicyError naming the file, EffectError if there is none."""
    path = folder / "tool.yaml"
    try:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Manifest.model_validate(form)
    except FileNotFoundError:
        raise EffectError(f"no tool.yaml in {folder}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise PolicyError(Problem(f"{path}: {_first_problem(error)}")) from None


def _first_problem(error: Exception) -> str:
    """Return what is wrong first, with the field it is wrong in."""
    problems = getattr(error, "errors", None)
    if callable(problems):
        first = problems()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the document'}: {first['msg']}"
    return " ".join(str(error).split())[:300]


def shipped_packs() -> list[str]:
    """Return the names of the packs that come with the installation."""
    return sorted(path.parent.name for path in data_dir("tools").glob("*/tool.yaml"))


def new_record(name: str, command: Sequence[str], needs: Needs) -> tuple[ServerRecord, Manifest | None]:
    """Return the record of a shipped pack, a pack folder, or a command. Raises EffectError."""
    if command:
        program = list(command)
        if "/" in program[0]:
            program[0] = os.path.realpath(program[0])
        program = [program[0], *(_file(part) for part in program[1:])]
        return ServerRecord(server_name(name), program, needs=needs), None
    folder = Path(name)
    if name in shipped_packs():
        folder = data_dir("tools") / name
    elif not (folder / "tool.yaml").is_file():
        raise EffectError(f"{name!r} is no shipped pack ({', '.join(shipped_packs())}) and no folder with a tool.yaml")
    folder = folder.resolve()
    manifest = read_pack(folder)
    if not manifest.server:
        raise EffectError(f"the manifest of {manifest.name} names no server")
    record = ServerRecord(
        server_name(manifest.name), list(manifest.server), str(folder), manifest.description, manifest.needs
    )
    return record, manifest


def manifest_of(record: ServerRecord) -> Manifest | None:
    """Return the manifest of a pack's record, None for a plain command."""
    return read_pack(Path(record.folder)) if record.folder else None


def _file(part: str) -> str:
    try:
        regular = stat.S_ISREG(os.stat(part).st_mode)
    except OSError:
        return part
    return os.path.realpath(part) if regular else part
