"""Where tool servers come from: shipped packs, folders with a `tool.yaml`, commands, addresses; the digest of their code.

Threat: code that changes after a person accepted it. Of what a program loads beyond its own files the digest covers the
versions of the packages its manifest names, not the interpreter; a container or lock file pins that. Of a server elsewhere only
its address and what it says of itself can be pinned. A credential that would lie in a record in the clear is refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml

from agent_os.core import canonical
from agent_os.core.errors import ActionError, EffectError, PolicyError, Problem
from agent_os.core.manifest import Manifest, Needs
from agent_os.guards.confine.environment import NEVER
from agent_os.guards.egress.placeholders import names_in
from agent_os.runtime.data import data_dir
from agent_os.runtime.tool_servers.packages import versions
from agent_os.runtime.tool_servers.records import ServerRecord, server_name

CODE_BYTES_MAX: Final = 64 * 1024 * 1024
CODE_FILES_MAX: Final = 2000
HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]{1,64}")
HEADER_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,2046}[\x21-\x7e])?")
OUR_HEADERS: Final = frozenset(
    {"host", "content-length", "content-type", "accept", "accept-encoding", "transfer-encoding", "connection", "upgrade", "te",
     "trailer", "expect", "keep-alive", "last-event-id"}
)  # fmt: skip
CREDENTIAL_HEADER: Final = re.compile(r"authorization|cookie|token|key|secret|password|credential")


def code_digest(record: ServerRecord) -> str:
    """Return a digest over the server's program: its pack folder, or the files of the command that are its program.

    Of a server elsewhere: over its address and the headers it is sent.
    """
    command = record.command
    if record.url:
        return "sha256:" + hashlib.sha256(canonical.json_bytes([record.url, record.headers])).hexdigest()
    digest = hashlib.sha256(canonical.json_bytes([*command, *versions(record.needs.packages)]))
    files: list[Path] = []
    if record.folder:
        root = Path(record.folder)
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


def is_shipped(record: ServerRecord) -> bool:
    """Return whether a server is a pack that came with the installation."""
    return record.folder == str((data_dir("tools") / record.name).resolve())


def new_record(name: str, command: Sequence[str], needs: Needs) -> tuple[ServerRecord, Manifest | None]:
    """Return the record of a shipped pack, a pack folder, or a command. Raises EffectError."""
    if command:
        for variable in needs.environment:
            if NEVER.match(variable):
                raise EffectError(f"--env {variable}: may not be passed into a sandbox")
        program = list(command)
        if "/" in program[0]:
            if not os.access(program[0], os.X_OK):
                raise EffectError(f"{program[0]}: no program that can be run")
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
        server_name(manifest.name),
        list(manifest.server),
        folder=str(folder),
        description=manifest.description,
        needs=manifest.needs,
    )
    return record, manifest


def remote_record(name: str, url: str, headers: Sequence[str], needs: Needs) -> ServerRecord:
    """Return the record of a server elsewhere. `headers` are `Name: value`. Raises EffectError naming what is wrong."""
    try:
        parts = canonical.url(url, field="--url")
    except ActionError as error:
        raise EffectError(str(error)) from None
    if parts.scheme not in ("http", "https"):
        raise EffectError("--url: must be https://HOST/PATH (or http:// inside a network of your own)")
    sent = dict(_header(text) for text in headers)
    placed = tuple(name for value in sent.values() for name in names_in(value.encode()))
    if placed and parts.scheme == "http":
        raise EffectError("--url: a secret is sent over https only")
    wanted = needs.model_copy(
        update={"hosts": (parts.host,), "secrets": tuple(dict.fromkeys((*needs.secrets, *placed)))}
    )
    return ServerRecord(server_name(name), [], url=str(parts), headers=sent, needs=wanted)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    name, value = name.strip().lower(), value.strip()
    if not colon or not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
        raise EffectError(f"--header {name or text!r}: must be 'Name: value' in visible ASCII")
    if name in OUR_HEADERS or name.startswith(("mcp-", "proxy-")):
        raise EffectError(f"--header {name}: is set by the runtime alone")
    if CREDENTIAL_HEADER.search(name) and not names_in(value.encode()):
        raise EffectError(
            f"--header {name}: a credential is not kept in the clear: name the secret in the policy (`secrets:`), store it "
            f"(agentos secret set NAME) and write '{name}: ... agentos-secret:NAME'"
        )
    return name, value


def manifest_of(record: ServerRecord) -> Manifest | None:
    """Return the manifest of a pack's record, None for a plain command."""
    return read_pack(Path(record.folder)) if record.folder else None


def _file(part: str) -> str:
    try:
        regular = stat.S_ISREG(os.stat(part).st_mode)
    except OSError:
        return part
    return os.path.realpath(part) if regular else part
