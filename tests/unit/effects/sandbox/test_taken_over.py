"""How much a run may take of a disk, while it runs and when its changes are taken over; what of the host a diff shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_os.core.errors import EffectError
from agent_os.effects.sandbox import room, snapshot
from agent_os.effects.sandbox.room import Room, written_to
from agent_os.effects.sandbox.snapshot import Snapshot
from agent_os.guards.confine.plan import Mount

HOLE = 1 << 30


@pytest.fixture
def changes(tmp_path: Path) -> Snapshot:
    """A snapshot whose changes the test writes itself, as a program would have left them."""
    (tmp_path / "ws").mkdir()
    made = Snapshot(tmp_path / "state", str(tmp_path / "ws"), "try")
    made.create()
    return made


def test_every_disk_a_run_writes_to_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ATTACK: a snapshot's changes lie on another disk than the workspace; files are counted where bytes are none."""
    mounts = [
        Mount("bind", "/usr", "/usr"),
        Mount("bind", "/dev/null", "/dev/null", writable=True, devices=True),
        Mount("overlay", "/ws", "/ws", upper=str(tmp_path), writable=True),
        Mount("bind", "/out", "/gone", writable=True),
    ]
    assert written_to(mounts) == [str(tmp_path), "/gone"]
    free = iter([(1000, 50), (900, 20), (2000, 60)])
    monkeypatch.setattr(room, "_free", lambda _path: next(free))
    watched = Room(written_to(mounts))
    assert watched.taken() == (100, 30)
    assert watched.taken() == (0, 0), "what others gave back is no room taken"


def test_a_hole_stays_a_hole(changes: Snapshot) -> None:
    """ATTACK: a file of a gigabyte that holds three bytes costs a gigabyte when it is taken over."""
    with open(changes.upper / "sparse", "wb") as file:
        file.write(b"a")
        file.seek(HOLE // 2)
        file.write(b"b")
        file.seek(HOLE - 1)
        file.write(b"c")
    with open(changes.upper / "empty", "wb") as file:
        file.truncate(HOLE)
    changes.commit()
    for name, parts in (("sparse", b"abc"), ("empty", b"\0\0\0")):
        info = os.stat(os.path.join(changes.workspace, name))
        assert (info.st_size, info.st_blocks * 512 < 1 << 20) == (HOLE, True)
        with open(os.path.join(changes.workspace, name), "rb") as file:
            assert bytes(os.pread(file.fileno(), 1, at)[0] for at in (0, HOLE // 2, HOLE - 1)) == parts


def test_names_of_one_file_are_not_many_times_its_room(changes: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """ATTACK: a thousand names of one large file, each of which becomes a file; twin: some names are taken over."""
    monkeypatch.setattr(snapshot, "LINKED_BYTES_MAX", 100_000)
    (changes.upper / "h").write_bytes(os.urandom(40_960))
    for number in range(4):
        os.link(changes.upper / "h", changes.upper / f"h{number}")
    with pytest.raises(EffectError, match="hard links"):
        changes.commit()
    assert os.listdir(changes.workspace) == []
    for number in range(2):
        (changes.upper / f"h{number}").unlink()
    changes.commit()
    assert sorted(os.listdir(changes.workspace)) == ["h", "h2", "h3"]


def test_what_does_not_fit_changes_nothing(changes: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that the disk has no room for is refused before its first file."""
    (changes.upper / "a").write_bytes(os.urandom(8192))
    monkeypatch.setattr(snapshot, "room_of", lambda _info: 1 << 60)
    with pytest.raises(EffectError, match="more than the workspace's disk has free"):
        changes.commit()
    assert os.listdir(changes.workspace) == []


@pytest.mark.parametrize("link", ["d", "d/e"])
def test_a_diff_shows_nothing_behind_a_link_in_the_workspace(changes: Snapshot, tmp_path: Path, link: str) -> None:
    """ATTACK: one run leaves a link to the person's keys, the next puts a folder in its place: `diff` printed the keys.

    Twin: a file that lies in the workspace is compared with what it was.
    """
    (tmp_path / "keys/e").mkdir(parents=True)
    for name in ("keys/secret", "keys/e/secret"):
        (tmp_path / name).write_text("SECRET of the host")
    workspace = Path(changes.workspace)
    if link == "d/e":
        (workspace / "d").mkdir()
    (workspace / link).symlink_to(tmp_path / "keys")
    (workspace / "own").write_text("before")
    (changes.upper / "d/e").mkdir(parents=True)
    (changes.upper / "own").write_text("after")
    for name in ("d/secret", "d/e/secret"):
        (changes.upper / name).write_text("x")
    found = {change.path: change.change for change in changes.changes()}
    assert (found["d/secret"], found["d/e/secret"], found["own"]) == ("added", "added", "modified")
    assert [changes.texts(name) for name in ("d/secret", "d/e/secret")] == [("", "x"), ("", "x")]
    assert changes.texts("own") == ("before", "after")
