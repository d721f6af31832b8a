"""Ordinary work goes on in the sandbox: test suites, a compiler, git, pip, a terminal; and runs end as they should.

The benign twins of `tests/e2e/escape`. The whole file runs as this user, and once more as an unprivileged one.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from agent_os import AgentOS
from agent_os.core.errors import EffectError, EnforcementError
from agent_os.guards.confine import Confinement, Limits
from agent_os.runtime.sandbox.prepare import Captured, SandboxSettings, prepare, run_captured
from tests.e2e.escape.__main__ import as_unprivileged

pytestmark = pytest.mark.kernel
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ssl")
PYTHON = "/usr/bin/python3"


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    folder = tmp_path / "ws"
    folder.mkdir()
    return folder


def run(ws: Path, *argv: str, stdin: bytes = b"", conf: Confinement | None = None, **settings: object) -> Captured:
    confinement = conf or Confinement(read_only=SYSTEM, read_write=("/tmp",), limits=Limits(wall_seconds=60))
    state = ws.parent / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    made = prepare(confinement, SandboxSettings(workspace=str(ws), **settings), state=state)  # type: ignore[arg-type]
    return asyncio.run(run_captured(made, list(argv), stdin=stdin))


def good(done: Captured) -> str:
    assert done.ended.returncode == 0, done.stderr.decode()[-2000:] + done.stdout.decode()[-2000:]
    return done.stdout.decode()


def test_exit_status_streams_and_stdin(ws: Path) -> None:
    """Status, both streams and stdin arrive exactly."""
    done = run(ws, "sh", "-c", "cat; echo err >&2; exit 7", stdin=b"in\0put")
    assert (done.ended.returncode, done.stdout, done.stderr) == (7, b"in\0put", b"err\n")


def test_a_link_that_a_run_leaves_opens_nothing_in_the_next(ws: Path) -> None:
    """ATTACK: a granted folder of the workspace is replaced by a link to a place outside; the next run does not follow it.

    A folder is granted as before, and so is one that the operator links from a place no program writes.
    """
    outside, linked = ws.parent / "outside", ws.parent / "linked"
    outside.mkdir()
    (outside / "key").write_text("canary")
    linked.symlink_to(outside)
    (ws / "out").mkdir()
    given = Confinement(
        read_only=(*SYSTEM, str(ws / "data")), read_write=(str(ws / "out"),), limits=Limits(wall_seconds=60)
    )
    good(run(ws, "sh", "-c", "echo x > out/f", conf=given))
    good(run(ws, "sh", "-c", f"rm -r out && ln -s {outside} out && ln -s {outside} data", conf=given))
    assert (ws / "out").is_symlink()
    done = run(ws, "sh", "-c", "cat out/key data/key; echo planted > out/new", conf=given)
    assert done.stdout == b""
    assert sorted(path.name for path in outside.iterdir()) == ["key"]
    theirs = Confinement(read_only=(*SYSTEM, str(linked)), limits=Limits(wall_seconds=60))
    assert good(run(ws, "cat", str(linked / "key"), conf=theirs)) == "canary"


def test_a_policy_behind_a_link_in_the_workspace_is_refused(ws: Path) -> None:
    """ATTACK: a program that replaces the link writes the policy of the next run: nothing runs until the file is named itself.

    A link that lies where no program writes is followed, and what it leads to is hidden.
    """
    text = "version: 1\nfilesystem_policy: {include_workdir: true, read_only: [/usr, /lib, /lib64, /bin]}\n"
    (ws.parent / "policy.yaml").write_text(text)
    (ws.parent / "outside.yaml").symlink_to("policy.yaml")
    (ws / "policy.yaml").symlink_to(ws.parent / "policy.yaml")
    for name, ends in ((ws / "policy.yaml", 5), (ws.parent / "outside.yaml", 0)):
        done = subprocess.run(
            [sys.executable, "-m", "agent_os", "run", "-p", str(name), "--workspace", str(ws), "--", "true"],
            env={**os.environ, "AGENTOS_STATE": str(ws.parent / "state"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            cwd=ws, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == (125 if ends else 0), done.stderr
        assert ("name the file itself" in done.stderr) == bool(ends)


def test_a_signal_shows_as_a_shell_shows_it(ws: Path) -> None:
    """A program ended by a signal gives 128 + its number."""
    done = run(ws, "sh", "-c", "kill -SEGV $$")
    assert (done.ended.returncode, done.ended.signal) == (139, signal.SIGSEGV)


def test_a_program_that_is_not_there(ws: Path) -> None:
    """A missing program is an error of its own, with the shell's status."""
    with pytest.raises(EffectError) as caught:
        run(ws, "no-such-program")
    assert caught.value.exit_status == 127  # type: ignore[attr-defined]


