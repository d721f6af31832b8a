"""`agentos run` under a policy with endpoints: the guard is the only way out, for every kind of program."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.escape.__main__ import as_unprivileged

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every GET with its path."""

    def do_GET(self) -> None:
        body = b"upstream:" + self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Stay quiet."""


@pytest.fixture
def port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def policy(folder: Path, port: int, name: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(
        f"""version: 1
filesystem_policy: {{include_workdir: true, read_only: [/usr, /lib, /lib64, /bin, /sbin, /etc/ssl], read_write: [/tmp]}}
network_policies:
  any_program:
    endpoints:
      - {{host: localhost, port: {port}, protocol: rest, enforcement: enforce, local: true, rules: [{{allow: {{method: GET, path: "/open"}}}}]}}
  curl_only:
    endpoints:
      - {{host: {name}, port: {port}, protocol: rest, enforcement: enforce, local: true, rules: [{{allow: {{method: GET, path: "/open"}}}}]}}
    binaries: [{{path: /usr/bin/curl}}]
"""
    )
    return path


def run(tmp_path: Path, port: int, script: str) -> str:
    ws = tmp_path / "ws"
    ws.mkdir(exist_ok=True)
    name = socket.gethostname()
    environment = {
        **os.environ,
        "AGENTOS_STATE": str(tmp_path / "state"),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    command = [
        sys.executable,
        "-m",
        "agent_os",
        "run",
        "-p",
        str(policy(tmp_path, port, name)),
        "--",
        "sh",
        "-c",
        script,
    ]
    done = subprocess.run(command, cwd=ws, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_programs_that_honour_the_proxy(tmp_path: Path, port: int) -> None:
    """Through the proxy variables the permitted request passes and any other is told why not."""
    out = run(
        tmp_path,
        port,
        f"curl -sS --noproxy '' -x $HTTP_PROXY http://localhost:{port}/open; curl -sS --noproxy '' -x $HTTP_PROXY http://localhost:{port}/closed",
    )
    assert "upstream:/open" in out
    assert "upstream:/closed" not in out
    assert "denied by policy" in out


def test_programs_that_know_no_proxy(tmp_path: Path, port: int) -> None:
    """A plain connection to the policy's name is caught, judged by path and by program."""
    name = socket.gethostname()
    out = run(
        tmp_path, port,
        f"curl -sS --noproxy '*' http://{name}:{port}/open; curl -sS --noproxy '*' http://{name}:{port}/closed;"
        f"python3 -c 'import socket; s=socket.create_connection((\"{name}\",{port})); s.sendall(b\"GET /open HTTP/1.1\\r\\nHost: {name}:{port}\\r\\nConnection: close\\r\\n\\r\\n\"); print(\"py\", s.recv(200)[:30])'",
    )  # fmt: skip
    assert out.count("upstream:/open") == 1
    assert "upstream:/closed" not in out
    assert "py b'HTTP/1.1 403" in out


def test_addresses_names_and_ports_the_policy_does_not_know(tmp_path: Path, port: int) -> None:
    """IP literals, the host's own loopback, other names, other ports and IPv6 lead nowhere."""
    script = (
        f"for u in http://8.8.8.8/ http://127.0.0.1:{port}/open http://[2001:db8::1]/ http://169.254.169.254/latest/; do "
        "curl -sS -m 4 --noproxy '*' -g $u | head -c 200; echo; done; getent hosts example.com || echo no-such-name;"
        "curl -sS -m 4 --noproxy '*' http://8.8.8.8:22/; curl -sS -m 4 --noproxy '' -x $HTTP_PROXY -p http://8.8.8.8:22/"
    )
    out = run(tmp_path, port, script)
    assert "upstream:" not in out
    assert "no-such-name" in out
    assert "denied by policy" in out


def test_without_endpoints_there_is_no_guard_and_no_way_out(tmp_path: Path, port: int) -> None:
    """A policy that names no endpoint gives an empty network: not even a refusal is answered."""
    ws = tmp_path / "ws"
    ws.mkdir()
    path = tmp_path / "p.yaml"
    path.write_text("version: 1\nfilesystem_policy: {include_workdir: true, read_only: [/usr, /lib, /lib64, /bin]}\n")
    environment = {
        **os.environ,
        "AGENTOS_STATE": str(tmp_path / "state"),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    command = [
        sys.executable,
        "-m",
        "agent_os",
        "run",
        "-p",
        str(path),
        "--",
        "curl",
        "-sS",
        "-m",
        "3",
        f"http://127.0.0.1:{port}/open",
    ]
    done = subprocess.run(command, cwd=ws, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7
    assert done.stdout == ""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root to become an ordinary user")
def test_all_of_it_as_an_unprivileged_user() -> None:
    """The guard serves the sandbox of an ordinary user just as well: no root, no veth, no relay."""
    done = as_unprivileged(["-m", "pytest", "-q", "-p", "no:cacheprovider", __file__], capture_output=True, timeout=200)
    assert done.returncode == 0, done.stdout[-4000:]
