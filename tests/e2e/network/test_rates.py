"""How often and how much: rates of a destination, and one budget that several processes spend at once."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.e2e.network.test_policy import opened
from tests.e2e.network.world import Client

POLICY = """
version: 1
network_policies:
  erp:
    endpoints:
      - host: erp.test
        port: {port}
        local: true
        protocol: rest
        path: "/api/**"
        rate: {{calls: 2, window: 1h}}
        rules: [{{allow: {{method: GET, path: "/api/**"}}}}]
      - {{host: erp.test, port: {port}, local: true, protocol: rest, path: "/free/**", access: read-only}}
      - {{host: git.test, port: {port}, local: true, rate: {{calls: 2, window: 1h, per: user}}}}
"""


async def test_requests_of_an_endpoint_are_counted(tmp_path: Path) -> None:
    """Two of an hour pass, the third says why it does not; requests that are denied, and others, are not counted."""
    async with opened(tmp_path, POLICY) as session:
        base = f"https://erp.test:{session.upstream.port}"
        assert (await session.curl("-X", "DELETE", f"{base}/api/1"))[2] == "403"
        assert [(await session.curl(f"{base}/api/{n}"))[2] for n in range(2)] == ["200", "200"]
        _, said, code = await session.curl(f"{base}/api/3")
        assert code == "403"
        assert "limit on requests is reached" in said
        assert "endpoints[0].rate" in said
        assert [(await session.curl(f"{base}/free/{n}"))[2] for n in range(3)] == ["200"] * 3


async def test_connections_that_are_passed_unread_are_counted(tmp_path: Path) -> None:
    """Where nothing is looked into each tunnel counts."""
    async with opened(tmp_path, POLICY) as session:
        address = ("127.0.0.1", int(session.url.rsplit(":", 1)[1]))
        statuses = []
        for _ in range(3):
            client = await Client.to(address)
            statuses.append(await client.connect(f"git.test:{session.upstream.port}"))
            client.close()
        assert statuses == [200, 200, 403]


class Sink(http.server.BaseHTTPRequestHandler):
    """Takes what is posted and counts it."""

    sizes: list[int]

    def do_POST(self) -> None:
        self.sizes.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.sizes.append(0)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Stay quiet."""


@pytest.mark.kernel
def test_two_runs_at_once_spend_one_budget_and_one_rate(tmp_path: Path) -> None:
    """Two processes, each with a guard of its own, on one budget of bytes and one rate: together not one request more than each has."""
    got: list[int] = []
    handler = type("Counting", (Sink,), {"sizes": got})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "p.yaml").write_text(
        "version: 1\nfilesystem_policy: {include_workdir: true, read_only: [/usr, /lib, /lib64, /bin, /sbin, /etc/ssl]}\n"
        f"network_policies: {{p: {{endpoints: [{{host: localhost, port: {server.server_port}, local: true, protocol: rest, path: /x,"
        f" access: full}}, {{host: localhost, port: {server.server_port}, local: true, protocol: rest, path: /r, access: read-only,"
        " rate: {calls: 5, window: 1h, per: user}}]}}\nbudgets: [{name: out, per: user, window: day, bytes: 100000}]\n"
    )
    step = f"curl -s -o /dev/null -w '%{{http_code}} ' --data-binary @body http://localhost:{server.server_port}/x;"
    look = f"curl -s -o /dev/null -w '%{{http_code}} ' http://localhost:{server.server_port}/r;"
    runs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "body").write_bytes(b"x" * 10_000)
        runs.append(
            subprocess.Popen(
                [sys.executable, "-m", "agent_os", "run", "-p", str(tmp_path / "p.yaml"), "--", "sh", "-c", look * 4 + step * 10],
                cwd=tmp_path / name, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "AGENTOS_STATE": str(tmp_path / "state"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        )  # fmt: skip
    said = [run.communicate(timeout=120) for run in runs]
    server.shutdown()
    server.server_close()
    if any(run.returncode == 125 for run in runs):
        pytest.skip(f"this machine cannot enforce it: {said[0][1]}")
    statuses = [code for output, _ in said for code in output.split()]
    assert len(statuses) == 28, said
    assert (statuses.count("204"), got.count(0)) == (5, 5)
    sent = [size for size in got if size]
    assert statuses.count("200") == len(sent)
    assert len(sent) in (8, 9), "ten thousand bytes each, and some hundred of heads and answers"
