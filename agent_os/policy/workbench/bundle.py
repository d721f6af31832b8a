"""Signed policy bundles: bytes in, verified files out, or an error. Pure (no clock, no disk, keys are handed in).

A bundle is a tar.gz of `manifest.json` (RFC 8785), `manifest.sig` (Ed25519 over the manifest's bytes) and the files the
manifest lists with their digests. Nothing is believed before the signature over the manifest is good, and nothing is
taken that the manifest does not list. Threats: absolute paths, `..`, links and devices in the archive, a decompression
bomb, a file swapped under a good manifest, an older revision put back, a key nobody trusts. No rule depends on a clock.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError, IntegrityError

SCHEMA: Final = 1
MAX_BUNDLE_BYTES: Final = 32 * 2**20
MAX_FILES_BYTES: Final = 64 * 2**20
MAX_FILES: Final = 500
MAX_MANIFEST_BYTES: Final = 2**20
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"

Sign = Callable[[bytes], bytes]
Verify = Callable[[str, bytes, bytes], bool]
"""(key id, message, signature) -> whether a trusted key of that id signed it."""


class BundleError(IntegrityError):
    """A bundle that cannot be taken; the one in force stays."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: what it is, and its files by path."""

    name: str
    revision: int
    entry: str
    digest: str
    created: float
    key: str
    files: Mapping[str, bytes]


def pack(
    files: Mapping[str, bytes],
    *,
    name: str,
    revision: int,
    entry: str,
    digest: str,
    created: float,
    key: str,
    sign: Sign,
) -> bytes:
    """Return the bundle of some files; the same input gives the same bytes.

    `digest` is the policy's own digest, `entry` the policy file among `files`. Raises BundleError for paths and sizes
    that could not be unpacked again.
    """
    _check_files(files)
    if entry not in files:
        raise BundleError(f"the entry {entry!r} is not among the files")
    manifest = canonical.json_bytes(
        {
            "schema": SCHEMA,
            "name": name,
            "revision": revision,
            "entry": entry,
            "policy": digest,
            "created": int(created),
            "key": key,
            "files": {path: _sha256(data) for path, data in files.items()},
        }
    )
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, data in [(MANIFEST, manifest), (SIGNATURE, sign(manifest)), *sorted(files.items())]:
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    return compressor.compress(out.getvalue()) + compressor.flush()


def unpack(data: bytes, verify: Verify) -> Bundle:
    """Return the bundle in some bytes. Raises BundleError for anything but a good signature over good files."""
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleError(f"the bundle is larger than {MAX_BUNDLE_BYTES} bytes")
    members = _members(_inflate(data))
    manifest, signature = members.pop(MANIFEST, None), members.pop(SIGNATURE, None)
    if manifest is None or len(manifest) > MAX_MANIFEST_BYTES:
        raise BundleError("the bundle has no manifest")
    if signature is None:
        raise BundleError("the bundle is not signed")
    try:
        said = json.loads(manifest)
        key = said["key"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError("the manifest is malformed") from None
    if not isinstance(key, str) or not verify(key, manifest, signature):
        raise BundleError("the signature is not by a trusted key")
    return _checked(said, manifest, members)


def _checked(said: Any, manifest: bytes, members: Mapping[str, bytes]) -> Bundle:
    """Return the bundle of a manifest whose signature is good, after checking every file against it."""
    try:
        if said["schema"] != SCHEMA or canonical.json_bytes(said) != manifest:
            raise BundleError("the manifest is of another version, or not in canonical form")
        listed = dict(said["files"])
        bundle = Bundle(
            str(said["name"]), int(said["revision"]), str(said["entry"]), str(said["policy"]), float(said["created"]),
            str(said["key"]), members,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, ActionError):
        raise BundleError("the manifest is malformed") from None
    if set(listed) != set(members):
        raise BundleError("the files are not those of the manifest")
    for path, content in members.items():
        if listed[path] != _sha256(content):
            raise BundleError(f"the file {path!r} is not the one that was signed")
    if bundle.entry not in members:
        raise BundleError("the manifest's entry is not among the files")
    return bundle


def check_succession(bundle: Bundle, highest: int | None) -> None:
    """Raise BundleError unless the bundle's revision is above the highest ever taken (None: the first)."""
    if highest is not None and bundle.revision <= highest:
        raise BundleError(
            f"revision {bundle.revision} is not above {highest}, the highest ever in force: "
            "raise `revision`, or go back with `agentos policy rollback`"
        )


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj(31)
    try:
        plain = inflater.decompress(data, MAX_FILES_BYTES + 1)
    except zlib.error:
        raise BundleError("the bundle is not a tar.gz") from None
    if len(plain) > MAX_FILES_BYTES or inflater.unconsumed_tail:
        raise BundleError(f"the bundle unpacks to more than {MAX_FILES_BYTES} bytes")
    if not inflater.eof or inflater.unused_data:
        raise BundleError("the bundle is cut off, or something follows it")
    return plain


def _members(plain: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for member in archive:
                if len(files) >= MAX_FILES:
                    raise BundleError(f"the bundle has more than {MAX_FILES} files")
                if not member.isreg() or member.issparse():
                    raise BundleError("the bundle holds something that is no plain file")
                if member.name in files:
                    raise BundleError("the bundle holds a file twice")
                stream = archive.extractfile(member)
                files[member.name] = stream.read(MAX_FILES_BYTES) if stream is not None else b""
    except (tarfile.TarError, EOFError, ValueError, UnicodeError):
        raise BundleError("the bundle is not a tar.gz") from None
    _check_files({path: data for path, data in files.items() if path not in (MANIFEST, SIGNATURE)})
    return files


def _check_files(files: Mapping[str, bytes]) -> None:
    if not files or len(files) > MAX_FILES:
        raise BundleError(f"a bundle has 1 to {MAX_FILES} files")
    if sum(map(len, files.values())) > MAX_FILES_BYTES:
        raise BundleError(f"the files are larger than {MAX_FILES_BYTES} bytes")
    for path in files:
        parts = path.split("/")
        odd = any(part in ("", ".", "..") or part.startswith(".") for part in parts)
        if odd or not path.isprintable() or "\\" in path or ":" in path or len(path) > 255:
            raise BundleError("the bundle holds a path that leaves its folder, or an odd name")


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
