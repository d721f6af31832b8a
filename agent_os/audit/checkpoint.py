"""Signed checkpoints: what a log had reached at a moment, to be kept where the log's writer cannot change it. Pure.

A checkpoint states a writer, the sequence number and hash of its last record, and where that record ends. Its Ed25519
signature (RFC 8032) covers all of that under a domain prefix. Threat: a log that is cut off at the end or rewritten
as a whole is consistent in itself; only what was said of it before, elsewhere, gives it away. A checkpoint kept
beside the log catches mistakes and other users; one kept on another machine catches the log's own user.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent_os.core.canonical import json_bytes
from agent_os.core.errors import ActionError, IntegrityError

_DOMAIN: Final = b"agent-os checkpoint 1\n"
CHECKPOINT_BYTES_MAX: Final = 4096
Verify = Callable[[str, bytes, bytes], bool]
"""(key id, signature, message) -> whether the signature is of that key; False for an unknown key."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log had reached: record `seq` with `hash` (hex) ends at byte `offset` of `segment`; `time` is Unix
    seconds.
    """

    writer: str
    seq: int
    hash: str
    time: float
    segment: str
    offset: int
    key: str = ""
    signature: str = ""

    def message(self) -> bytes:
        """Return the bytes that are signed."""
        stated = asdict(self)
        del stated["signature"]
        return _DOMAIN + json_bytes(stated)

    def line(self) -> bytes:
        """Return the form that is stored: one line of canonical JSON."""
        return json_bytes(asdict(self)) + b"\n"


def sign(checkpoint: Checkpoint, key: str, signer: Callable[[bytes], bytes]) -> Checkpoint:
    """Return the checkpoint signed by the key of that id."""
    named = replace(checkpoint, key=key, signature="")
    return replace(named, signature=signer(named.message()).hex())


def parse_checkpoint(line: bytes) -> Checkpoint:
    """Return the checkpoint of a stored line. Raises IntegrityError when it is not one, exactly as `line` writes it."""
    try:
        if len(line) > CHECKPOINT_BYTES_MAX:
            raise ValueError
        data = json.loads(line)
        checkpoint = Checkpoint(**data)
        numbers = (checkpoint.seq, checkpoint.offset)
        texts = (checkpoint.writer, checkpoint.hash, checkpoint.segment, checkpoint.key, checkpoint.signature)
        if not all(type(number) is int for number in numbers) or not all(type(text) is str for text in texts):
            raise ValueError
        if type(checkpoint.time) not in (int, float) or len(bytes.fromhex(checkpoint.hash)) != 32:
            raise ValueError
        if bytes.fromhex(checkpoint.signature).hex() != checkpoint.signature:
            raise ValueError
        if checkpoint.line().rstrip(b"\n") != line.rstrip(b"\n"):
            raise ValueError
    except (ValueError, TypeError, RecursionError, ActionError):
        raise IntegrityError("checkpoint cannot be read") from None
    return checkpoint


def verifier(keys: Mapping[str, bytes]) -> Verify:
    """Return the check for signatures of public keys (key id -> 32 raw bytes)."""
    loaded = {key: Ed25519PublicKey.from_public_bytes(raw) for key, raw in keys.items()}

    def check(key: str, signature: bytes, message: bytes) -> bool:
        public = loaded.get(key)
        if public is None:
            return False
        try:
            public.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return check


@dataclass(frozen=True, slots=True)
class Anchors:
    """The checkpoints of one writer that hold: sequence number -> hash, and what was wrong with the others."""

    hashes: Mapping[int, bytes]
    latest: Checkpoint | None
    problems: tuple[str, ...]


def anchors(writer: str, lines: Iterable[bytes], verify: Verify) -> Anchors:
    """Return the anchors among stored checkpoint lines, of every place they were kept in.

    A line without its newline is a write that was cut short and is passed over. Anything else that does not hold is a
    problem: unreadable, of another writer, a signature that fails, or two signed checkpoints that contradict each
    other.
    """
    hashes: dict[int, bytes] = {}
    latest: Checkpoint | None = None
    problems: list[str] = []
    for line in lines:
        if not line.endswith(b"\n"):
            continue
        try:
            checkpoint = parse_checkpoint(line)
        except IntegrityError as error:
            problems.append(str(error))
            continue
        if checkpoint.writer != writer:
            problems.append(f"checkpoint {checkpoint.seq} is of another writer")
        elif not verify(checkpoint.key, bytes.fromhex(checkpoint.signature), checkpoint.message()):
            problems.append(f"checkpoint {checkpoint.seq}: signature does not hold (key {checkpoint.key or '-'})")
        else:
            digest = bytes.fromhex(checkpoint.hash)
            if hashes.setdefault(checkpoint.seq, digest) != digest:
                problems.append(f"checkpoint {checkpoint.seq}: two signed checkpoints contradict each other")
            if latest is None or checkpoint.seq > latest.seq:
                latest = checkpoint
    return Anchors(hashes, latest, tuple(dict.fromkeys(problems)))


def to_json(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the wire form."""
    return asdict(checkpoint)
