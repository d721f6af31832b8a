"""A card number and a key planted in every kind of call appear in no log, record, trace, error or approval."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS, AgentOSError, Policy

ROOT = Path(__file__).resolve().parents[2]
CARD = "4111111111111111"
TOKEN = "ghp_" + "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zA1bC2"
PLANTED = (CARD, TOKEN, "4111 1111", "aB3dE6gH9j")
POLICY = """
version: 1
tools:
  pay: {{allow: true, ask: {{amount: {{min: 10}}}}, destination: external}}
  note: {{allow: true, destination: external}}
  broken: {{allow: true, destination: external}}
models: {{providers: {{p: {{kind: vllm, base_url: "http://127.0.0.1:9/v1", models: [m], retries: 0}}}}}}
privacy: {{names: lists, rules: {rules}}}
audit: {{payloads: encrypted, keep: 1d}}
"""
RULES = {
    "rewritten": "[{find: [CREDIT_CARD], to: any, do: pseudonymise}, {find: [SECRET], to: any, do: deny}]",
    "asked": "[{find: [CREDIT_CARD, SECRET], to: any, do: ask}]",
    "denied": "[{find: [CREDIT_CARD, SECRET], to: any, do: deny}]",
}


def commands(state: Path) -> dict[str, str]:
    """Return what the verbs that show the past print."""
    said = {}
    verbs = [
        "approvals list",
        "approvals list --json",
        "audit tail --json",
        "audit export --format jsonl",
        "audit export --format ocsf",
    ]
    for verb in verbs:
        ran = subprocess.run(
            [sys.executable, "-m", "agent_os", *verb.split()],
            env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTOS_STATE": str(state)},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        said[verb] = ran.stdout + ran.stderr
    return said


@pytest.mark.parametrize("way", sorted(RULES))
def test_planted_data_stands_nowhere(
    tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whether a policy rewrites, asks or denies: state files, logs, output, errors and approvals hold neither value."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "ws").mkdir()
    state = tmp_path / "state"
    got: list[str] = []
    errors: list[str] = []
    with AgentOS.open(
        Policy.parse(POLICY.format(rules=RULES[way])), principal="ana", workspace=tmp_path / "ws", state=state
    ) as system:

        @system.guarded
        def pay(amount: int, text: str) -> str:
            got.append(text)
            return text

        @system.guarded
        def note(text: str) -> str:
            got.append(text)
            return text

        @system.guarded
        def broken(text: str) -> str:
            raise ValueError(f"cannot do {text}")

        calls: list[Any] = [
            lambda text: pay(amount=50, text=text),
            lambda text: note(text=text),
            lambda text: broken(text=text),
            lambda text: system.perform(
                {"kind": "model.call", "provider": "p", "model": "m", "messages": [{"role": "user", "content": text}]}
            ),
            lambda text: system.perform({"kind": "tool.call", "tool": "nobody_knows", "args": {"a": text}}),
            lambda text: system.perform(
                {"kind": "net.request", "method": "POST", "url": "https://x.example/?q=" + text[-16:], "body": text}
            ),
            lambda text: system.perform({"kind": "message.send", "to": "ana", "body": text}),
        ]
        answers: list[Any] = []
        for call in calls:
            for text in (f"card {CARD}", f"key {TOKEN}"):
                try:
                    answers.append(call(text))
                except (AgentOSError, ValueError) as error:
                    errors.append(f"{error!r} {error} {getattr(error, 'decision', '')}")
    assert errors
    if way == "rewritten":
        assert any(CARD in str(answer) for answer in answers), "the benign twin: the caller has the original back"
        assert any("[CREDIT_CARD_1_" in text for text in got), "and the tool had a pseudonym"
    said = {**commands(state), "errors": "\n".join(errors), "logs": caplog.text, "tools": "\n".join(got)}
    out, err = capfd.readouterr()
    said.update(stdout=out, stderr=err)
    leaks = [(where, planted) for where, text in said.items() for planted in PLANTED if planted in text]
    for file in state.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            leaks += [(file.name, planted) for planted in PLANTED if planted.encode() in content]
    assert not leaks
    if way == "asked":
        waiting = json.loads(said["approvals list --json"])
        shown = json.dumps(waiting, ensure_ascii=False)
        assert "[CREDIT_CARD \u20261111]" in shown
        assert "[SECRET_GITHUB_TOKEN withheld]" in shown
