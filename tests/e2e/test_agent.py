"""`agentos agent`, `agentos init` and the quickstart, as a newcomer runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.models.providers import Asked, Reply, anthropic_reply, provider

ROOT = Path(__file__).resolve().parents[2]


def agentos(*args: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent_os", *args],
        cwd=cwd,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("AGENTOS", "ANTHROPIC"))},
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
            "AGENTOS_STATE": str(cwd.parent / "state"),
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace with a note in it, and something outside."""
    made = tmp_path / "work"
    made.mkdir()
    (made / "note.txt").write_text("buy milk\n")
    (tmp_path / "outside.txt").write_text("secret\n")
    return made


def model(asked: Asked) -> Reply:
    """Read the note, try what is outside, write a summary, say so."""
    turns = sum(message["role"] == "assistant" for message in asked.body["messages"])
    if turns == 0:
        return anthropic_reply(
            "", asked, calls=[("read_file", {"path": "note.txt"}), ("read_file", {"path": "../outside.txt"})]
        )
    if turns == 1:
        return anthropic_reply(
            "",
            asked,
            calls=[("write_file", {"path": "summary.md", "content": "milk"}), ("delete_file", {"path": "note.txt"})],
        )
    return anthropic_reply("I wrote summary.md.", asked)


def test_the_agent_works_and_is_held(folder: Path) -> None:
    """A real provider's client over HTTP: files in the workspace are read and written, outside is denied; an ask waits,
    and the session it names goes on with the answer."""
    with provider(model) as cloud:
        ran = agentos(
            "agent", "Summarise the note.", "--model", "anthropic:claude-test", "--json", cwd=folder,
            ANTHROPIC_BASE_URL=cloud.url, ANTHROPIC_API_KEY="not-a-key",
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    heard = [json.loads(line) for line in ran.stdout.splitlines()]
    assert heard[-1] == {"kind": "text", "tool": "", "text": "I wrote summary.md."}
    refused = {(each["tool"], each["text"].split(":")[0]) for each in heard if each["kind"] == "refused"}
    assert {tool for tool, _ in refused} == {"read_file", "delete_file"}
    assert any("waits for a person" in said for _, said in refused)
    assert (folder / "summary.md").read_text() == "milk"
    assert (folder / "note.txt").exists()
    assert "secret" not in str(cloud.asked[-1].body)
    offered = {tool["name"] for tool in cloud.asked[0].body["tools"]}
    assert "read_file" in offered
    assert "http_request" not in offered
    waiting = agentos("approvals", "list", "--json", cwd=folder)
    assert "delete_file" in waiting.stdout
    ask, session = re.findall(r"approvals show (\S+)|--session (\S+)", ran.stderr)
    assert agentos("approvals", "approve", ask[0], "-y", cwd=folder).returncode == 0
    with provider(model) as cloud:
        again = agentos(
            "agent", "Summarise the note.", "--model", "anthropic:claude-test", "--session", session[1], cwd=folder,
            ANTHROPIC_BASE_URL=cloud.url, ANTHROPIC_API_KEY="not-a-key",
        )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert not (folder / "note.txt").exists()
    assert "waits for a person" not in again.stderr


def test_yes_answers_asks_in_the_users_name(folder: Path) -> None:
    """With --yes the ask is answered and recorded."""
    with provider(model) as cloud:
        ran = agentos(
            "agent", "Summarise.", "-y", "--model", "anthropic:claude-test", cwd=folder,
            ANTHROPIC_BASE_URL=cloud.url, ANTHROPIC_API_KEY="not-a-key",
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert not (folder / "note.txt").exists()
    assert "I wrote summary.md." in ran.stdout


def test_a_model_the_policy_does_not_allow_is_denied(folder: Path) -> None:
    """Under a policy that names another model the call is denied, with exit status 3 and nothing sent."""
    (folder.parent / "p.yaml").write_text(
        "version: 1\nextends: [pack:baseline]\nmodels: {providers: {anthropic: {kind: anthropic, models: [claude-other]}}}\n"
    )
    with provider(model) as cloud:
        ran = agentos(
            "agent", "x", "--policy", "../p.yaml", "--model", "anthropic:claude-test", cwd=folder,
            ANTHROPIC_BASE_URL=cloud.url, ANTHROPIC_API_KEY="not-a-key",
        )  # fmt: skip
    assert ran.returncode == 3, ran.stderr
    assert cloud.asked == []


def test_without_a_model_it_says_how_to_name_one(folder: Path) -> None:
    """No model is a usage error that names every way to give one."""
    ran = agentos("agent", "x", cwd=folder)
    assert ran.returncode == 2
    assert "--model" in ran.stderr


def test_init_writes_a_policy_that_loads_and_keeps_what_is_there(folder: Path) -> None:
    """The policy is valid, names what looks sensitive, and is not overwritten without --force; neither is a link."""
    (folder / ".env").write_text("KEY=1")
    made = agentos("init", "--model", "anthropic:claude-test", "--json", cwd=folder)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["rules"] > 10
    text = (folder / "policy.yaml").read_text()
    assert '".env"' in text
    assert "pack:baseline" in text
    again = agentos("init", cwd=folder)
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert (folder / "policy.yaml").read_text() == text
    assert agentos("policy", "check", "policy.yaml", cwd=folder).returncode == 0
    target = folder.parent / "precious.txt"
    target.write_text("precious")
    (folder / "policy.yaml").unlink()
    (folder / "policy.yaml").symlink_to(target)
    assert agentos("init", "--force", cwd=folder).returncode == 1
    assert target.read_text() == "precious"


def test_the_operators_default_model_is_used(folder: Path) -> None:
    """What `init --model` kept in the state directory is the agent's model."""
    assert agentos("init", "--model", "anthropic:claude-test", cwd=folder).returncode == 0
    with provider(lambda asked: anthropic_reply("hello", asked)) as cloud:
        ran = agentos("agent", "hi", cwd=folder, ANTHROPIC_BASE_URL=cloud.url, ANTHROPIC_API_KEY="not-a-key")
    assert ran.returncode == 0, ran.stderr
    assert cloud.asked[0].body["model"] == "claude-test"


def test_the_quickstart_runs(tmp_path: Path) -> None:
    """The script in examples/ runs as it stands, denies what it says, and writes its file."""
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples/langchain_quickstart.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTOS_STATE": str(tmp_path / "state")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "denied by policy" in ran.stdout
    assert ran.stdout.rstrip().endswith("Buy milk.")
    assert "launch code" not in ran.stdout


@pytest.mark.parametrize("end", ["SIGINT", "SIGTERM", "SIGINT, ignored when it began"])
def test_serve_prints_where_it_listens_and_answers(tmp_path: Path, end: str) -> None:
    """`agentos serve --json` says url and token; an HTTP client gets an answer; an interrupt or SIGTERM ends it in good order."""
    import signal

    import httpx

    from tests.e2e.models.providers import openai_reply

    (tmp_path / "ws").mkdir()
    with provider(lambda asked: openai_reply("served", asked)) as near:
        (tmp_path / "p.yaml").write_text(
            f'version: 1\nmodels: {{providers: {{p: {{kind: vllm, base_url: "{near.url}/v1", models: [m]}}}}}}\n'
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "agent_os", "serve", "--policy", str(tmp_path / "p.yaml"), "--port", "0", "--json"],
            cwd=tmp_path / "ws", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTOS_STATE": str(tmp_path / "state"), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            answer = httpx.post(
                said["url"] + "/v1/chat/completions",
                json={"model": "m", "messages": [{"role": "user", "content": "hi"}]},
                headers={"authorization": f"Bearer {said['token']}"},
            )
            assert answer.json()["choices"][0]["message"]["content"] == "served"
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        assert process.returncode == 0
