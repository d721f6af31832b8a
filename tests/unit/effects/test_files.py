"""`effects/files.py` on a real file system: what each file action does and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_os.core.action import FsDelete, FsList, FsRead, FsWrite
from agent_os.core.carried import Carried
from agent_os.core.errors import ActionError, EffectError
from agent_os.core.ports import Permit
from agent_os.effects.files import Files
from agent_os.effects.links import KernelLinks

PERMIT = Permit("n", "a", "f", "k")


class Desk:
    """A workspace with a file effector over it."""

    def __init__(self, root: Path) -> None:
        self.root, self.carried = root / "ws", Carried()
        self.root.mkdir()
        (root / "outside").mkdir()
        self.files = Files(writable=[str(self.root)], readable=[str(root / "ro")], carried=self.carried)

    async def read(self, name: str) -> bytes:
        return (await self.files.execute(PERMIT, FsRead(path=str(self.root / name)))).value

    async def write(self, name: str, content: bytes) -> dict[str, object]:
        with self.carried.hold(content) as digest:
            action = FsWrite(path=str(self.root / name), size=len(content), content_digest=digest)
            return (await self.files.execute(PERMIT, action)).value


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "ro").mkdir()
    return Desk(tmp_path)


async def test_write_then_read_gives_the_same_bytes(desk: Desk) -> None:
    """A written file holds exactly the content, parents are made, and no temporary file is left."""
    assert (await desk.write("a/b/c.txt", b"one"))["created"] is True
    assert await desk.read("a/b/c.txt") == b"one"
    assert os.listdir(desk.root / "a/b") == ["c.txt"]


async def test_write_replaces_atomically_and_keeps_permissions(desk: Desk) -> None:
    """Replacing gives a new inode with the old permission bits, so a reader sees the old or the new file whole."""
    target = desk.root / "run.sh"
    target.write_text("old")
    target.chmod(0o750)
    before = target.stat().st_ino
    assert (await desk.write("run.sh", b"new"))["created"] is False
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o750
    assert target.stat().st_ino != before


async def test_write_of_other_bytes_than_judged_is_refused(desk: Desk) -> None:
    """The content is looked up by the digest in the action; without it in flight nothing is written."""
    action = FsWrite(path=str(desk.root / "x"), size=3, content_digest="sha256:" + "0" * 64)
    with pytest.raises(EffectError, match="not in flight"):
        await desk.files.execute(PERMIT, action)
    with desk.carried.hold(b"abc") as digest, pytest.raises(EffectError, match="not what the action says"):
        await desk.files.execute(PERMIT, FsWrite(path=str(desk.root / "x"), size=4, content_digest=digest))
    assert not (desk.root / "x").exists()


async def test_list_names_types_and_sizes(desk: Desk) -> None:
    """A listing is sorted and never follows links."""
    (desk.root / "d").mkdir()
    (desk.root / "b.txt").write_text("12345")
    (desk.root / "l").symlink_to("/etc/passwd")
    value = (await desk.files.execute(PERMIT, FsList(path=str(desk.root)))).value
    assert [(entry["name"], entry["type"]) for entry in value["entries"]] == [
        ("b.txt", "file"), ("d", "directory"), ("l", "link"),
    ]  # fmt: skip
    assert value["entries"][0]["size"] == 5


async def test_delete_removes_files_links_and_empty_directories(desk: Desk) -> None:
    """Deleting a link removes the link; a directory with content stays."""
    outside = desk.root.parent / "outside/keep.txt"
    outside.write_text("keep")
    (desk.root / "l").symlink_to(outside)
    (desk.root / "d").mkdir()
    (desk.root / "d/x").write_text("x")
    await desk.files.execute(PERMIT, FsDelete(path=str(desk.root / "l")))
    assert outside.read_text() == "keep"
    with pytest.raises(EffectError, match="not empty"):
        await desk.files.execute(PERMIT, FsDelete(path=str(desk.root / "d")))
    await desk.files.execute(PERMIT, FsDelete(path=str(desk.root / "d/x")))
    await desk.files.execute(PERMIT, FsDelete(path=str(desk.root / "d")))
    assert os.listdir(desk.root) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [("/etc/hostname", "no granted root"), ("{outside}/x", "no granted root"), ("{root}/none", "does not exist"),
     ("{root}", "is a directory"), ("{root}x/y", "no granted root")],
)  # fmt: skip
async def test_reads_outside_the_roots_fail(desk: Desk, path: str, said: str) -> None:
    """Nothing outside the granted roots is opened, and a name that only begins like a root is outside."""
    full = path.format(outside=desk.root.parent / "outside", root=desk.root)
    with pytest.raises(EffectError, match=said):
        await desk.files.execute(PERMIT, FsRead(path=full))


async def test_read_only_roots_cannot_be_written(desk: Desk) -> None:
    """A readable root is not a writable one."""
    (desk.root.parent / "ro/x").write_text("x")
    path = str(desk.root.parent / "ro/x")
    assert (await desk.files.execute(PERMIT, FsRead(path=path))).value == b"x"
    with desk.carried.hold(b"y") as digest, pytest.raises(EffectError, match="read-only"):
        await desk.files.execute(PERMIT, FsWrite(path=path, size=1, content_digest=digest))
    with pytest.raises(EffectError, match="read-only"):
        await desk.files.execute(PERMIT, FsDelete(path=path))


async def test_a_single_file_can_be_granted(tmp_path: Path) -> None:
    """A granted file opens alone: nothing beside it and nothing "below" it."""
    (tmp_path / "one.txt").write_text("one")
    (tmp_path / "two.txt").write_text("two")
    files = Files(writable=[], readable=[str(tmp_path / "one.txt")], carried=Carried())
    assert (await files.execute(PERMIT, FsRead(path=str(tmp_path / "one.txt")))).value == b"one"
    for name in ("two.txt", "one.txt/x", "."):
        with pytest.raises(EffectError):
            await files.execute(PERMIT, FsRead(path=str(tmp_path / name)))
    files.close()


async def test_a_root_itself_cannot_be_deleted(desk: Desk) -> None:
    """The granted root stays."""
    with pytest.raises(EffectError, match="granted root itself"):
        await desk.files.execute(PERMIT, FsDelete(path=str(desk.root)))


def test_links_are_resolved_as_the_kernel_does(tmp_path: Path) -> None:
    """Existing, dangling and missing parts all come out without links."""
    (tmp_path / "real/sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("real/../none/deep")
    links, base = KernelLinks(), str(tmp_path.resolve())
    assert links.resolve(f"{base}/link/sub") == f"{base}/real/sub"
    assert links.resolve(f"{base}/link/new/file") == f"{base}/real/new/file"
    assert links.resolve(f"{base}/dangling/x") == f"{base}/none/deep/x"
    assert links.resolve(f"{base}/real/none") == f"{base}/real/none"
    assert links.resolve("/") == "/"


def test_link_loops_and_magic_links_are_errors(tmp_path: Path) -> None:
    """`/proc/self/root` and loops have no canonical name; `/proc/self` itself is an ordinary link."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    links = KernelLinks()
    for path in (f"{tmp_path}/a", "/proc/self/root/etc/passwd", "/proc/self/fd/0", "/proc/self/cwd/x"):
        with pytest.raises(ActionError, match="link"):
            links.resolve(path)
    assert links.resolve("/proc/self/status") == f"/proc/{os.getpid()}/status"


def test_carried_bytes_are_bounded_and_dropped() -> None:
    """Bytes leave the table with the last holder; one byte over the bound is refused."""
    carried = Carried(bytes_max=4)
    with carried.hold(b"abcd") as digest:
        with carried.hold(b"abcd"):
            assert carried.bytes_for(digest) == b"abcd"
        with pytest.raises(ActionError, match="in flight"), carried.hold(b"e"):
            pass
    with pytest.raises(EffectError):
        carried.bytes_for(digest)
