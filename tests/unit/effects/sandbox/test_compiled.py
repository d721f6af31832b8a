"""The compiled launcher is built once, pinned, and not run when anybody else could have written it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from agent_os.effects import native
from agent_os.effects.proxy.carrier import PROGRAM
from agent_os.effects.sandbox import server
from agent_os.effects.sandbox.launch import Launcher

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, native.COMPILERS)), reason="no C compiler here")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources in a folder of the test's own that holds no build, and cannot take one: builds go to the state directory."""
    sources = tmp_path / "compiled"
    shutil.copytree(server.COMPILED.sources, sources, ignore=shutil.ignore_patterns("built"))
    (sources / "built").write_text("a file where the folder would be")
    monkeypatch.setattr(server, "COMPILED", native.Program("launcher", sources))
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


def built(state: Path) -> Path:
    return state / "launcher" / f"launcher-{server.COMPILED.digest()}"


@needs_compiler
def test_it_is_built_once_and_pinned(state: Path) -> None:
    """The first use builds and pins it; the second runs the same bytes without a compiler."""
    first = server.COMPILED.sealed(state)
    made = built(state).stat()
    assert stat.S_IMODE(made.st_mode) == 0o755
    second = server.COMPILED.sealed(state)
    assert built(state).stat().st_mtime_ns == made.st_mtime_ns
    assert os.pread(first, 1 << 20, 0) == os.pread(second, 1 << 20, 0) == built(state).read_bytes()
    os.close(first)
    os.close(second)


@needs_compiler
def test_what_runs_cannot_be_changed_any_more(state: Path) -> None:
    """The memory file is sealed: it takes no byte, and it runs (asking for its usage: status 2)."""
    descriptor = server.COMPILED.sealed(state)
    with pytest.raises(OSError, match="not permitted"):
        os.pwrite(descriptor, b"x", 0)
    done = subprocess.run([f"/proc/self/fd/{descriptor}"], pass_fds=[descriptor], check=False)
    assert done.returncode == 2
    os.close(descriptor)


@needs_compiler
@pytest.mark.parametrize("harm", ["changed", "group may write", "no pin", "another pin", "folder open", "link"])
def test_a_build_that_was_touched_is_not_run(state: Path, harm: str) -> None:
    """A changed byte, a missing or other pin, loose permissions or a link in its place: the Python launcher takes over."""
    os.close(server.COMPILED.sealed(state))
    path = built(state)
    if harm == "changed":
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(bytes(data))
    elif harm == "group may write":
        path.chmod(0o775)
    elif harm == "no pin":
        Path(f"{path}.sha256").write_text("")
    elif harm == "another pin":
        Path(f"{path}.sha256").write_text("0" * 64)
    elif harm == "folder open":
        path.parent.chmod(0o777)
    else:
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
    with pytest.raises(native.NotBuiltError):
        server.COMPILED.sealed(state)
    launcher = Launcher(state=state)
    assert launcher.kind == "python"
    assert launcher.why_python
    launcher.close()
    with pytest.raises(native.NotBuiltError):
        Launcher(state=state, kind="compiled")


def test_without_a_compiler_the_python_launcher_takes_over(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler on PATH is no error: the same sandbox is built by Python, and the reason is kept."""
    monkeypatch.setattr(native, "COMPILERS", ("no-such-compiler",))
    launcher = Launcher(state=state)
    assert (launcher.kind, "no C compiler" in launcher.why_python) == ("python", True)
    launcher.close()


def test_a_compiler_that_fails_is_asked_once(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words are kept as the reason; the next start does not run it again."""
    compiler = state / "cc"
    compiler.write_text(f"#!/bin/sh\necho asked >> {state}/asked\necho 'broken headers' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(native, "COMPILERS", (str(compiler),))
    for _ in range(2):
        with pytest.raises(native.NotBuiltError, match="broken headers"):
            server.COMPILED.sealed(state)
    assert (state / "asked").read_text().split() == ["asked"]


@needs_compiler
@pytest.mark.parametrize("program", [server.COMPILED, PROGRAM], ids=["launcher", "carrier"])
def test_the_sources_are_clean_under_further_warnings(tmp_path: Path, program: native.Program) -> None:
    """The shipped flags and stricter ones than the build needs find nothing."""
    compiler = next(filter(None, map(shutil.which, native.COMPILERS)))
    strict = ("-Wconversion", "-Wshadow", "-Wformat=2", "-Wcast-qual", "-Wundef", "-pedantic-errors")
    sources = sorted(map(str, program.sources.glob("*.c")))
    done = subprocess.run(
        [compiler, *native.FLAGS, *strict, "-o", str(tmp_path / "out"), *sources],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
