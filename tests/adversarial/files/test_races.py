"""Attacks on the file effects: races with real threads, links, FIFOs, magic links, huge files; each with a benign twin."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_os import ActionError, AgentOS, DeniedError, EffectError, Policy
from agent_os.core.action import FsRead, FsWrite
from agent_os.core.carried import Carried
from agent_os.core.ports import Permit
from agent_os.effects.files import Files

PERMIT = Permit("n", "a", "f", "k")
RACE_SECONDS = 1.0
RENAME_EXCHANGE = 2
POLICY = Policy.parse("""
version: 1
filesystem_policy: {read_only: [inbox], read_write: [out], deny: [secret]}
tools: {read_file: {allow: true}, write_file: {allow: true}, edit_file: {allow: true}, search_files: {allow: true},
        list_files: {allow: true}, delete_file: {allow: true}}
""")


@contextmanager
def swapping(one: Path, two: Path) -> Iterator[None]:
    """Exchange two paths atomically, over and over, from another thread (renameat2 with RENAME_EXCHANGE)."""
    libc, stop = ctypes.CDLL(None), threading.Event()

    def swap() -> None:
        while not stop.is_set():
            libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(two), RENAME_EXCHANGE)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def tree(root: Path) -> Path:
    """Make a workspace with an inbox and a secret beside a decoy directory."""
    for name in ("ws/inbox", "ws/out", "ws/secret", "outside"):
        (root / name).mkdir(parents=True)
    (root / "ws/inbox/a.txt").write_text("public")
    (root / "ws/secret/a.txt").write_text("SECRET")
    (root / "outside/a.txt").write_text("SECRET")
    return root / "ws"


def until(seconds: float, attempt: Callable[[], Any]) -> int:
    """Repeat an attempt for some time; return how often."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        attempt()
        count += 1
    return count


@pytest.mark.parametrize("target", ["../secret", "../../outside"])
def test_a_directory_swapped_for_a_link_is_never_followed(tmp_path: Path, target: str) -> None:
    """While `inbox/sub` flips between a directory and a link to the secret, no read ever returns the secret."""
    workspace = tree(tmp_path)
    (workspace / "inbox/sub").mkdir()
    (workspace / "inbox/sub/a.txt").write_text("public")
    (workspace / "inbox/link").symlink_to(target)
    files = Files(writable=[str(workspace)], carried=Carried())
    got: set[str] = set()
    action = FsRead(path=str(workspace / "inbox/sub/a.txt"))

    def read() -> None:
        try:
            got.add(asyncio.run(files.execute(PERMIT, action)).value.decode())
        except EffectError as error:
            got.add(f"error: {error}")

    with swapping(workspace / "inbox/sub", workspace / "inbox/link"):
        until(RACE_SECONDS, read)
    assert "SECRET" not in "".join(got)
    assert "public" in got
    assert any("link appeared" in said for said in got)
    files.close()


def test_a_write_never_lands_outside_while_its_directory_is_swapped(tmp_path: Path) -> None:
    """While `out/sub` flips between a directory and a link to the outside, nothing is ever written outside."""
    workspace = tree(tmp_path)
    (workspace / "out/sub").mkdir()
    (workspace / "out/link").symlink_to("../../outside")
    carried = Carried()
    files = Files(writable=[str(workspace)], carried=carried)
    done: list[str] = []

    def write() -> None:
        with carried.hold(b"new") as digest:
            action = FsWrite(path=str(workspace / "out/sub/w.txt"), size=3, content_digest=digest)
            try:
                asyncio.run(files.execute(PERMIT, action))
                done.append("written")
            except EffectError as error:
                done.append(str(error))

    with swapping(workspace / "out/sub", workspace / "out/link"):
        until(RACE_SECONDS, write)
    assert sorted(os.listdir(tmp_path / "outside")) == ["a.txt"]
    assert "written" in done
    leftovers = [name for base, _, names in os.walk(workspace) for name in names if name.endswith(".tmp")]
    assert leftovers == []
    files.close()