def test_files_are_the_persons_own_afterwards(ws: Path) -> None:
    """What the program writes belongs to the owner of the workspace, and nothing else is left in it."""
    good(run(ws, "sh", "-c", "mkdir d && echo x > d/f && ln -s f d/l && mv d e"))
    info = (ws / "e/f").stat()
    assert (info.st_uid, info.st_gid) == (os.geteuid(), os.stat(ws).st_gid)
    assert sorted(path.name for path in ws.iterdir()) == ["e"]


def test_two_runs_share_a_workspace(ws: Path) -> None:
    """Names held for one run stay held while another ends; the last takes the stand-ins away."""

    async def both() -> tuple[Captured, Captured]:
        conf = Confinement(read_only=SYSTEM)
        state = ws.parent / "state"
        state.mkdir(mode=0o700)
        slow = prepare(conf, SandboxSettings(workspace=str(ws)), state=state)
        first = asyncio.create_task(run_captured(slow, ["sh", "-c", "sleep 1; echo x > .bashrc"]))
        await asyncio.sleep(0.4)
        quick = prepare(conf, SandboxSettings(workspace=str(ws)), state=state)
        second = await run_captured(quick, ["sh", "-c", "echo x > .bashrc; mkdir .git/hooks"])
        return await first, second

    first, second = asyncio.run(both())
    assert first.ended.returncode != 0
    assert second.ended.returncode != 0
    assert list(ws.iterdir()) == []


def test_stand_ins_of_a_crashed_run_are_taken_away_by_the_next(ws: Path) -> None:
    """Where the launcher was killed too, nobody is left to take the stand-ins away; the next run of the workspace does."""
    code = (
        "import asyncio, sys; sys.path.insert(0, sys.argv[2]);"
        "from tests.e2e.sandbox.test_run import *;"
        "run(Path(sys.argv[1]), 'sleep', '30')"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(ws), os.getcwd()])
    deadline = time.monotonic() + 15
    while not (ws / ".bashrc").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    for launcher in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split():
        os.kill(int(launcher), signal.SIGKILL)
    child.kill()
    child.wait()
    assert (ws / ".bashrc").exists()
    good(run(ws, "true"))
    assert list(ws.iterdir()) == []


def test_nothing_outlives_the_supervisor(ws: Path) -> None:
    """When the supervisor is killed outright, every process of the run ends with it."""
    code = (
        "import asyncio, sys; sys.path.insert(0, sys.argv[2]);"
        "from tests.e2e.sandbox.test_run import *;"
        "run(Path(sys.argv[1]), 'sh', '-c', 'setsid sh -c \"while true; do echo x >> beat; sleep 0.1; done\" & sleep 60')"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(ws), os.getcwd()])
    deadline = time.monotonic() + 15
    while not (ws / "beat").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    child.kill()
    child.wait()
    time.sleep(0.5)
    size = (ws / "beat").stat().st_size
    time.sleep(0.6)
    assert (ws / "beat").stat().st_size == size


def test_limits_of_time_and_output(ws: Path) -> None:
    """A run past its wall clock or output is ended, and the reason is told."""
    conf = Confinement(read_only=SYSTEM, limits=Limits(wall_seconds=0.5))
    assert run(ws, "sleep", "20", conf=conf).ended.reason == "wall-clock limit"
    conf = Confinement(read_only=SYSTEM, limits=Limits(output_bytes=100_000, wall_seconds=20))
    assert run(ws, "sh", "-c", "yes", conf=conf).ended.reason == "output limit"


def test_a_layer_that_is_missing_stops_the_run(ws: Path) -> None:
    """A limit this machine cannot keep is an error before anything runs."""
    conf = Confinement(read_only=SYSTEM, limits=Limits(io_bytes_per_second=1 << 20))
    with pytest.raises(EnforcementError, match="io-limit"):
        run(ws, "touch", "ran", conf=conf)
    assert list(ws.iterdir()) == []
    assert (
        run(ws, "touch", "ran", conf=conf, allow_missing=("io-limit", "io-limit-of-buffered-writes")).ended.returncode
        == 0
    )


def test_a_python_test_suite(ws: Path) -> None:
    """unittest with threads, sub-processes, a local server and temporary files passes."""
    (ws / "test_it.py").write_text(
        "import unittest, subprocess, sys, tempfile, threading, socket, multiprocessing\n"
        "class T(unittest.TestCase):\n"
        "  def test_child(self): self.assertEqual(subprocess.check_output([sys.executable,'-c','print(1)']), b'1\\n')\n"
        "  def test_tmp(self):\n"
        "    with tempfile.NamedTemporaryFile() as f: f.write(b'x')\n"
        "  def test_server(self):\n"
        "    s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname()); a,_ = s.accept()\n"
        "    a.sendall(b'hi'); self.assertEqual(c.recv(2), b'hi'); [x.close() for x in (a,c,s)]\n"
        "  def test_pool(self):\n"
        "    with multiprocessing.Pool(2) as p: self.assertEqual(p.map(abs, [-1,-2]), [1,2])\n"
        "  def test_names(self):\n"
        "    import getpass, pwd, os; self.assertEqual(pwd.getpwuid(os.getuid()).pw_name, getpass.getuser())\n"
        "    socket.getaddrinfo('localhost', 80)\n"
    )
    done = run(ws, PYTHON, "-m", "unittest", "-q")
    assert done.ended.returncode == 0, done.stderr.decode()


