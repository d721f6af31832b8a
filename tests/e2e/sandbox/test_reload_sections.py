"""SIGHUP to a running `agentos run`: every section of the new policy holds at once, or the old policy stays whole."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.models.providers import openai_reply, provider

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(not shutil.which("python3"), reason="no python3 here")]

SYSTEM = "[/usr, /lib, /lib64, /bin, /sbin, /etc/ssl]"
PROGRAM = """
import http.client, json, os, ssl, time
number = 0
while True:
    number += 1
    name = f"{number}.ask"
    while not os.path.exists(name):
        time.sleep(0.02)
    ask = json.load(open(name))
    if ask is None:
        break
    try:
        if ask["tls"]:
            connection = http.client.HTTPSConnection(ask["host"], ask["port"], context=ssl.create_default_context())
        else:
            connection = http.client.HTTPConnection(ask["host"], ask["port"])
        connection.request(ask["method"], ask["path"], ask["body"], ask["headers"])
        answer = connection.getresponse()
        said = [answer.status, answer.read().decode()]
    except (OSError, http.client.HTTPException) as error:
        said = [0, type(error).__name__]
    print("said", number, json.dumps(said), flush=True)
"""


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the file of the test's choice, and keeps what it was sent."""

    protocol_version = "HTTP/1.1"
    answer = b"ok"
    seen: list[dict[str, str]] = []  # noqa: RUF012 - one server a test

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        type(self).seen.append({**{key.lower(): value for key, value in self.headers.items()}, "body": body.decode()})
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.answer)))
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_arguments: object) -> None:
        """Stay quiet."""


@pytest.fixture
def server() -> Iterator[tuple[int, type[Echo]]]:
    handler = type("Handler", (Echo,), {"seen": []})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running.server_port, handler
    running.shutdown()
    running.server_close()


class Run:
    """A running `agentos run` whose program asks what it is told to ask."""

    def __init__(self, folder: Path, text: str, **environment: str) -> None:
        self.folder, self.file, self.number = folder / "ws", folder / "policy.yaml", 0
        self.folder.mkdir()
        self.file.write_text(text)
        self.child = subprocess.Popen(
            [sys.executable, "-m", "agent_os", "run", "-p", str(self.file), "--", "python3", "-c", PROGRAM],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "AGENTOS_STATE": str(folder / "state"),
                 "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment},
        )  # fmt: skip
        self.lines: list[str] = []
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        assert self.child.stdout is not None
        self.lines.extend(iter(self.child.stdout.readline, ""))

    def said(self, part: str, since: int = 0) -> str:
        """Wait for a line that holds `part`."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for line in list(self.lines)[since:]:
                if part in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"{part!r} was not said: {self.lines}")

    def ask(
        self, port: int, body: str = "", *, host: str = "localhost", path: str = "/x", tls: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:  # fmt: skip
        """Let the program ask; return the status and the body it saw."""
        self.number += 1
        asked: dict[str, Any] = {"host": host, "port": port, "path": path, "tls": tls, "body": body, "method": "POST"}
        fresh = self.folder / "fresh"
        fresh.write_text(json.dumps({**asked, "headers": dict(headers or {})}))
        fresh.rename(self.folder / f"{self.number}.ask")
        status, said = json.loads(self.said(f"said {self.number} ").split(" ", 2)[2])
        return status, said

    def reload(self, text: str, expected: str) -> str:
        """Put another text in the policy's place; return what was said of it."""
        self.file.write_text(text)
        since = len(self.lines)
        self.child.send_signal(signal.SIGHUP)
        return self.said(expected, since)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def begin(text: str, **environment: str) -> Run:
        runs.append(Run(tmp_path, text, **environment))
        return runs[-1]

    yield begin
    for run in runs:
        run.child.kill()
        run.child.wait()


def policy(port: int, *more: str, content: str = "", files: str = SYSTEM) -> str:
    """A policy with one inspected endpoint."""
    return "\n".join(
        [
            "version: 1",
            f"filesystem_policy: {{include_workdir: true, read_only: {files}}}",
            f"network_policies: {{p: {{endpoints: [{{host: localhost, port: {port}, local: true, protocol: rest,"
            f" enforcement: enforce, access: full{content}}}]}}}}",
            *more,
            "",
        ]
    )


