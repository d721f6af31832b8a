"""The runtime's own keys: one set a purpose, each key with an id, rotation, and files only their owner can read.

Purposes are kept apart, so that who may read one kind of data cannot forge another: `audit` (Ed25519, signs
checkpoints), `digest` (HMAC of what the audit does not hold), `vault` and `payload` (wrap data keys), `ca` (the local
certificate authority's seed), `bundle` (Ed25519, signs policy bundles).
A purpose comes from one provider: files under `keys/` (the default), an environment variable `AGENTOS_KEY_<PURPOSE>`
(32 bytes in base64, or in hex), or the operating system's keyring. Rotation makes a new current key and keeps the old
ones for reading. Threat: keys readable by other users, or a key file swapped for a link. Not stopped here: the same
user.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import importlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent_os.core.errors import EffectError, IntegrityError, MissingPartError

PURPOSES: Final = ("audit", "digest", "vault", "payload", "ca", "bundle")
SIGNING: Final = frozenset({"audit", "bundle"})
KEY_BYTES: Final = 32
KEYS_PER_PURPOSE_MAX: Final = 1_000
_FILE: Final = re.compile(r"\A[0-9a-f]{16}\.json\Z")
_KEYRING_SERVICE: Final = "agent-os"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `secret` never shows in a repr, a log or an error; `created` is Unix seconds."""

    purpose: str
    secret: bytes = field(repr=False)
    created: float = 0.0
    provider: str = "file"

    @property
    def id(self) -> str:
        """16 hex digits derived from the public half, or from a one-way digest of the secret."""
        shown = self.public if self.purpose in SIGNING else hashlib.sha256(b"agent-os key id\0" + self.secret).digest()
        return hashlib.sha256(self.purpose.encode() + b"\0" + shown).hexdigest()[:16]

    @property
    def public(self) -> bytes:
        """The raw public half of a signing key; empty for others."""
        if self.purpose not in SIGNING:
            return b""
        return Ed25519PrivateKey.from_private_bytes(self.secret).public_key().public_bytes_raw()

    def signer(self) -> Callable[[bytes], bytes]:
        """Return the Ed25519 signer of a signing key."""
        if self.purpose not in SIGNING:
            raise EffectError(f"key of purpose {self.purpose!r} does not sign")
        return Ed25519PrivateKey.from_private_bytes(self.secret).sign


class KeyProvider(Protocol):
    """Where the keys of some purposes live."""

    name: str

    def load(self, purpose: str) -> list[Key]:
        """Return the keys of a purpose, oldest first; none if there is none yet. Raises EffectError."""
        ...

    def store(self, key: Key) -> None:
        """Keep a new key. Raises EffectError where the provider is read-only."""
        ...

    def lock(self) -> Any:
        """Return a context manager that keeps other processes from creating keys meanwhile."""
        ...


class FileKeys:
    """`keys/<purpose>/<id>.json`, 0600, in directories of 0700; refuses links and files others may read."""

    name = "file"

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, purpose: str) -> list[Key]:
        folder = self._directory / purpose
        try:
            names = sorted(name for name in os.listdir(folder) if _FILE.match(name))[:KEYS_PER_PURPOSE_MAX]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise EffectError(f"keys cannot be read: {error.strerror}: {folder}") from None
        keys = [self._read(folder / name, purpose) for name in names]
        return sorted(keys, key=lambda key: (key.created, key.id))

    def _read(self, path: Path, purpose: str) -> Key:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                data = json.loads(file.read(4096))
            secret = base64.b64decode(data["secret"], validate=True)
            key = Key(purpose, secret, float(data["created"]))
        except OSError as error:
            raise EffectError(f"key cannot be read: {error.strerror}: {path}") from None
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"key file is damaged: {path}") from None
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise EffectError(f"key file may be read by others: {path} (fix: chmod 600, owned by you)")
        if len(secret) != KEY_BYTES or data.get("purpose") != purpose or key.id != path.stem:
            raise IntegrityError(f"key file is damaged: {path}")
        return key

    def store(self, key: Key) -> None:
        folder = self._directory / key.purpose
        data = {"purpose": key.purpose, "created": key.created, "secret": base64.b64encode(key.secret).decode()}
        path, fresh = folder / f"{key.id}.json", folder / f".{key.id}.new"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(data).encode())
                file.flush()
                os.fsync(descriptor)
            os.replace(fresh, path)
        except OSError as error:
            raise EffectError(f"key cannot be written: {error.strerror}: {path}") from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory's lock, so that two processes starting together make one key and not two."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(
                self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise EffectError(f"key directory cannot be used: {error.strerror}: {self._directory}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class EnvKeys:
    """One key a purpose from the environment; rotated by whoever sets it. Older ones: `AGENTOS_KEY_<PURPOSE>_OLD`."""

    name = "env"

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def load(self, purpose: str) -> list[Key]:
        variable = f"AGENTOS_KEY_{purpose.upper()}"
        older = [text for text in self._environment.get(f"{variable}_OLD", "").split(",") if text]
        current = self._environment.get(variable, "")
        if not current:
            return []
        return [Key(purpose, _decode(text, variable), float(age), "env") for age, text in enumerate([*older, current])]

    def store(self, key: Key) -> None:
        raise EffectError(f"keys of purpose {key.purpose!r} come from the environment: rotate AGENTOS_KEY_* there")

    @contextmanager
    def lock(self) -> Iterator[None]:
        yield


class KeyringKeys:
    """The operating system's keyring through the `keyring` package (extra `[keyring]`)."""

    name = "keyring"

    def __init__(self) -> None:
        try:
            self._keyring: Any = importlib.import_module("keyring")
        except ImportError:
            raise MissingPartError("keyring", "keyring") from None

    def load(self, purpose: str) -> list[Key]:
        try:
            text = self._keyring.get_password(_KEYRING_SERVICE, purpose)
        except Exception as error:
            raise EffectError(f"keyring cannot be read: {type(error).__name__}") from None
        try:
            entries = json.loads(text) if text else []
            return [Key(purpose, _decode(each["secret"], "keyring"), each["created"], "keyring") for each in entries]
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"keyring entry of {purpose!r} is damaged") from None

    def store(self, key: Key) -> None:
        entries = [
            {"secret": base64.b64encode(each.secret).decode(), "created": each.created}
            for each in [*self.load(key.purpose), key]
        ]
        try:
            self._keyring.set_password(_KEYRING_SERVICE, key.purpose, json.dumps(entries))
        except Exception as error:
            raise EffectError(f"keyring cannot be written: {type(error).__name__}") from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        yield