@pytest.mark.skipif(not os.path.exists("/usr/bin/node"), reason="no node here")
def test_a_node_test_suite(ws: Path) -> None:
    """node --test with a child process, a worker and a local HTTP server passes."""
    (ws / "a.test.js").write_text(
        "const test=require('node:test'),assert=require('assert'),http=require('http'),cp=require('child_process');\n"
        "const {Worker}=require('worker_threads');\n"
        "test('http',async()=>{const s=http.createServer((q,r)=>r.end('ok'));await new Promise(r=>s.listen(0,r));\n"
        " const t=await (await fetch('http://127.0.0.1:'+s.address().port)).text();s.close();assert.equal(t,'ok')});\n"
        "test('child',()=>assert.equal(cp.execFileSync('echo',['x']).toString(),'x\\n'));\n"
        "test('worker',async()=>{const w=new Worker('require(\"worker_threads\").parentPort.postMessage(1)',{eval:true});\n"
        " assert.equal(await new Promise(r=>w.on('message',r)),1)});\n"
    )
    assert "# fail 0" in good(run(ws, "/usr/bin/node", "--test", "--test-reporter=tap", "a.test.js"))


@pytest.mark.skipif(not shutil.which("gcc"), reason="no compiler here")
def test_compiling_and_running_c(ws: Path) -> None:
    """A compiler with its temporary files, make and the built program work."""
    (ws / "a.c").write_text(
        '#include <stdio.h>\n#include <pthread.h>\nstatic void*f(void*p){return p;}\nint main(){pthread_t t;pthread_create(&t,0,f,0);pthread_join(t,0);puts("built");}\n'
    )
    assert good(run(ws, "sh", "-c", "gcc -O2 -pthread -o a a.c && ./a")) == "built\n"


@pytest.mark.skipif(not shutil.which("git"), reason="no git here")
def test_git_work(ws: Path) -> None:
    """Committing in the workspace's repository and cloning below it work; stand-ins are not taken for new files."""
    environment = {**os.environ, "HOME": str(ws.parent)}
    subprocess.run(["git", "init", "-q", str(ws)], check=True, env=environment)
    script = (
        "set -e; export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b\n"
        "echo 1 > f; git add -A; git commit -qm one; git clone -q . below; cd below; echo 2 > g; git config user.name x\n"
        "git add -A; git commit -qm two; git push -q origin HEAD:refs/heads/side; git log --oneline | wc -l; cd ..\n"
        "git show --stat --format= HEAD; git status --short"
    )
    out = good(run(ws, "sh", "-c", script))
    assert out.splitlines()[0].strip() == "2"
    assert " f | 1 +" in out
    assert "bashrc" not in out
    clean = subprocess.run(
        ["git", "-C", str(ws), "status", "--short"], capture_output=True, text=True, check=True, env=environment
    )
    assert clean.stdout == "?? below/\n"


