"""`agentos run --snapshot`, `diff`, `commit`, `discard`: changes kept apart, shown, filtered, taken over or thrown away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.escape.__main__ import as_unprivileged

pytestmark = pytest.mark.kernel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ws = tmp_path / "ws"
    (ws / "old").mkdir(parents=True)
    for name in ("keep", "change", "remove", "old/a", "old/b"):
        (ws / name).write_text("before\n")
    (ws / ".env").write_text("TOKEN=secret\n")
    subprocess.run(["git", "init", "-q", str(ws)], check=True, env={**os.environ, "HOME": str(tmp_path)})
    (tmp_path / "policy.yaml").write_text(
        "version: 1\nfilesystem_policy: {include_workdir: true, read_only: [/usr, /lib, /lib64, /bin]}\n"
    )
    return tmp_path


def agentos(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "AGENTOS_STATE": str(folder / "state"),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    return subprocess.run(
        [sys.executable, "-m", "agent_os", *arguments],
        cwd=folder / "ws",
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run(folder: Path, script: str) -> str:
    done = agentos(folder, "run", "-p", str(folder / "policy.yaml"), "--snapshot", "try", "--", "sh", "-c", script)
    return done.stdout + done.stderr


SCRIPT = (
    "echo after > change; rm remove; rm -r old; mkdir old; echo n > old/new; mkdir -p d/e; echo x > d/e/f; ln -s keep link;"
    "echo evil > .git/hooks/pre-commit; chmod 755 .git/hooks/pre-commit; echo evil > .bashrc; mkfifo pipe; cat .env; ls"
)


def test_the_workspace_is_untouched_until_commit(folder: Path) -> None:
    """Inside, the changes are seen; outside, nothing has happened; a second run sees the first one's changes."""
    out = run(folder, SCRIPT)
    assert "secret" not in out
    assert (folder / "ws/change").read_text() == "before\n"
    assert (folder / "ws/remove").exists()
    assert sorted(path.name for path in (folder / "ws").iterdir()) == [
        ".env",
        ".git",
        "change",
        "keep",
        "old",
        "remove",
    ]
    assert "after" in run(folder, "cat change; ls old")


def test_diff_names_each_change_and_what_is_left_out(folder: Path) -> None:
    """Added, modified and deleted paths are listed; hooks, start-up files and special files are marked."""
    run(folder, SCRIPT)
    form = json.loads(agentos(folder, "diff", "--json").stdout)
    found = {row["path"]: (row["change"], bool(row["withheld"])) for row in form["changes"]}
    assert found["change"] == ("modified", False)
    assert found["remove"] == ("deleted", False)
    assert found["old/a"] == ("deleted", False)
    assert found["old/new"] == ("added", False)
    assert found["d/e/f"] == ("added", False)
    assert found["link"] == ("added", False)
    assert found[".git/hooks/pre-commit"] == ("added", True)
    assert found[".bashrc"] == ("added", True)
    assert found["pipe"] == ("added", True)
    assert "+after" in agentos(folder, "diff", "try", "--patch").stdout


def test_commit_takes_over_all_but_the_protected(folder: Path) -> None:
    """After a commit the workspace has the changes, owned by its owner, without hooks and start-up files."""
    run(folder, SCRIPT)
    done = agentos(folder, "commit")
    assert done.returncode == 0, done.stderr
    ws = folder / "ws"
    assert (ws / "change").read_text() == "after\n"
    assert not (ws / "remove").exists()
    assert sorted(os.listdir(ws / "old")) == ["new"]
    assert os.readlink(ws / "link") == "keep"
    assert (ws / "d/e/f").stat().st_uid == os.geteuid()
    assert not (ws / ".git/hooks/pre-commit").exists()
    assert not (ws / ".bashrc").exists()
    assert not (ws / "pipe").exists()
    assert (ws / ".env").read_text() == "TOKEN=secret\n"
    assert agentos(folder, "diff").returncode == 1


def test_discard_undoes_a_run_in_one_command(folder: Path) -> None:
    """A discarded snapshot leaves no trace."""
    run(folder, SCRIPT)
    assert agentos(folder, "discard", "try").returncode == 0
    assert (folder / "ws/remove").exists()
    assert "before" in run(folder, "cat change")


def test_a_link_planted_in_the_snapshot_leads_nowhere(folder: Path) -> None:
    """A folder that became a link to the outside is not written through at commit."""
    (folder / "outside").mkdir()
    run(folder, f"rm -r old; ln -s {folder}/outside old")
    assert agentos(folder, "commit").returncode == 0
    assert os.path.islink(folder / "ws/old")
    run(folder, "rm old; mkdir old; echo planted > old/f")
    assert agentos(folder, "commit").returncode == 0
    assert os.listdir(folder / "outside") == []


def test_a_file_changed_on_both_sides_is_a_conflict(folder: Path) -> None:
    """What the person changed meanwhile is not overwritten unasked."""
    run(folder, "echo theirs > change")
    os.utime(folder / "ws/change", (2**31, 2**31))
    done = agentos(folder, "commit")
    assert done.returncode == 1
    assert "change" in done.stderr
    assert agentos(folder, "commit", "--force").returncode == 0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root to become an ordinary user")