def _decode(text: str, source: str) -> bytes:
    for decode in (bytes.fromhex, lambda each: base64.b64decode(each, validate=True)):
        try:
            secret = decode(text.strip())
        except (ValueError, binascii.Error):
            continue
        if len(secret) == KEY_BYTES:
            return secret
    raise EffectError(f"{source}: a key is {KEY_BYTES} bytes in hex or base64")


class Keys:
    """Every key of one installation. A purpose whose variable is set in the environment comes from there."""

    def __init__(
        self,
        provider: KeyProvider,
        *,
        environment: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._provider, self._env, self._now = provider, EnvKeys(environment or {}), now
        self._loaded: dict[str, list[Key]] = {}

    @staticmethod
    def open(directory: Path, *, environment: Mapping[str, str] | None = None, provider: str = "file") -> Keys:
        """Return the keys under a directory; `provider` is `file` or `keyring`. Environment variables win."""
        if provider not in ("file", "keyring"):
            raise EffectError(f"unknown key provider {provider!r} (one of file, keyring; env needs no naming)")
        chosen: KeyProvider = KeyringKeys() if provider == "keyring" else FileKeys(directory)
        return Keys(chosen, environment=os.environ if environment is None else environment)

    def all(self, purpose: str) -> list[Key]:
        """Return the keys of a purpose, oldest first; makes the first one."""
        if purpose not in PURPOSES:
            raise EffectError(f"unknown purpose {purpose!r} (one of {', '.join(PURPOSES)})")
        if purpose not in self._loaded:
            keys = self._env.load(purpose) or self._provider.load(purpose)
            if not keys:
                with self._provider.lock():
                    keys = self._provider.load(purpose) or [self._create(purpose)]
            self._loaded[purpose] = keys
        return self._loaded[purpose]

    def existing(self, purpose: str) -> list[Key]:
        """Return the keys of a purpose without making one."""
        return self._env.load(purpose) or self._provider.load(purpose)

    def current(self, purpose: str) -> Key:
        """Return the key to use for new data."""
        return self.all(purpose)[-1]

    def find(self, purpose: str, key_id: str) -> Key:
        """Return a key by its id; keys that another process made meanwhile are found. Raises EffectError."""
        for attempt in range(2):
            for key in self.all(purpose):
                if key.id == key_id:
                    return key
            if attempt == 0:
                self._loaded.pop(purpose, None)
        raise EffectError(f"no {purpose} key {key_id}: it was removed, or data of another installation is read")

    def rotate(self, purpose: str) -> Key:
        """Make a new current key; the older ones stay for reading."""
        self.all(purpose)
        if self._env.load(purpose):
            self._env.store(self._loaded[purpose][-1])
        with self._provider.lock():
            key = self._create(purpose)
        self._loaded.pop(purpose, None)
        return key

    def public(self, purpose: str = "audit") -> dict[str, bytes]:
        """Return key id -> raw public key of a signing purpose, without making a key."""
        return {key.id: key.public for key in self.existing(purpose)}

    def _create(self, purpose: str) -> Key:
        key = Key(purpose, secrets.token_bytes(KEY_BYTES), self._now(), self._provider.name)
        self._provider.store(key)
        return key


class Sealer:
    """Authenticated encryption under the keys of one purpose: AES-256-GCM, 96-bit random nonces.

    `seal` -> key id (8 bytes), nonce (12), ciphertext and tag; `context` is authenticated, not stored: text moved to
    another row does not open there.
    """

    def __init__(self, keys: Keys, purpose: str) -> None:
        self._keys, self._purpose = keys, purpose
        current = keys.current(purpose)
        self._current = (bytes.fromhex(current.id), AESGCM(current.secret))
        self._ciphers = dict([self._current])

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Return the sealed form of plain bytes."""
        key_id, cipher = self._current
        nonce = os.urandom(12)
        return key_id + nonce + cipher.encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the plain bytes. Raises IntegrityError when they were changed or belong elsewhere."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        key_id = bytes(sealed[:8])
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            cipher = self._ciphers[key_id] = AESGCM(self._keys.find(self._purpose, key_id.hex()).secret)
        try:
            return cipher.decrypt(bytes(sealed[8:20]), bytes(sealed[20:]), context)
        except (InvalidTag, ValueError):
            raise IntegrityError(f"stored {self._purpose} data was changed or is of another place") from None
