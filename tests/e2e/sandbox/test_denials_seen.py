"""What a person sees when the network guard denies: the reason, whatever program asked."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel
PATH_DENIED = "denied by policy: GET /private"
HOST_DENIED = "endpoint denied.example:443 is not allowed by any policy"
PYTHON = sys.executable
UV = shutil.which("uv", path=os.pathsep.join((os.path.dirname(PYTHON), os.environ["PATH"]))) or "uv"
COMMANDS = {
    "curl": "curl -sS {url}/private; curl -sS http://denied.example/; curl -sS https://denied.example/",
    "git": "git clone -q {url}/private.git; git clone -q https://denied.example/private.git",
    "uv": f"{UV} pip install --no-cache --target out --python {PYTHON} -i https://denied.example/simple demo",
    "wget": "wget -nv -O- {url}/private; wget -nv -O- https://denied.example/",
    "npm": "npm view private --registry={url}/ --fetch-retries=0; npm view x --registry=https://denied.example/",
    "node": "node -e \"fetch('{url}/private').then(r=>console.log(r.status,r.statusText))\"",
    "pip": f"{PYTHON} -m pip download --no-cache-dir -i https://denied.example/simple demo",
    "requests": f"{PYTHON} -c 'import requests; requests.get(\"{{url}}/private\").raise_for_status()'; "
    f"{PYTHON} -c 'import requests; requests.get(\"https://denied.example/\")'",
    "httpx": f"{PYTHON} -c 'import httpx; httpx.get(\"{{url}}/private\").raise_for_status()'; "
    f"{PYTHON} -c 'import httpx; httpx.get(\"https://denied.example/\")'",
}
SEEN = {
    "curl": [
        '"detail": "GET /private not permitted by policy"',
        '"detail": "endpoint denied.example:80 is not allowed',
        f'"detail": "{HOST_DENIED}',
    ],
    "git": [
        "remote: denied by policy: GET /private.git/info/refs not permitted",
        "remote: allowed instead:",
        f"remote: denied by policy: {HOST_DENIED}",
    ],
    "uv": ["An index (https://denied.example/simple) returned a 403 Forbidden error"],
    "wget": ["ERROR 403: Denied by policy: GET /private", f"Proxy tunneling failed: Denied by policy: {HOST_DENIED}"],
    "npm": ["403 Denied by policy: GET /private not permitted by policy", f"403 Denied by policy: {HOST_DENIED}"],
    "node": ["403 Denied by policy: GET /private not permitted by policy"],
    "pip": [f"Tunnel connection failed: 403 Denied by policy: {HOST_DENIED}"],
    "requests": ["403 Client Error: Denied by policy: GET /private", f"failed: 403 Denied by policy: {HOST_DENIED}"],
    "httpx": ["Client error '403 Denied by policy: GET /private", f"ProxyError: 403 Denied by policy: {HOST_DENIED}"],
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every GET."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"fine\n")

    def log_message(self, *_arguments: object) -> None:
        """Stay quiet."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], str]]:
    """One run of all programs; what each of them said, and what `agentos run` said at its end."""
    folder = tmp_path_factory.mktemp("denials")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://localhost:{server.server_port}"
    roots = ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ssl", "/etc/alternatives", sys.prefix, sys.base_prefix]
    (folder / "ws").mkdir()
    (folder / "p.yaml").write_text(
        f"version: 1\nfilesystem_policy: {{include_workdir: true, read_only: [{', '.join(dict.fromkeys(roots))}]}}\n"
        f"network_policies: {{p: {{endpoints: [{{host: localhost, port: {server.server_port}, local: true, protocol: rest,"
        ' enforcement: enforce, rules: [{allow: {method: GET, path: "/public/**"}}]}]}}\n'
    )
    steps = "\n".join(f"echo; echo '#### {name}'; {line.format(url=url)}" for name, line in COMMANDS.items())
    done = subprocess.run(
        [PYTHON, "-m", "agent_os", "run", "-p", str(folder / "p.yaml"), "--", "sh", "-c",
         f"exec 2>&1; curl -sS {url}/public/x; {steps}"],
        cwd=folder / "ws", capture_output=True, text=True, timeout=280, check=False,
        env={**os.environ, "AGENTOS_STATE": str(folder / "state"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    first, *parts = done.stdout.split("#### ")
    assert first.strip() == "fine", done.stdout[:500] + done.stderr[-500:]
    yield {name: rest for name, _, rest in (part.partition("\n") for part in parts)}, done.stderr
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("program", COMMANDS)
def test_the_reason_reaches_the_person(ran: tuple[dict[str, str], str], program: str) -> None:
    """The program itself prints why, for a path of a host that is allowed and for a host that is not."""
    if (
        program in ("git", "npm", "node", "curl", "wget", "uv")
        and shutil.which(UV if program == "uv" else program) is None
    ):
        pytest.skip(f"{program} is not installed")
    said = ran[0][program]
    if "No module named" in said:
        pytest.skip(f"{program} is not installed")
    for wanted in SEEN[program]:
        assert wanted in said, said


def test_pip_does_not_wait_for_a_network_that_is_not_broken(ran: tuple[dict[str, str], str]) -> None:
    """One retry, not five with growing pauses."""
    if "No module named" in ran[0]["pip"]:
        pytest.skip("pip is not installed")
    assert ran[0]["pip"].count("Retrying") <= 1


def test_the_run_says_at_its_end_what_was_denied(ran: tuple[dict[str, str], str]) -> None:
    """For programs that show a status and nothing more (uv, `curl -f`): one line a kind, counted and bounded."""
    lines = [line for line in ran[1].splitlines() if line.startswith("agentos: ")]
    assert any(f"denied by policy: {HOST_DENIED} (" in line for line in lines), ran[1]
    assert any(line.startswith("agentos: to allow it: run it with --observe") for line in lines)
    assert len(lines) <= 8


def test_a_run_without_denials_says_nothing(tmp_path: Path) -> None:
    """The benign twin: nothing on stderr that the program did not write."""
    (tmp_path / "p.yaml").write_text(
        "version: 1\nfilesystem_policy: {include_workdir: true, read_only: [/usr, /lib, /lib64, /bin]}\n"
    )
    (tmp_path / "ws").mkdir()
    done = subprocess.run(
        [PYTHON, "-m", "agent_os", "run", "-p", str(tmp_path / "p.yaml"), "--", "echo", "fine"],
        cwd=tmp_path / "ws", capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "AGENTOS_STATE": str(tmp_path / "state"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")
