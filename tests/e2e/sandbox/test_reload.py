"""SIGHUP to a running `agentos run`: policy files read again, and what an attacker could make of that."""

from __future__ import annotations

import http.server
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(not shutil.which("python3"), reason="no python3 here")]

SYSTEM = "[/usr, /lib, /lib64, /bin, /sbin, /etc/ssl]"
KEPT, DROPPED = "localhost", socket.gethostname()

PROGRAM = """
import http.client, os, sys, time
port = int(sys.argv[1])
def ask(connection, path):
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        return "cut"
def wait(name):
    while not os.path.exists(name):
        time.sleep(0.02)
kept, dropped = http.client.HTTPConnection(sys.argv[2], port), http.client.HTTPConnection(sys.argv[3], port)
print("before", ask(kept, "/open"), ask(dropped, "/open"), ask(kept, "/new"), flush=True)
wait("go")
dropped.auto_open = kept.auto_open = 0
print("after", ask(kept, "/open"), ask(dropped, "/open"), ask(kept, "/new"), flush=True)
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every GET and keeps the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_arguments: object) -> None:
        """Stay quiet."""


@pytest.fixture
def port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def policy(port: int, *hosts: str, paths: tuple[str, ...] = ("/open",)) -> str:
    rules = ", ".join(f'{{allow: {{method: GET, path: "{path}"}}}}' for path in paths)
    return (
        f"version: 1\nfilesystem_policy: {{include_workdir: true, read_only: {SYSTEM}}}\nnetwork_policies:\n"
        + "".join(
            f"  p{number}: {{endpoints: [{{host: {host}, port: {port}, local: true, protocol: rest,"
            f" enforcement: enforce, rules: [{rules}]}}]}}\n"
            for number, host in enumerate(hosts)
        )
    )


class Run:
    """A running `agentos run` whose output is followed."""

    def __init__(self, folder: Path, port: int, file: Path) -> None:
        self.workspace = folder / "ws"
        self.workspace.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "AGENTOS_STATE": str(folder / "state"),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        command = [sys.executable, "-m", "agent_os", "run", "-p", str(file), "--"]
        command += ["python3", "-c", PROGRAM, str(port), KEPT, DROPPED]
        self.child = subprocess.Popen(
            command, cwd=self.workspace, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        assert self.child.stdout is not None
        self.lines.extend(iter(self.child.stdout.readline, ""))

    def said(self, part: str) -> str:
        """Wait for a line that holds `part`."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if part in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"{part!r} was not said: {self.lines}")

    def hup(self, expected: str) -> str:
        """Ask for a reload; return what was said of it."""
        self.child.send_signal(signal.SIGHUP)
        return self.said(expected)

    def finish(self) -> str:
        """Let the program go on to its end; return its last line."""
        (self.workspace / "go").touch()
        line = self.said("after")
        assert self.child.wait(20) == 0
        return line.strip()


@pytest.fixture
def started(tmp_path: Path, port: int) -> Iterator[Callable[[Path], Run]]:
    runs = []

    def start(file: Path) -> Run:
        file.parent.mkdir(exist_ok=True)
        file.write_text(policy(port, KEPT, DROPPED))
        runs.append(Run(tmp_path, port, file))
        assert runs[-1].said("before").split() == ["before", "200", "200", "403"]
        return runs[-1]

    yield start
    for run in runs:
        if run.child.poll() is None:
            run.child.kill()
            run.child.wait()


def test_a_reload_cuts_what_is_no_longer_allowed_and_keeps_the_rest(
    tmp_path: Path, port: int, started: Callable[[Path], Run]
) -> None:
    """The connection to the dropped name ends, the other one goes on under the new rules, and the program lives."""
    file = tmp_path / "policy.yaml"
    run = started(file)
    file.write_text(policy(port, KEPT, paths=("/new",)))
    assert "1 connection closed" in run.hup("policy reloaded: network_policies")
    assert run.finish() == "after 403 cut 200"


def test_a_bad_file_changes_nothing(tmp_path: Path, port: int, started: Callable[[Path], Run]) -> None:
    """A candidate that does not load is said, with its place, and everything stays; the mended one then loads."""
    file = tmp_path / "policy.yaml"
    run = started(file)
    file.write_text("version: 1\nnetwork_policies: {a: {endpoints: [{hots: x}]}}\n")
    assert "policy.yaml:2" in run.hup("the policy stays as it was")
    file.write_text(policy(port, KEPT, DROPPED, paths=("/open", "/new")))
    assert "0 connections closed" in run.hup("policy reloaded")
    assert run.finish() == "after 200 200 200"


def test_a_policy_that_the_program_could_have_written_is_refused(
    tmp_path: Path, port: int, started: Callable[[Path], Run]
) -> None:
    """In the workspace a file that was replaced is not covered any more; one that was edited in place is."""
    file = tmp_path / "ws" / "policy.yaml"
    run = started(file)
    file.write_text(policy(port, KEPT, DROPPED, paths=("/open", "/new")))
    assert "network_policies" in run.hup("policy reloaded")
    fresh = tmp_path / "ws" / "fresh"
    fresh.write_text(policy(port, KEPT, DROPPED, paths=("/**",)))
    fresh.rename(file)
    assert "is not the file of the start" in run.hup("the policy stays as it was")
    assert run.finish() == "after 200 200 200"


def test_a_policy_below_the_workspace_is_refused(tmp_path: Path, port: int, started: Callable[[Path], Run]) -> None:
    """Folders above a covered file can be moved aside by the program: what stands there is not trusted again."""
    file = tmp_path / "ws" / "conf" / "policy.yaml"
    (tmp_path / "ws").mkdir()
    run = started(file)
    file.write_text(policy(port, KEPT, DROPPED, paths=("/**",)))
    assert "that the program can write" in run.hup("the policy stays as it was")
    assert run.finish() == "after 200 200 403"


def test_a_terminal_that_hangs_up_still_ends_the_run(tmp_path: Path) -> None:
    """SIGHUP because the terminal is gone is passed on to the program, as for any other program."""
    (tmp_path / "ws").mkdir()
    file = tmp_path / "policy.yaml"
    file.write_text(f"version: 1\nfilesystem_policy: {{include_workdir: true, read_only: {SYSTEM}}}\n")
    environment = {
        **os.environ,
        "AGENTOS_STATE": str(tmp_path / "state"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-m", "agent_os", "run", "--no-tty", "-p", str(file), "--"]
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(tmp_path / "ws")
        os.execvpe(command[0], [*command, "sh", "-c", "touch up; exec sleep 60"], environment)
    deadline = time.monotonic() + 30
    while not (tmp_path / "ws" / "up").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.close(master)
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            assert os.waitstatus_to_exitcode(status) != 0
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the run outlived its terminal")