def test_the_file_itself_swapped_for_a_link_is_not_followed(tmp_path: Path) -> None:
    """The last component flips between a file and a link to the secret: reads give the file or an error."""
    workspace = tree(tmp_path)
    (workspace / "inbox/evil").symlink_to("../secret/a.txt")
    with AgentOS.open(POLICY, workspace=workspace, state=tmp_path / "state") as session:
        got: set[str] = set()

        def read() -> None:
            try:
                outcome: Any = session.perform({"kind": "fs.read", "path": "inbox/a.txt"})
                got.add(outcome.value.decode() if outcome.ok else outcome.detail)
            except DeniedError:
                got.add("denied")

        with swapping(workspace / "inbox/a.txt", workspace / "inbox/evil"):
            until(RACE_SECONDS, read)
    assert "SECRET" not in "".join(got)
    assert "public" in got
    assert "denied" in got


@pytest.fixture
def session(tmp_path: Path) -> Iterator[AgentOS]:
    """A session over the tree."""
    workspace = tree(tmp_path)
    with AgentOS.open(POLICY, workspace=workspace, state=tmp_path / "state") as opened:
        yield opened


def outcome(session: AgentOS, tool: str, **args: Any) -> Any:
    return session.perform({"kind": "tool.call", "tool": tool, "args": args})


@pytest.mark.parametrize(
    "link", ["inbox/link/a.txt", "inbox/file", "inbox/abs", "inbox/../secret/a.txt", "inbox/chain"]
)
def test_links_are_judged_by_where_they_lead(session: AgentOS, link: str) -> None:
    """A link into a denied directory is denied by that directory's rule; a link inside the inbox is read."""
    workspace = Path(session.workspace)
    (workspace / "inbox/link").symlink_to("../secret")
    (workspace / "inbox/file").symlink_to("../secret/a.txt")
    (workspace / "inbox/abs").symlink_to(workspace / "secret/a.txt")
    (workspace / "inbox/chain").symlink_to("file")
    (workspace / "inbox/fine").symlink_to("a.txt")
    with pytest.raises(DeniedError):
        session.perform({"kind": "fs.read", "path": link})
    with pytest.raises(DeniedError):
        outcome(session, "read_file", path=link)
    assert outcome(session, "read_file", path="inbox/fine").value["content"] == "public"


@pytest.mark.parametrize(
    "path", ["/proc/self/root/etc/hostname", "/proc/self/cwd/inbox/a.txt", "/proc/self/fd/0", "inbox/loop"]
)
def test_magic_links_and_loops_have_no_name(session: AgentOS, path: str) -> None:
    """What has no canonical path is no action; the same file by its own name is read."""
    (Path(session.workspace) / "inbox/loop").symlink_to("loop")
    with pytest.raises((ActionError, DeniedError)):
        session.perform({"kind": "fs.read", "path": path})
    assert session.perform({"kind": "fs.read", "path": "inbox/a.txt"}).value == b"public"  # type: ignore[union-attr]


def test_a_hard_link_does_not_give_a_second_name(session: AgentOS) -> None:
    """A hard link in the inbox to the secret is not read; writing to one replaces the name, not the secret."""
    workspace = Path(session.workspace)
    os.link(workspace / "secret/a.txt", workspace / "inbox/hard.txt")
    os.link(workspace / "secret/a.txt", workspace / "out/hard.txt")
    read: Any = session.perform({"kind": "fs.read", "path": "inbox/hard.txt"})
    assert (read.ok, read.value) == (False, None)
    assert "hard link" in read.detail
    assert outcome(session, "write_file", path="out/hard.txt", content="mine").ok
    assert (workspace / "secret/a.txt").read_text() == "SECRET"
    assert (workspace / "out/hard.txt").read_text() == "mine"


def test_fifos_and_sockets_do_not_hang(session: AgentOS) -> None:
    """Reading, writing and searching over a FIFO end at once; the regular file beside it is found."""
    import socket

    workspace = Path(session.workspace)
    os.mkfifo(workspace / "inbox/pipe")
    os.mkfifo(workspace / "out/pipe")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        before = Path.cwd()
        os.chdir(workspace / "inbox")  # a unix socket's path must be short
        try:
            listening.bind("sock")
        finally:
            os.chdir(before)
        started = time.monotonic()
        for name in ("inbox/pipe", "inbox/sock"):
            read: Any = session.perform({"kind": "fs.read", "path": name})
            assert "not a regular file" in read.detail
        wrote = outcome(session, "write_file", path="out/pipe", content="x")
        assert not wrote.ok
        found = outcome(session, "search_files", regex="public", path="inbox").value
        assert time.monotonic() - started < 5
    assert [Path(hit["path"]).name for hit in found["hits"]] == ["a.txt"]


