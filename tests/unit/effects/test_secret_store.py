"""Where secrets are kept: environment, closed file, the system's keyring, the sealed vault; nothing else is read."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from agent_os.core.errors import EffectError
from agent_os.effects import secret_store
from agent_os.effects.secret_store import SecretStores, Source, list_secrets, put_secret, remove_secret
from agent_os.runtime.state import open_state

keyring = pytest.importorskip("keyring", reason="needs the extra [keyring]")
VALUE = "the-real-key-123"


def stores(kind: str, key: str = "", *, environment: dict[str, str] | None = None) -> SecretStores:
    """A store with one secret named K."""
    return SecretStores({"K": Source(kind, key)}, vault=None, environment=environment or {})


async def test_the_environment_is_read_by_the_names_that_policy_gives() -> None:
    """Only a secret that policy names is looked up, under its key; an absent one is None."""
    environment = {"REAL": VALUE, "OTHER": "x"}
    found = await stores("env", "REAL", environment=environment).get("K")
    assert found is not None
    assert found.value == VALUE
    assert VALUE not in repr(found)
    assert await stores("env", "ABSENT", environment=environment).get("K") is None
    assert await stores("env", "REAL", environment=environment).get("OTHER") is None


async def test_a_file_must_be_closed_to_others(tmp_path: Path) -> None:
    """A file of mode 0600 is read; one that others can read, a link, a folder, a pipe, a large or binary one is not."""
    good = tmp_path / "key"
    good.write_text(VALUE + "\n")
    good.chmod(0o600)
    found = await stores("file", str(good)).get("K")
    assert found is not None
    assert found.value == VALUE
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, data in (("open", b"x"), ("large", b"x" * 70_000), ("binary", b"\xff\xfe")):
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    for name in ("link", "folder", "pipe", "open", "large", "binary", "absent"):
        with pytest.raises(EffectError) as caught:
            await stores("file", str(tmp_path / name)).get("K")
        assert VALUE not in str(caught.value)


class FileRing(keyring.backend.KeyringBackend):  # type: ignore[misc,name-defined]
    """A backend of the real `keyring` package that keeps its entries in memory; it can fail, or never answer."""

    priority = 1
    mood = ""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.released = threading.Event()

    def get_password(self, service: str, username: str) -> str | None:
        if self.mood == "fail":
            raise keyring.errors.KeyringLocked("locked " + VALUE)
        if self.mood == "hang":
            self.released.wait(20)
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


async def test_the_systems_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of the service `agentos` are read; a locked, failing, silent or absent keyring is an error, not a stall."""
    before, ring = keyring.get_keyring(), FileRing()
    keyring.set_keyring(ring)
    try:
        keyring.set_password("agentos", "work-key", VALUE)
        keyring.set_password("other", "stolen", VALUE)
        found = await stores("keyring", "work-key").get("K")
        assert found is not None
        assert found.value == VALUE
        assert await stores("keyring", "stolen").get("K") is None
        ring.mood = "fail"
        with pytest.raises(EffectError, match="KeyringLocked") as caught:
            await stores("keyring", "work-key").get("K")
        assert VALUE not in str(caught.value)
        ring.mood = "hang"
        monkeypatch.setattr(secret_store, "KEYRING_SECONDS_MAX", 0.2)
        with pytest.raises(EffectError, match="in time"):
            await stores("keyring", "work-key").get("K")
        ring.released.set()
        monkeypatch.setattr(secret_store, "KEYRING_SECONDS_MAX", 10.0)
        keyring.set_keyring(keyring.backends.fail.Keyring())
        with pytest.raises(EffectError, match="NoKeyringError"):
            await stores("keyring", "work-key").get("K")
    finally:
        ring.released.set()
        keyring.set_keyring(before)


async def test_the_vault_is_sealed_on_disk_and_carries_its_own_bindings(tmp_path: Path) -> None:
    """Neither value nor destination stands on the disk; a removed secret is gone; another installation cannot read it."""
    (tmp_path / "w").mkdir()
    state = open_state(workspace=str(tmp_path / "w"), environment={"AGENTOS_STATE": str(tmp_path / "state")})
    try:
        vault = state.stores.vault
        await put_secret(vault, "K", VALUE, ["api.corp.example:443"])
        found = await SecretStores({"K": Source("vault")}, vault=vault, environment={}).get("K")
        assert found is not None
        assert found.value == VALUE
        assert found.bound_to("api.corp.example", 443)
        assert not found.bound_to("evil.example", 443)
        assert [row["name"] for row in await list_secrets(vault)] == ["K"]
        on_disk = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
        assert VALUE.encode() not in on_disk
        assert b"api.corp.example" not in on_disk
        assert await remove_secret(vault, "K")
        assert await SecretStores({"K": Source("vault")}, vault=vault, environment={}).get("K") is None
    finally:
        state.close()


async def test_a_closed_vault_and_an_unknown_source_are_errors() -> None:
    """A source that is not there is never taken for an empty one."""
    for kind in ("vault", "clipboard"):
        with pytest.raises(EffectError):
            await stores(kind).get("K")
