"""Signed policy bundles on this machine: made, verified, put in force, rolled back.

Trusted are this installation's own bundle keys and the public keys an operator named (`--trust`, kept under
`trust/bundle/`). A candidate that is not signed by one, is older, or does not load leaves the policy in force as it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent_os.core.errors import EffectError, PolicyError, Problem
from agent_os.effects.stores.directory import state_path
from agent_os.effects.stores.keys import Keys
from agent_os.effects.stores.policies import PolicyVersions
from agent_os.policy import Policy
from agent_os.policy.workbench.bundle import Bundle, BundleError, Verify, check_succession, pack, unpack
from agent_os.policy.workbench.rollout import Rollout, plan_rollout
from agent_os.runtime.policy_files import load_file, pack_file, read_policy_text

KEY_BYTES: Final = 32
MAX_BUNDLE_BYTES: Final = 32 * 2**20


def build(source: str, *, revision: int | None = None, state: Path | None = None) -> tuple[bytes, dict[str, Any]]:
    """Return the signed bundle of a policy file and what it is. Files it extends and data files are put in.

    Raises PolicyError for a policy that does not load or that names files outside its folder.
    """
    policy = load_file(source)
    base = Path(source).resolve().parent
    files: dict[str, bytes] = {}
    for unit in policy.layers[0].units:
        if not unit.pack.startswith("pack:"):
            _take(files, Path(unit.document.file), base)
        for source_of in unit.file.data.values():
            name = getattr(source_of, "file", None)
            if name and not unit.pack.startswith("pack:"):
                _take(files, Path(unit.document.file).parent / name, base)
        for engine in unit.file.rego or ():
            if engine.path and not unit.pack.startswith("pack:"):
                _take(files, Path(unit.document.file).parent / engine.path, base)
    for path in sorted(base.glob("*_test.yaml")):
        _take(files, path, base)
    chosen = policy.revision if revision is None else revision
    key = _keys(state).current("bundle")
    title = policy.layers[0].name
    data = pack(
        files, name=title, revision=chosen, entry=Path(source).name, digest=policy.digest, created=time.time(), key=key.id,
        sign=key.signer(),
    )  # fmt: skip
    about = {"name": title, "revision": chosen, "policy": policy.digest, "key": key.id, "public_key": key.public.hex()}
    return data, {**about, "files": sorted(files)}


def _take(files: dict[str, bytes], path: Path, base: Path) -> None:
    real = path.resolve()
    if not real.is_relative_to(base):
        raise PolicyError(Problem(f"{path} lies outside the policy's folder and cannot be bundled"))
    for one in sorted(real.rglob("*")) if real.is_dir() else [real]:
        if one.is_file():
            files[str(one.relative_to(base))] = one.read_bytes()


def install(data: bytes, *, trust: Sequence[str] = (), state: Path | None = None) -> dict[str, Any]:
    """Verify a bundle, load its policy, and put it in force; return what changed.

    Raises BundleError (signature, shape, older revision) or PolicyError (does not load): the one in force stays.
    """
    versions = PolicyVersions(_state(state) / "policies")
    installed = versions.read()
    bundle = unpack(data, verifier(_state(state), trust))
    version = f"{bundle.revision}-{bundle.digest.removeprefix('sha256:')[:12]}"
    if version == installed.current:
        return {"version": version, "changed": False, "dynamic": [], "needs_restart": []}
    check_succession(bundle, installed.highest)
    candidate = _parse(bundle)
    entry = {
        "entry": bundle.entry, "name": bundle.name, "revision": bundle.revision, "policy": bundle.digest,
        "key": bundle.key, "created": bundle.created, "installed": time.time(),
    }  # fmt: skip
    before = current(state=state)
    versions.install(version, bundle.files, entry, bundle.revision)
    rollout = plan_rollout(before, candidate) if before is not None else Rollout((), ())
    return {
        "version": version, "changed": True, "dynamic": list(rollout.dynamic), "needs_restart": list(rollout.static),
    }  # fmt: skip


def _parse(bundle: Bundle) -> Policy:
    """Return the policy of a bundle, read from its files alone (and the shipped packs); its digest must be as signed."""
    from agent_os.policy.reader import read  # noqa: PLC0415

    def text_of(path: str) -> str:
        if path not in bundle.files:
            raise PolicyError(Problem(f"the bundle has no file {path!r}"))
        try:
            return bundle.files[path].decode("utf-8-sig")
        except UnicodeDecodeError:
            raise PolicyError(Problem(f"the file {path!r} is not UTF-8")) from None

    def beside(reference: str, referring: str) -> str:
        folder = referring.rpartition("/")[0]
        return os.path.normpath(f"{folder}/{reference}" if folder else reference)

    def resolve_pack(reference: str, referring: str) -> tuple[str, str]:
        if reference.startswith("pack:"):
            path = pack_file(reference.removeprefix("pack:"))
            return read_policy_text(path), str(path)
        return text_of(beside(reference, referring)), beside(reference, referring)

    def resolve_data(reference: str, referring: str) -> Any:
        folder = beside(reference, referring) + "/"
        modules = [name for name in bundle.files if name.startswith(folder) and name.endswith(".rego")]
        if modules:
            direct = sorted(name for name in modules if "/" not in name.removeprefix(folder))
            return {f"{reference.rstrip('/')}/{name.removeprefix(folder)}": text_of(name) for name in direct}
        if reference.endswith(".rego"):
            return text_of(beside(reference, referring))
        text = text_of(beside(reference, referring))
        if reference.endswith((".yaml", ".yml", ".json")):
            return read(text, file=reference).value
        return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]

    policy = Policy.parse(text_of(bundle.entry), None, bundle.entry, resolve_pack, resolve_data)
    if policy.digest != bundle.digest:
        raise BundleError("the policy is not the one that was signed: a shipped pack it extends differs here")
    return policy


def current(*, state: Path | None = None) -> Policy | None:
    """Return the installed policy in force, or None if none is installed."""
    versions = PolicyVersions(_state(state) / "policies")
    version = versions.read().current
    return None if version is None else load_file(str(versions.path_of(version)))


def roll_back(to: str | None = None, *, state: Path | None = None) -> dict[str, Any]:
    """Put the policy before (or a named version) in force; return what changed. It must still load."""
    versions = PolicyVersions(_state(state) / "policies")
    installed = versions.read()
    before = current(state=state)
    wanted = to or (installed.history[-2] if len(installed.history) > 1 else None)
    if wanted is None:
        raise EffectError("there is no earlier policy to go back to")
    candidate = load_file(str(versions.path_of(wanted)))
    version = versions.roll_back(to)
    rollout = plan_rollout(before, candidate) if before is not None else Rollout((), ())
    return {"version": version, "dynamic": list(rollout.dynamic), "needs_restart": list(rollout.static)}


def listed(*, state: Path | None = None) -> list[dict[str, Any]]:
    """Return the installed versions in the order they came into force; the last one is in force."""
    installed = PolicyVersions(_state(state) / "policies").read()
    return [
        {"version": version, "in_force": version == installed.current, **installed.entries[version]}
        for version in installed.history
    ]


def verifier(state: Path, trust: Sequence[str]) -> Verify:
    """Return a check of signatures against this installation's keys, kept trust and the public keys given (hex)."""
    keys: dict[str, bytes] = dict(_keys(state).public("bundle"))
    given = [*trust, *_kept(state)]
    raw = [_public(text) for text in given]

    def verify(key_id: str, message: bytes, signature: bytes) -> bool:
        candidates = [keys[key_id]] if key_id in keys else raw
        for candidate in candidates:
            try:
                Ed25519PublicKey.from_public_bytes(candidate).verify(signature, message)
            except (InvalidSignature, ValueError):
                continue
            return True
        return False

    return verify


def _kept(state: Path) -> list[str]:
    folder = state / "trust" / "bundle"
    return [path.read_text().strip() for path in sorted(folder.glob("*.pub"))] if folder.is_dir() else []


def _public(text: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise EffectError(f"a trusted key is {KEY_BYTES} bytes in hex")
    return key


def _state(state: Path | None) -> Path:
    return state if state is not None else state_path(os.environ)


def _keys(state: Path | None) -> Keys:
    environment: Mapping[str, str] = os.environ
    return Keys.open(_state(state) / "keys", environment=environment)
