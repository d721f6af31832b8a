"""What a program leaves behind to deceive or to stop the person who looks at its changes, takes them over or throws them away."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from agent_os.effects.sandbox import trees
from tests.e2e.escape.__main__ import as_unprivileged
from tests.e2e.sandbox.test_snapshot import agentos, folder, run, start, tree

pytestmark = pytest.mark.kernel
__all__ = ["folder"]

NAMES = (
    "import os; open('evil\\x1b]0;owned\\x07\\nM README.md', 'w').write('hi\\x1b]52;c;ZXZpbA==\\x07\\n');"
    "os.symlink('/etc/passwd', 'notes.txt'); open(b'bad\\xff', 'w').close(); open('résumé', 'w').write('plain\\n')"
)
DEEP = "import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')\nopen('f', 'w').close()"
CLOSED = "mkdir -p shut/inner && echo x > shut/inner/f && chmod 0 shut/inner shut"


def python(program: str) -> str:
    return f"cat > .program <<'END'\n{program}\nEND\n/usr/bin/python3 .program; rm .program"


def test_names_and_contents_cannot_drive_the_terminal(folder: Path) -> None:
    """ATTACK: a file's name fakes a line of the diff, retitles the window, sets the clipboard; a link hides where it leads."""
    run(folder, python(NAMES))
    done = agentos(folder, "diff", "--patch")
    names = [line for line in done.stdout.splitlines() if line.startswith(("A ", "M "))]
    assert names == [
        'A "bad\\xff"',
        'A "evil\\x1b]0;owned\\x07\\nM README.md"',
        "A notes.txt -> /etc/passwd",
        "A résumé",
    ]
    assert '+++ "b/evil\\x1b]0;owned\\x07\\nM README.md"' in done.stdout.splitlines()
    assert "+plain" in done.stdout.splitlines()
    left = agentos(folder, "commit", "--only", "keep").stdout
    assert "\x1b" not in left
    assert '\nleft out: "evil\\x1b]0;owned\\x07\\nM README.md" (not chosen)\n' in left


def test_a_patch_is_escaped_on_a_terminal_and_exact_in_a_file(folder: Path) -> None:
    """ATTACK: contents that write to the operator's clipboard as they are shown; redirected, the patch has every byte."""
    run(folder, python(NAMES))
    redirected = agentos(folder, "diff", "--patch").stdout
    assert "+hi\x1b]52;c;ZXZpbA==\x07" in redirected
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "AGENTOS_STATE": str(folder / "state"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    program = [sys.executable, "-m", "agent_os", "diff", "--patch"]
    with subprocess.Popen(
        program, cwd=folder / "ws", env=environment, stdout=theirs, stdin=subprocess.DEVNULL
    ) as process:
        os.close(theirs)
        shown = bytearray()
        while True:
            try:
                data = os.read(ours, 65_536)
            except OSError:
                break
            if not data:
                break
            shown += data
        assert process.wait(60) == 0
    os.close(ours)
    assert b"\x1b" not in shown
    assert b"+hi\\x1b]52;c;ZXZpbA==\\x07" in shown
    assert b"+plain" in shown


def test_folders_too_deep_to_take_over_can_be_thrown_away(folder: Path) -> None:
    """ATTACK: 3,000 nested folders break no verb: not compared, not taken over, and gone when told; a shallow run is taken over."""
    run(folder, python(DEEP))
    before = tree(folder)
    for verb in ("diff", "commit"):
        done = agentos(folder, verb)
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert "more than 256 deep" in done.stderr
        assert "Traceback" not in done.stderr
    assert tree(folder) == before
    assert "discarded" in agentos(folder, "discard").stdout
    undone = start(folder, "--undoable", python(DEEP))
    assert undone.returncode == 125
    kept = undone.stderr.partition("kept apart: agentos diff ")[2].partition(",")[0]
    assert "discarded" in agentos(folder, "discard", kept).stdout  # left there, pytest could not remove it either
    assert start(folder, "--copy", python(DEEP)).returncode == 0
    assert start(folder, "--copy", "true").returncode == 0
    assert not list((folder / "state/snapshots").glob("*/throw-away-*"))
    assert start(folder, "--undoable", "mkdir -p a/b/c && echo x > a/b/c/f").returncode == 0
    assert (folder / "ws/a/b/c/f").read_text() == "x\n"


def test_folders_their_owner_may_not_enter_are_thrown_away(folder: Path) -> None:
    """ATTACK: a copy with folders closed to everybody is swept all the same, and does not stop the next run."""
    assert start(folder, "--copy", CLOSED).returncode == 0
    assert start(folder, "--copy", "true").returncode == 0
    assert not list((folder / "state/snapshots").glob("*/throw-away-*"))


def test_the_same_holds_for_an_unprivileged_user() -> None:
    """Nothing of it needs root."""
    if os.geteuid() != 0:
        pytest.skip("already unprivileged")
    one = f"{__file__}::{test_folders_their_owner_may_not_enter_are_thrown_away.__name__}"
    done = as_unprivileged(["-m", "pytest", "-q", "-p", "no:cacheprovider", one], capture_output=True, timeout=200)
    assert done.returncode == 0, done.stdout[-4000:]


def test_removal_follows_no_link_and_leaves_what_is_outside(tmp_path: Path) -> None:
    """Links in what is removed go as links; folders they lead to stay whole. Closed and deep folders go."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    top = tmp_path / "top"
    (top / "a/b/c").mkdir(parents=True)
    (top / "link").symlink_to(outside)
    (top / "a/b/link").symlink_to(outside)
    (top / "a/b/c/f").write_text("x")
    (top / "a/b").chmod(0)
    trees.discard(top)
    assert not top.exists()
    assert (outside / "kept").read_text() == "x"
    trees.discard(top)
