"""Reading policy files: bytes from disk to `Policy.parse`, packs by name. The parsing itself is pure and elsewhere.

Threats: a huge file, a `pack:` name or an `extends` path that climbs out of its folder, a file swapped while it is read.
Every read is bounded, and a policy is parsed from the bytes that were read once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.errors import Place, PolicyError, Problem
from agent_os.policy import Policy
from agent_os.runtime.data import data_dir

POLICY_BYTES_MAX: Final = 4 * 1024 * 1024
MODULES_MAX: Final = 64


def load_file(source: str | Path, *, semantics: str | None = None) -> Policy:
    """Return the policy of one file or of `pack:NAME`. Raises PolicyError with file, line, column and a hint."""
    if isinstance(source, str) and source.startswith("pack:"):
        path = pack_file(source.removeprefix("pack:"))
    else:
        path = Path(source)
    return parse_policy(read_policy_text(path), file=str(path), semantics=semantics)


def parse_policy(text: str, *, file: str, semantics: str | None = None) -> Policy:
    """Return the policy of a text that stands in `file`: packs, extended files and data sets are read beside it."""
    return Policy.parse(text, semantics, file, _resolve_pack, _resolve_data)


def _resolve_pack(reference: str, referring: str) -> tuple[str, str]:
    """Return (text, file) of an entry of `extends` that stands in the file `referring`."""
    if reference.startswith("pack:"):
        path = pack_file(reference.removeprefix("pack:"))
    else:
        path = _beside(reference, referring)
    return read_policy_text(path), str(path)


def _resolve_data(reference: str, referring: str) -> Any:
    """Return the plain JSON of a data file (YAML, JSON or one value a line) beside the policy file `referring`.

    A `.rego` file is its text, a folder of them a mapping of their names to their texts.
    """
    path = _beside(reference, referring)
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if entry.name.endswith(".rego"))
        if len(names) > MODULES_MAX:
            raise PolicyError(Problem(f"holds more than {MODULES_MAX} Rego modules", Place(str(path))))
        inside = [f"{reference.rstrip('/')}/{name}" for name in names]
        return {name: read_policy_text(_beside(name, referring)) for name in inside}
    if path.suffix == ".rego":
        return read_policy_text(path)
    text = read_policy_text(path)
    if path.suffix in (".yaml", ".yml", ".json"):
        from agent_os.policy.reader import read  # noqa: PLC0415 - YAML loads with the first data file

        return read(text, file=str(path)).value
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _beside(reference: str, referring: str) -> Path:
    base = Path(referring).resolve().parent
    path = (base / reference).resolve()
    if not path.is_relative_to(base):
        raise PolicyError(Problem(f"{reference!r} leads out of the policy's folder", Place(referring)))
    return path


def pack_file(name: str) -> Path:
    """Return the policy file of a shipped pack. Raises PolicyError for a name that is none."""
    folder = data_dir("policies")
    known = sorted(entry.name for entry in folder.iterdir() if (entry / "policy.yaml").is_file())
    if name not in known:
        near = canonical.nearest(name, known)
        hint = near if near.startswith("did you mean") else f"packs: {', '.join(known) or 'none'}"
        raise PolicyError(Problem(f"no pack is called {name!r}", Place(f"pack:{name}"), hint))
    return folder / name / "policy.yaml"


def read_policy_text(path: Path) -> str:
    """Return the text of a policy file: UTF-8, at most POLICY_BYTES_MAX bytes, a regular file."""
    place = Place(str(path))
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC)) as file:
            data = file.read(POLICY_BYTES_MAX + 1)
    except OSError as error:
        said = os.strerror(error.errno or 0).lower()
        raise PolicyError(Problem(f"cannot be read: {said}", place, code="unreadable")) from None
    if len(data) > POLICY_BYTES_MAX:
        raise PolicyError(Problem(f"is larger than {POLICY_BYTES_MAX} bytes", place, code="too-large"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PolicyError(Problem(f"is not UTF-8 (byte {error.start})", place, code="not-utf8")) from None


def policy_files(policy: Policy) -> tuple[str, ...]:
    """Return every file a policy was read from: itself, what it extends, its data and Rego modules, as named and by real path.

    Whoever could change them, or a link on the way to them, would write the rules of the next run.
    """
    found = {origin.place.file for origin in policy.origins.values()}
    for layer in policy.layers:
        for unit in layer.units:
            name = unit.document.file
            home = os.path.dirname(os.path.abspath(name)) if os.path.sep in name or os.path.exists(name) else ""
            found.add(name)
            beside = [str(getattr(entry, "file", "") or "") for entry in unit.file.data.values()]
            beside += [str(rego.path or "") for rego in unit.file.rego or ()]
            found.update(os.path.join(home, path) for path in beside if home and path)
    named = {os.path.abspath(path) for path in found if path and os.path.exists(path)}
    return tuple(sorted(named | {os.path.realpath(path) for path in named}))
