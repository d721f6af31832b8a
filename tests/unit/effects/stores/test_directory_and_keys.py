"""The state directory and the keys in it: where they may be, who may read them, what a damaged one does."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from agent_os.core.errors import EffectError, IntegrityError
from agent_os.effects.stores.directory import open_directory, state_path
from agent_os.effects.stores.keys import PURPOSES, Keys, Sealer


def test_the_directory_comes_from_the_environment_or_the_standard_place() -> None:
    """AGENTOS_STATE wins, then XDG_STATE_HOME, then the home directory; a relative setting is an error."""
    assert state_path({"AGENTOS_STATE": "/srv/a", "XDG_STATE_HOME": "/x"}) == Path("/srv/a")
    assert state_path({"XDG_STATE_HOME": "/x"}) == Path("/x/agentos")
    assert state_path({"HOME": "/home/a"}) == Path("/home/a/.local/state/agentos")
    with pytest.raises(EffectError, match="AGENTOS_STATE"):
        state_path({"AGENTOS_STATE": "state"})


def test_loose_permissions_are_refused_with_the_fix(tmp_path: Path) -> None:
    """A directory others may read is refused and the command that mends it is named; 0700 is taken."""
    (tmp_path / "s").mkdir(mode=0o755)
    with pytest.raises(EffectError, match="chmod 700"):
        open_directory(tmp_path / "s")
    (tmp_path / "s").chmod(0o700)
    assert open_directory(tmp_path / "s").name == "s"


def test_a_link_is_refused(tmp_path: Path) -> None:
    """A planted link in place of the directory is not followed."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "s").symlink_to(tmp_path / "real")
    with pytest.raises(EffectError, match="link"):
        open_directory(tmp_path / "s")


def test_state_and_workspace_may_not_contain_each_other(tmp_path: Path) -> None:
    """Neither inside the other, links resolved; beside it is fine."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "alias").symlink_to(work)
    with pytest.raises(EffectError, match="inside the workspace"):
        open_directory(work / "state", workspace=tmp_path / "alias")
    with pytest.raises(EffectError, match="workspace lies inside"):
        open_directory(tmp_path / "state", workspace=tmp_path / "state" / "w")
    open_directory(tmp_path / "other", workspace=work)


def test_keys_are_made_once_and_kept(directory: Path) -> None:
    """Each purpose has a key of its own with its own id; a second opening finds the same ones."""
    first, second = Keys.open(directory / "keys", environment={}), Keys.open(directory / "keys", environment={})
    ids = {purpose: first.current(purpose).id for purpose in PURPOSES}
    assert len(set(ids.values())) == len(PURPOSES)
    assert {purpose: second.current(purpose).id for purpose in PURPOSES} == ids
    assert first.current("audit").secret not in repr(first.current("audit")).encode()


def test_rotation_makes_a_new_current_key_and_keeps_the_old(directory: Path) -> None:
    """What was sealed before a rotation opens after it, in another process too."""
    keys = Keys.open(directory / "keys", environment={})
    old = Sealer(keys, "vault")
    sealed = old.seal(b"x", b"row")
    fresh = keys.rotate("vault")
    assert keys.current("vault").id == fresh.id
    later = Sealer(Keys.open(directory / "keys", environment={}), "vault")
    assert later.open(sealed, b"row") == b"x"
    assert old.open(later.seal(b"y", b"row"), b"row") == b"y", "a running process finds a key made meanwhile"
    assert set(keys.public("audit")) == {key.id for key in keys.existing("audit")}


def test_key_files_are_private_and_checked(directory: Path) -> None:
    """A key others may read is refused, one that was changed is an integrity error, a link is not followed."""
    keys = Keys.open(directory / "keys", environment={})
    path = directory / "keys" / "digest" / f"{keys.current('digest').id}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(EffectError, match="chmod 600"):
        Keys.open(directory / "keys", environment={}).current("digest")
    path.chmod(0o600)
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "secret": base64.b64encode(b"z" * 32).decode()}))
    with pytest.raises(IntegrityError, match="damaged"):
        Keys.open(directory / "keys", environment={}).current("digest")
    path.rename(directory / "moved")
    path.symlink_to(directory / "moved")
    with pytest.raises(EffectError):
        Keys.open(directory / "keys", environment={}).current("digest")


def test_a_key_from_the_environment_wins_and_is_not_written(directory: Path) -> None:
    """Hex and base64 are understood, older keys stay readable, a wrong length is named, rotation is the operator's."""
    secret = os.urandom(32)
    keys = Keys.open(directory / "keys", environment={"AGENTOS_KEY_VAULT": base64.b64encode(secret).decode()})
    assert keys.current("vault").secret == secret
    assert not (directory / "keys" / "vault").exists()
    with pytest.raises(EffectError, match="environment"):
        keys.rotate("vault")
    rotated = Keys.open(
        directory / "keys", environment={"AGENTOS_KEY_VAULT": "ab" * 32, "AGENTOS_KEY_VAULT_OLD": secret.hex()}
    )
    assert Sealer(rotated, "vault").open(Sealer(keys, "vault").seal(b"x", b""), b"") == b"x"
    with pytest.raises(EffectError, match="32 bytes"):
        Keys.open(directory / "keys", environment={"AGENTOS_KEY_VAULT": "abcd"}).current("vault")


def test_sealed_data_is_bound_to_its_place(keys: Keys) -> None:
    """A changed byte, another context or an unknown key does not open."""
    sealer = Sealer(keys, "payload")
    sealed = sealer.seal(b"secret", b"a")
    assert sealer.open(sealed, b"a") == b"secret"
    for wrong, context in ((sealed, b"b"), (sealed[:-1] + b"\0", b"a"), (sealed[:30], b"a")):
        with pytest.raises(IntegrityError):
            sealer.open(wrong, context)
    with pytest.raises(EffectError, match="no payload key"):
        sealer.open(b"\0" * 8 + sealed[8:], b"a")