def test_pip_installs_from_a_local_folder(ws: Path) -> None:
    """pip builds an environment from wheels in a folder, with no network."""
    wheels = ws / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tinything-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tinything.py", "VALUE = 42\n")
        wheel.writestr("tinything-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinything\nVersion: 1.0\n")
        wheel.writestr(
            "tinything-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("tinything-1.0.dist-info/RECORD", "")
    script = (
        f"{PYTHON} -m pip install -q --no-index --find-links wheels --target site --no-warn-script-location tinything 2>&1"
        f" && PYTHONPATH=site {PYTHON} -c 'import tinything; print(tinything.VALUE)'"
    )
    done = run(ws, "sh", "-c", script)
    if b"No module named pip" in done.stdout:
        pytest.skip("the system's Python has no pip")
    assert good(done).splitlines()[-1] == "42"


def _policy(folder: Path) -> Path:
    path = folder / "policy.yaml"
    path.write_text(
        "version: 1\nfilesystem_policy: {include_workdir: true, read_only: [/usr, /lib, /lib64, /bin, /sbin, /etc/ssl], read_write: [/tmp]}\n"
    )
    return path


def _cli(folder: Path) -> tuple[list[str], dict[str, str]]:
    environment = {
        **os.environ,
        "AGENTOS_STATE": str(folder / "cli-state"),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    return [sys.executable, "-m", "agent_os", "run", "--policy", str(_policy(folder))], environment


def test_the_command_line_passes_status_and_streams(ws: Path) -> None:
    """`agentos run` gives the program's own status and streams, and writes how it ended."""
    command, environment = _cli(ws.parent)
    status = ws.parent / "status.json"
    done = subprocess.run(
        [*command, "--status-file", str(status), "--", "sh", "-c", "cat; echo bad >&2; exit 9"],
        input=b"data", capture_output=True, env=environment, cwd=ws, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (9, b"data", b"bad\n")
    assert json.loads(status.read_text())["status"] == 9
    refused = subprocess.run(
        [*command, "--allow-missing", "x", "--workspace", "/nowhere", "--", "true"],
        capture_output=True,
        env=environment,
        check=False,
    )
    assert refused.returncode == 125
    assert b"workspace" in refused.stderr


def test_a_policy_file_in_the_workspace_is_not_seen_inside(ws: Path) -> None:
    """The policy that confines a program cannot be read or replaced by it."""
    command, environment = _cli(ws)
    done = subprocess.run(
        [*command, "--", "sh", "-c", "cat policy.yaml; echo x > policy.yaml; rm policy.yaml"],
        capture_output=True,
        env={**environment, "AGENTOS_STATE": str(ws.parent / "s2")},
        cwd=ws,
        timeout=60,
        check=False,
    )
    assert b"version" not in done.stdout
    assert done.returncode != 0
    assert (ws / "policy.yaml").read_text().startswith("version: 1")


def test_everything_a_policy_is_made_of_is_hidden(ws: Path) -> None:
    """Files a policy extends and the data it refers to cannot be read or changed either, by programs of agents as well."""
    (ws / "team.yaml").write_text("version: 1\ntools: {x: {deny: true}}\n")
    (ws / "suppliers.yaml").write_text("- DE00\n")
    policy = ws / "policy.yaml"
    policy.write_text(
        "version: 1\nextends: [pack:baseline, team.yaml]\ndata: {suppliers: {file: suppliers.yaml}}\n"
        "tools: {pay: {allow: {to: {in: data.suppliers}}}, run_command: {allow: true}}\n"
    )
    script = "for f in team.yaml suppliers.yaml policy.yaml; do cat $f; echo x > $f; rm -f $f; mv $f y; done 2>/dev/null; true"
    _command, environment = _cli(ws.parent)
    command = [sys.executable, "-m", "agent_os", "run", "--policy", str(policy), "--", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=ws, timeout=60, check=False)
    assert done.stdout == b""
    with AgentOS.open(policy, workspace=ws, state=ws.parent / "sdk-state") as runtime:
        outcome = runtime.perform({"kind": "process.exec", "argv": ["sh", "-c", script], "binary_path": "/usr/bin/sh"})
    assert outcome.value["stdout"] == ""
    assert (ws / "team.yaml").read_text().startswith("version")
    assert (ws / "suppliers.yaml").read_text() == "- DE00\n"


def test_a_real_terminal(ws: Path) -> None:
    """Interactive programs get a terminal of their own: size, signals, job control; dangerous output is filtered."""
    command, environment = _cli(ws.parent)
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(ws)
        os.execvpe(command[0], [*command, "--", "bash", "--norc", "-i"], {**environment, "PS1": "$ ", "TERM": "xterm"})
    out = bytearray()
    os.set_blocking(master, False)

    def until(text: bytes, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while text not in out and time.monotonic() < deadline:
            try:
                out.extend(os.read(master, 65536))
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:
                break
        assert text in out, bytes(out)

    import fcntl
    import struct
    import termios

    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    until(b"$ ")
    os.write(master, b"tty; echo size=$(stty size)\r")
    until(b"/dev/pts/0")
    until(b"size=33 99")
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    os.kill(pid, signal.SIGWINCH)
    time.sleep(0.3)
    os.write(master, b"echo again=$(stty size)\r")
    until(b"again=40 120")
    os.write(master, b"sleep 100\r")
    time.sleep(0.5)
    os.write(master, b"\x03")
    os.write(master, b"echo int=$?\r")
    until(b"int=130")
    os.write(master, b"sleep 50 & jobs; kill %1; echo done\r")
    until(b"Running")
    os.write(master, b"printf '\\033]52;c;QQ==\\007\\033[32mgreen\\033[0m\\n'\r")
    until(b"\x1b[32mgreen")
    assert b"\x1b]52" not in out
    os.write(master, b"exit 5\r")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        try:
            os.read(master, 65536)
        except OSError:
            time.sleep(0.02)
    assert os.waitstatus_to_exitcode(status) == 5


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root to become an ordinary user")
def test_all_of_it_as_an_unprivileged_user() -> None:
    """The whole file passes once more for a user without any privilege."""
    done = as_unprivileged(["-m", "pytest", "-q", "-p", "no:cacheprovider", __file__], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]