def test_devices_are_not_read(tmp_path: Path) -> None:
    """A granted device directory gives no endless stream."""
    files = Files(writable=[], readable=["/dev"], carried=Carried())
    for name in ("zero", "null", "urandom"):
        with pytest.raises(EffectError, match="regular file"):
            asyncio.run(files.execute(PERMIT, FsRead(path=f"/dev/{name}")))
    files.close()


def test_huge_files_are_refused_by_size_and_by_reading(session: AgentOS) -> None:
    """A sparse terabyte is refused at once; the largest file within the bound is read."""
    workspace = Path(session.workspace)
    with (workspace / "inbox/huge").open("wb") as file:
        file.truncate(1 << 40)
    started = time.monotonic()
    read: Any = session.perform({"kind": "fs.read", "path": "inbox/huge"})
    assert "larger than" in read.detail
    assert time.monotonic() - started < 1
    with (workspace / "inbox/full").open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    full: Any = session.perform({"kind": "fs.read", "path": "inbox/full"})
    assert len(full.value) == 16 * 1024 * 1024


@pytest.mark.parametrize(
    "path",
    ["inbox/a.txt\0.png", "~/x", "", "inbox/\u202etxt.a", 7, None, ["inbox/a.txt"], "a" * 5000, "inbox/\ud800"],
)
def test_malformed_paths_are_no_actions(session: AgentOS, path: Any) -> None:
    """NUL, home shorthand, bidi controls, wrong types and lone surrogates are refused before anything is opened."""
    with pytest.raises(ActionError):
        session.perform({"kind": "fs.read", "path": path})


def test_spellings_of_one_path_are_one_path(session: AgentOS) -> None:
    """Dots, double slashes and the absolute form are judged and read alike."""
    for path in ("inbox/a.txt", "./inbox//a.txt", "inbox/../inbox/./a.txt", f"{session.workspace}/inbox/a.txt"):
        read: Any = session.perform({"kind": "fs.read", "path": path})
        assert read.value == b"public"
    for path in ("secret/a.txt", "./secret//a.txt", "inbox/../secret/./a.txt", f"{session.workspace}/secret/a.txt"):
        with pytest.raises(DeniedError):
            session.perform({"kind": "fs.read", "path": path})


def test_a_directory_of_a_hundred_thousand_names_is_cut(session: AgentOS) -> None:
    """A listing is bounded and says that it was cut; a small one is whole."""
    crowd = Path(session.workspace) / "inbox/crowd"
    crowd.mkdir()
    for number in range(10_050):
        (crowd / str(number)).touch()
    listed: Any = session.perform({"kind": "fs.list", "path": "inbox/crowd"})
    assert (len(listed.value["entries"]), listed.value["truncated"]) == (10_000, True)
    assert session.perform({"kind": "fs.list", "path": "inbox"}).value["truncated"] is False  # type: ignore[union-attr]


def test_concurrent_writers_leave_one_whole_file(session: AgentOS) -> None:
    """Many writers of one file: what is there afterwards is one writer's content, whole."""
    contents = [chr(65 + index) * 50_000 for index in range(8)]
    threads = [
        threading.Thread(
            target=outcome, args=(session, "write_file"), kwargs={"path": "out/shared.txt", "content": each}
        )
        for each in contents
    ]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        with contextlib.suppress(FileNotFoundError):
            seen.add((Path(session.workspace) / "out/shared.txt").read_text())
    for thread in threads:
        thread.join()
    assert seen <= set(contents)
    assert (Path(session.workspace) / "out/shared.txt").read_text() in contents
    assert os.listdir(Path(session.workspace) / "out") == ["shared.txt"]
