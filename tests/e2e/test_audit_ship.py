"""`agentos audit ship` against a real collector's protocol and a real HTTP endpoint on loopback."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS, DeniedError, Policy

POLICY = """
version: 1
tools: {read_file: {allow: {path: {under: inbox/}}}}
filesystem_policy: {include_workdir: true}
"""
PLANTED = "the-secret-in-the-file"


class Endpoint:
    """Takes what is posted, answers with `status`."""

    def __init__(self) -> None:
        self.status, self.bodies, self.headers = 200, list[bytes](), list[dict[str, str]]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if outer.status == 200:
                    outer.bodies.append(body)
                    outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(outer.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Stay quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "ws/inbox").mkdir(parents=True)
    (tmp_path / "ws/inbox/a.txt").write_text(PLANTED)
    act(tmp_path / "state")
    return tmp_path / "state"


def act(state: Path) -> None:
    """One call that is allowed and one that is denied."""
    with AgentOS.open(
        Policy.parse(POLICY), principal="ana@corp.example", workspace=state.parent / "ws", state=state
    ) as system:
        system.perform({"kind": "tool.call", "tool": "read_file", "args": {"path": "inbox/a.txt"}})
        with pytest.raises(DeniedError):
            system.perform({"kind": "tool.call", "tool": "read_file", "args": {"path": "payroll.csv"}})


def ship(state: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "AGENTOS_STATE": str(state), **environment}
    command = [sys.executable, "-m", "agent_os", "audit", "ship", *arguments, "--once"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def spans_of(bodies: list[bytes]) -> list[Any]:
    trace_service = pytest.importorskip(
        "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="the extra otel"
    )
    requests = [trace_service.ExportTraceServiceRequest.FromString(body) for body in bodies]
    return [
        span
        for request in requests
        for each in request.resource_spans
        for scope in each.scope_spans
        for span in scope.spans
    ]


def test_actions_arrive_as_spans_once_and_without_values(state: Path, endpoint: Endpoint) -> None:
    """An OpenTelemetry collector gets each action by name, with its rule; a second look sends only what is new."""
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel")
    done = ship(state, endpoint.url)
    assert done.returncode == 0, done.stderr
    found = spans_of(endpoint.bodies)
    assert sorted(span.name for span in found) == ["execute_tool read_file", "execute_tool read_file", "fs.read"]
    assert sorted(span.status.code for span in found) == [1, 1, 2]
    assert PLANTED.encode() not in b"".join(endpoint.bodies)
    assert "0 records" in ship(state, endpoint.url).stdout
    act(state)
    assert "3 spans" in ship(state, endpoint.url).stdout
    assert len(spans_of(endpoint.bodies)) == 6


@pytest.mark.parametrize("form", ["otlp", "ocsf", "jsonl"])
def test_what_an_endpoint_does_not_take_is_sent_again(state: Path, endpoint: Endpoint, form: str) -> None:
    """A destination that answers with an error loses nothing: exit 1, and everything comes the next time."""
    if form == "otlp":
        pytest.importorskip("opentelemetry.sdk", reason="the extra otel")
    endpoint.status = 400
    failed = ship(state, endpoint.url, "--format", form)
    assert failed.returncode == 1
    assert "did not take" in failed.stderr
    assert "Traceback" not in failed.stderr
    endpoint.status = 200
    assert ship(state, endpoint.url, "--format", form).returncode == 0
    sent = spans_of(endpoint.bodies) if form == "otlp" else b"".join(endpoint.bodies).splitlines()
    assert len(sent) >= 3


def test_events_go_to_a_siem_with_its_own_header(state: Path, endpoint: Endpoint) -> None:
    """OCSF lines, behind the operator's header, each a whole JSON document."""
    done = ship(state, endpoint.url, "--format", "ocsf", AGENTOS_SHIP_HEADERS="authorization=Splunk 123")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in b"".join(endpoint.bodies).splitlines()]
    assert {event["metadata"]["version"] for event in events} == {"1.3.0"}
    assert any(event["disposition_id"] == 2 for event in events)
    assert endpoint.headers[0]["authorization"] == "Splunk 123"
    assert PLANTED.encode() not in b"".join(endpoint.bodies)


def test_from_now_leaves_out_what_was_before(state: Path, endpoint: Endpoint) -> None:
    """The first time it can begin at the end; later times go on from there."""
    assert "0 records" in ship(state, endpoint.url, "--format", "jsonl", "--from-now").stdout
    act(state)
    assert ship(state, endpoint.url, "--format", "jsonl", "--from-now").returncode == 0
    kinds = [json.loads(line)["type"] for line in b"".join(endpoint.bodies).splitlines()]
    assert kinds.count("denied") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ftp://somewhere"], "http://"),
        (["http://127.0.0.1:9", "--format", "xml"], "one of otlp, ocsf, jsonl"),
    ],
)
def test_bad_input_names_the_field(state: Path, arguments: list[str], said: str) -> None:
    """A URL or format that is none is told at once."""
    done = ship(state, *arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_position_is_no_reason_to_skip(state: Path, endpoint: Endpoint) -> None:
    """ATTACK: a position file that was tampered with stops the sending and says what to do, instead of leaving records out."""
    assert ship(state, endpoint.url, "--format", "jsonl").returncode == 0
    (position,) = (state / "ship").iterdir()
    position.write_text('{"read": "everything"}')
    done = ship(state, endpoint.url, "--format", "jsonl")
    assert done.returncode == 1
    assert "remove it to send everything again" in done.stderr


def test_a_position_that_cannot_be_kept_is_said(state: Path, endpoint: Endpoint) -> None:
    """Where the position cannot be written the verb fails with one line; what was sent then is sent again."""
    (state / "ship").write_text("not a folder")
    done = ship(state, endpoint.url, "--format", "jsonl")
    assert done.returncode == 1
    assert "how far was sent cannot be kept" in done.stderr
    assert "Traceback" not in done.stderr
    (state / "ship").unlink()
    sent = len(endpoint.bodies)
    assert ship(state, endpoint.url, "--format", "jsonl").returncode == 0
    assert endpoint.bodies[sent:], "nothing is lost"


@pytest.mark.parametrize("since", [None, {}])
def test_the_follower_survives_new_segments(tmp_path: Path, since: dict[str, int] | None) -> None:
    """However many segments came since the last look, all of them are read, by one that began now as by one that read all."""
    from agent_os.effects.audit_read import Follower
    from tests.unit.effects.audit_support import INTENT, open_log

    def write(count: int) -> None:
        import asyncio

        async def run() -> None:
            log = open_log(tmp_path, segment_bytes=400)
            for _ in range(count):
                await log.append(INTENT)
            await asyncio.to_thread(log.close)

        asyncio.run(run())

    write(4)
    follower = Follower(tmp_path, since=since)
    seen = [record for record in follower.poll() if record["type"] == "intent"]
    write(5)
    later = Follower(tmp_path, since=follower.positions())
    for each in (follower, later):
        more = [record for record in each.poll() if record["type"] == "intent"]
        assert (len(seen), len(more)) == (0 if since is None else 4, 5)
        assert each.poll() == []