def test_secrets_privacy_and_findings_hold_after_a_reload(
    server: tuple[int, type[Echo]], start: Callable[..., Run]
) -> None:
    """A new secret is filled in, personal data is held back, and answers are looked at, all from the reload on."""
    port, handler = server
    handler.answer = b"write to jane.roe@corp.example please"
    run = start(policy(port), NEW_KEY="the-key-of-the-service")
    placeholder = {"x-key": "agentos-secret:NEW_KEY"}
    assert run.ask(port, headers=placeholder)[0] == 403
    assert run.ask(port, "mail jane.roe@corp.example") == (200, handler.answer.decode())
    secrets = "secrets: {NEW_KEY: {from: env, destinations: [localhost], where: [header]}}"
    privacy = "privacy: [{find: [EMAIL_ADDRESS], to: any, do: deny}]"
    findings = ", content: {response_findings: [{find: [EMAIL_ADDRESS], do: mask}]}"
    assert "content" not in run.reload(policy(port, secrets, privacy, content=findings), "policy reloaded")
    assert run.ask(port, headers=placeholder) == (200, "write to [REDACTED_EMAIL_ADDRESS] please")
    assert handler.seen[-1]["x-key"] == "the-key-of-the-service"
    before = len(handler.seen)
    assert run.ask(port, "mail jane.roe@corp.example")[0] == 403
    assert len(handler.seen) == before
    run.reload(policy(port, privacy.replace("deny", "pseudonymise"), content=""), "policy reloaded: ")
    assert run.ask(port, "mail jane.roe@corp.example")[0] == 200
    assert "jane.roe" not in handler.seen[-1]["body"]
    assert run.ask(port, headers=placeholder)[0] == 403


def test_models_are_called_where_the_new_policy_says(server: tuple[int, type[Echo]], start: Callable[..., Run]) -> None:
    """`inference.local` answers with the provider of the policy in force; a budget for it holds from the reload on."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}

    def models(url: str) -> str:
        return f'models: {{providers: {{p: {{kind: vllm, base_url: "{url}/v1", models: [m]}}}}}}'

    def call(run: Run) -> tuple[int, str]:
        return run.ask(443, json.dumps(asked), host="inference.local", path="/v1/chat/completions", tls=True,
                       headers={"content-type": "application/json"})  # fmt: skip

    with (
        provider(lambda one: openai_reply("from the first", one)) as first,
        provider(lambda one: openai_reply("from the second", one)) as second,
    ):
        run = start(policy(server[0], models(first.url)))
        assert "from the first" in call(run)[1]
        run.reload(policy(server[0], models(second.url)), "policy reloaded: models")
        assert "from the second" in call(run)[1]
        assert len(first.asked) == 1
        budget = "budgets: [{per: agent, window: run, calls: 0}]"
        run.reload(policy(server[0], models(second.url), budget), "policy reloaded: budgets")
        assert call(run)[0] in (403, 429)
        assert len(second.asked) == 1
        run.reload(policy(server[0]), "policy reloaded: ")
        assert call(run)[0] != 200
        assert len(second.asked) == 1


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"files": SYSTEM.replace("]", ", /opt]")}, "filesystem_policy cannot change under a running program"),
        ({"lines": ["process: {}"]}, "process cannot change under a running program"),
        ({"lines": ["flow: {authority_from_untrusted: ask}"]}, "flow (what was read before it is not known)"),
    ],
)
def test_what_needs_a_restart_is_named_and_nothing_of_it_holds(
    server: tuple[int, type[Echo]], start: Callable[..., Run], more: dict[str, Any], named: str
) -> None:
    """The rest of such a candidate does not hold either; without that change it does."""
    port, _ = server
    run = start(policy(port))
    assert run.ask(port, "x")[0] == 200
    closed = policy(port, *more.get("lines", []), files=more.get("files", SYSTEM)).replace(
        "access: full", "access: read-only"
    )
    assert named in run.reload(closed, "the policy stays as it was")
    assert run.ask(port, "x")[0] == 200
    run.reload(policy(port).replace("access: full", "access: read-only"), "policy reloaded: network_policies")
    assert run.ask(port, "x")[0] == 403


def test_a_section_whose_engine_cannot_be_made_changes_nothing(
    server: tuple[int, type[Echo]], start: Callable[..., Run], tmp_path: Path
) -> None:
    """A Rego module that does not compile is refused with the file; the rules that came with it do not hold."""
    port, _ = server
    run = start(policy(port))
    assert run.ask(port, "x")[0] == 200
    (tmp_path / "bad.rego").write_text("package egress\nallow if {")
    rego = "rego: [{path: bad.rego, package: egress}]"
    said = run.reload(policy(port, rego).replace("access: full", "access: read-only"), "the policy stays as it was")
    assert "bad.rego" in said
    assert run.ask(port, "x")[0] == 200