def test_all_of_it_as_an_unprivileged_user() -> None:
    """Snapshots need no privilege."""
    done = as_unprivileged(["-m", "pytest", "-q", "-p", "no:cacheprovider", __file__], capture_output=True, timeout=200)
    assert done.returncode == 0, done.stdout[-4000:]


def tree(folder: Path) -> dict[str, str]:
    """Return every path of the workspace with what it holds, its mode and where it links to."""
    found = {}
    for path in sorted((folder / "ws").rglob("*")):
        relative = str(path.relative_to(folder / "ws"))
        info = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else "folder"
        found[relative] = f"{oct(info.st_mode)} {content}"
    return found


def start(folder: Path, option: str, script: str) -> subprocess.CompletedProcess[str]:
    return agentos(folder, "run", "-p", str(folder / "policy.yaml"), option, "--", "sh", "-c", script)


def test_a_throw_away_copy_leaves_nothing(folder: Path) -> None:
    """A run with --copy sees its own changes; afterwards the workspace and the state hold nothing of them."""
    before = tree(folder)
    done = start(folder, "--copy", SCRIPT + "; cat change; exit 4")
    assert done.returncode == 4, done.stderr
    assert "after\n" in done.stdout
    assert tree(folder) == before
    assert not list((folder / "state" / "snapshots").rglob("upper"))
    assert "0 snapshots" in agentos(folder, "diff").stderr


def test_a_copy_left_by_a_killed_run_is_swept(folder: Path) -> None:
    """What a run left that was killed outright is gone after the next one, and never shown as a snapshot."""
    start(folder, "--copy", "true")
    left = next((folder / "state" / "snapshots").iterdir()) / "throw-away-0123456789abcdef"
    (left / "upper").mkdir(parents=True)
    (left / "upper" / "loot").write_text("x")
    assert "0 snapshots" in agentos(folder, "diff").stderr
    assert start(folder, "--copy", "true").returncode == 0
    assert not left.exists()


def test_a_whole_run_is_undone_in_one_command(folder: Path) -> None:
    """--undoable changes the workspace (protected names left out); `agentos undo` puts every path back as it was."""
    (folder / "ws" / "keep").chmod(0o640)
    before = tree(folder)
    done = start(folder, "--undoable", SCRIPT + "; rm keep; mkdir keep; echo y > keep/inside; exit 0")
    assert done.returncode == 0, done.stderr
    assert "left out: .bashrc" in done.stderr
    changed = tree(folder)
    assert changed["change"].endswith("after\n")
    assert changed["keep/inside"].endswith("y\n")
    assert "old/a" not in changed
    undone = agentos(folder, "undo")
    assert undone.returncode == 0, undone.stderr
    assert "put back change" in undone.stdout
    assert tree(folder) == before
    again = agentos(folder, "undo")
    assert (again.returncode, "no commit" in again.stderr) == (1, True)


def test_undo_does_not_lose_work_done_since(folder: Path) -> None:
    """A path that a person changed after the run is a conflict that names it; --force puts it back all the same."""
    start(folder, "--undoable", "echo after > change; echo new > added")
    (folder / "ws" / "change").write_text("a person's work\n")
    refused = agentos(folder, "undo")
    assert refused.returncode == 1
    assert "'change' was changed since" in refused.stderr
    assert (folder / "ws" / "added").exists()
    assert agentos(folder, "undo", "--force").returncode == 0
    assert (folder / "ws" / "change").read_text() == "before\n"
    assert not (folder / "ws" / "added").exists()


def test_undo_follows_no_link_out_of_the_workspace(folder: Path) -> None:
    """A folder that became a link since the run is not followed when things are put back."""
    (folder / "outside").mkdir()
    start(folder, "--undoable", "echo evil > old/a")
    shutil.rmtree(folder / "ws" / "old")
    (folder / "ws" / "old").symlink_to(folder / "outside")
    refused = agentos(folder, "undo", "--force")
    assert refused.returncode == 1
    assert list((folder / "outside").iterdir()) == []


def test_a_commit_is_undone_too(folder: Path) -> None:
    """`agentos commit` of a snapshot can be undone; with --no-undo it cannot."""
    before = tree(folder)
    run(folder, SCRIPT)
    assert agentos(folder, "commit").returncode == 0
    assert tree(folder) != before
    assert agentos(folder, "undo").returncode == 0
    assert tree(folder) == before
    run(folder, "echo after > change")
    assert agentos(folder, "commit", "--no-undo").returncode == 0
    assert agentos(folder, "undo").returncode == 1


def test_one_way_of_keeping_changes_at_a_time(folder: Path) -> None:
    """--copy, --undoable and --snapshot exclude each other, and say so."""
    done = agentos(folder, "run", "--copy", "--undoable", "--", "true")
    assert (done.returncode, "choose one" in done.stderr) == (2, True)
