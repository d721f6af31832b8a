"""The desktop's keyring for real: a Secret Service daemon on a message bus of its own, the vault's key and a secret in it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MISSING = [name for name in ("dbus-run-session", "gnome-keyring-daemon") if shutil.which(name) is None]
MISSING += [name for name in ("keyring", "secretstorage") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

PROGRAM = """
import asyncio, keyring, os
from agent_os.effects.secret_store import SecretStores, Source
from agent_os.core.errors import EffectError

assert type(keyring.get_keyring()).__module__ == "keyring.backends.SecretService", keyring.get_keyring()
store = SecretStores({"API_KEY": Source("keyring", "work-key"), "NONE": Source("keyring", "absent")}, vault=None, environment={})

async def main():
    print("before", await store.get("API_KEY"))
    keyring.set_password("agentos", "work-key", "a-key-of-the-desktop")
    keyring.set_password("someone-else", "work-key", "not for us")
    found = await store.get("API_KEY")
    print("found", found.value, "in its representation" if "desktop" in repr(found) else "not in its representation")
    print("absent", await store.get("NONE"))
    if os.environ.get("LOCK"):
        import secretstorage
        secretstorage.get_default_collection(secretstorage.dbus_init()).lock()
        try:
            print("locked", await store.get("API_KEY"))
        except EffectError as error:
            print("locked:", error)

asyncio.run(main())
"""


def session(folder: Path, **more: str) -> str:
    """Run the program with a bus, a home and an unlocked keyring of its own; return what it printed."""
    script = (
        'printf "the login password" | gnome-keyring-daemon --unlock --components=secrets >/dev/null; exec "$0" -c "$1"'
    )
    environment = {
        **os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), "XDG_RUNTIME_DIR": str(folder / "run"),
        "PYTHONPATH": str(ROOT), "PYTHON_KEYRING_BACKEND": "keyring.backends.SecretService.Keyring", **more,
    }  # fmt: skip
    (folder / "run").mkdir(mode=0o700)
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", script, sys.executable, PROGRAM],
        env=environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    if "was not provided by any .service files" in done.stderr or "ServiceUnknown" in done.stderr:
        pytest.skip(f"the daemon does not run here: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_secret_comes_from_the_secret_service(tmp_path: Path) -> None:
    """An entry of the service `agentos` is found, one of another service is not, and an absent one is no error."""
    assert session(tmp_path).splitlines() == [
        "before None",
        "found a-key-of-the-desktop not in its representation",
        "absent None",
    ]


def test_a_locked_keyring_is_an_error_and_no_stall(tmp_path: Path) -> None:
    """With nobody there to unlock it, the store says so within its deadline."""
    assert "locked: the keyring" in session(tmp_path, LOCK="1").splitlines()[-1]
