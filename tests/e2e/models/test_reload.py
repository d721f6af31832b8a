"""SIGHUP to a running `agentos serve`: another policy holds for every caller at once, or the old one stays whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from agent_os.runtime.serving.callers import new_token
from tests.e2e.models.providers import Provider, openai_reply, provider
from tests.e2e.models.serving import records

ROOT = Path(__file__).parents[3]
MAIL = "jane.roe@corp.example"


class Served:
    """A running `agentos serve`."""

    def __init__(self, folder: Path, text: str, *words: str) -> None:
        self.folder, self.file, self.lines = folder, folder / "p.yaml", list[str]()
        (folder / "ws").mkdir()
        self.file.write_text(text)
        self.child = subprocess.Popen(
            [sys.executable, "-m", "agent_os", "serve", "--policy", str(self.file), "--port", "0", "--json", *words],
            cwd=folder / "ws", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTOS_STATE": str(folder / "state"), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self.child.stdout is not None
        self.said: dict[str, str] = json.loads(self.child.stdout.readline())
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        assert self.child.stderr is not None
        self.lines.extend(iter(self.child.stderr.readline, ""))

    def reload(self, text: str, expected: str) -> str:
        """Put another text in the policy's place; return what was said of it."""
        self.file.write_text(text)
        since = len(self.lines)
        self.child.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for line in self.lines[since:]:
                if expected in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"{expected!r} was not said: {self.lines}")

    def ask(self, content: str = "hi", model: str = "m", token: str = "") -> tuple[int, Any]:
        """Call the gateway; return the status and the answer's text, or the body of a refusal."""
        answer = httpx.post(
            self.said["url"] + "/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": content}]},
            headers={"authorization": f"Bearer {token or self.said['token']}"},
            timeout=20,
        )
        body = answer.json()
        return answer.status_code, body["choices"][0]["message"]["content"] if answer.status_code == 200 else body


@contextmanager
def serve(folder: Path, text: str, *words: str) -> Iterator[Served]:
    served = Served(folder, text, *words)
    try:
        yield served
    finally:
        served.child.send_signal(signal.SIGINT)
        served.child.wait(20)


def policy(near: Provider, *more: str, models: str = "m", price: str = "") -> str:
    return "\n".join(
        [
            "version: 1",
            f'models: {{providers: {{p: {{kind: vllm, base_url: "{near.url}/v1", models: [{models}]{price}}}}}}}',
            *more,
            "",
        ]
    )


def test_every_section_of_a_gateway_is_reloaded(tmp_path: Path) -> None:
    """Providers, privacy and budgets of the new policy hold from the reload on; calls and callers go on."""
    with (
        provider(lambda asked: openai_reply("from the first", asked)) as first,
        provider(lambda asked: openai_reply("from the second", asked)) as second,
        serve(tmp_path, policy(first)) as served,
    ):
        assert served.ask(f"mail {MAIL}") == (200, "from the first")
        assert MAIL in json.dumps(first.asked[-1].body)
        privacy = "privacy: [{find: [EMAIL_ADDRESS], to: any, do: pseudonymise}]"
        assert "models, privacy" in served.reload(policy(second, privacy), "policy reloaded")
        assert served.ask(f"mail {MAIL}") == (200, "from the second")
        assert MAIL not in json.dumps(second.asked[-1].body)
        served.reload(
            policy(second, privacy, "budgets: [{per: user, window: day, calls: 0}]"), "policy reloaded: budgets"
        )
        assert served.ask()[0] in (403, 429)
        served.reload(policy(second, privacy), "policy reloaded: budgets")
        assert served.ask() == (200, "from the second")
        served.reload(policy(second, privacy, price=", price: {input: 10, output: 10}"), "policy reloaded: models")
        assert served.ask() == (200, "from the second")
        assert (len(first.asked), len(second.asked)) == (1, 3)
    assert len(records(tmp_path, "policy.reloaded")) == 4
    before, after = [record["usage"]["usd"] for record in records(tmp_path, "outcome") if record["ok"]][-2:]
    assert before == 0 < after, "a call costs what the policy in force says"


def test_a_gateway_keeps_its_policy_whole_when_a_candidate_cannot_hold(tmp_path: Path) -> None:
    """A bad file, a section that needs a restart and a module that does not compile: each named, and nothing of it holds."""
    with provider(lambda asked: openai_reply("served", asked)) as near, serve(tmp_path, policy(near)) as served:
        other = policy(near, models="other")
        bad = [
            (other.replace("kind:", "knid:"), "p.yaml:2"),
            (other + "audit: {retention: 90d}\n", "audit cannot change under a running server"),
            (other + "flow: {authority_from_untrusted: ask}\n", "flow (what was read before it is not known)"),
            (other + "rego: [{path: bad.rego, package: models}]\n", "bad.rego"),
        ]
        (tmp_path / "bad.rego").write_text("package models\nallow if {")
        for text, named in bad:
            assert named in served.reload(text, "the policy stays as it was")
            assert served.ask() == (200, "served")
            assert served.ask(model="other")[0] != 200
        served.reload(other, "policy reloaded: models")
        assert served.ask()[0] != 200
        assert served.ask(model="other") == (200, "served")
    assert len(records(tmp_path, "policy.refused")) == len(bad)


def test_callers_come_and_go_without_a_restart(tmp_path: Path) -> None:
    """A token that is gone from the callers' file opens nothing after SIGHUP, a new one does, who stays is not disturbed; a file that
    does not load changes neither callers nor policy.
    """
    file = tmp_path / "callers.toml"
    (stays, row), (goes, old), (comes, new) = (new_token(name, name) for name in ("acme", "bolt", "cato"))
    file.write_text(row + old)
    with (
        provider(lambda asked: openai_reply("served", asked)) as near,
        serve(tmp_path, policy(near), "--callers", str(file)) as served,
    ):
        assert [served.ask(token=token)[0] for token in (stays, goes, comes)] == [200, 200, 401]
        file.write_text(row + new + "tenat = 1")
        served.reload(policy(near, models="other"), "unknown key")
        assert [served.ask(token=token)[0] for token in (stays, goes, comes)] == [200, 200, 401]
        file.write_text(row + new)
        served.reload(policy(near), "the callers are those of")
        assert [served.ask(token=token)[0] for token in (stays, goes, comes)] == [200, 401, 200]
