"""`agentos audit|approvals|keys|budget` on a real state directory: output, exit status, and who may answer."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.approval import Approval
from agent_os.core.budget import Budget
from agent_os.core.principal import Principal
from agent_os.effects.audit_files import segments_of
from agent_os.runtime.state import open_state

WHO = {"tenant": "default", "user": "alice", "agent": "main", "session": "s1"}


def _records() -> list[dict[str, Any]]:
    action = {"kind": "tool.call", "tool": "send_payment", "digest": "sha256:1"}
    egress = {"kind": "net.request", "host": "evil.example", "port": 443, "method": "POST"}
    intent = {"type": "intent", "time": 1763721000.5, "action": action, "verdict": "allow", "rules": ["tools.x"], **WHO}
    return [
        {**intent, "ref": "act_1"},
        {"type": "outcome", "time": 1763721001.5, "ref": "act_1", "ok": True},
        {**intent, "type": "denied", "ref": "act_2", "action": egress, "verdict": "deny", "reason": "=1+1"},
        {**intent, "ref": "act_3"},
    ]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory after a run with four records, an ask, a budget and a payload."""
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    state = open_state(payload_days=1)

    async def fill() -> None:
        for record in _records():
            await state.audit.append(record)
        view = state.stores.budgets.view([Budget("user/year", "user", "year", {"usd": 2.0})], Principal(user="alice"))
        await view.reserve("r", {"user/year": {"usd": 0.5}})
        await view.settle("r", {"user/year": {"usd": 0.25}})
        assert state.stores.payloads is not None
        await state.stores.payloads.put("act_1", {"action": {"kind": "tool.call", "args": {"amount": 5}}})
        await state.stores.payloads.put("act_1.out", {"value": "paid", "error": ""})
        await state.stores.payloads.put("prompt/s1", {"prompt": "pay it"})
        await state.stores.approvals.request(
            Approval(
                "apr_1", {"kind": "tool.call"}, "sha256:1", "sha256:2", ("tools.x.ask",), "amount over 1000",
                time.time(), time.time() + 600, requester="alice",
                preview={"kind": "tool.call", "target": "send_payment", "arguments": {"to": "\x1b[31mred", "amount": 5}},
            )
        )  # fmt: skip

    asyncio.run(fill())
    state.close()
    return tmp_path / "state"


def agentos(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "agent_os", *words], capture_output=True, text=True, timeout=60, input=stdin, check=False
    )


def test_tail_and_show(home: Path) -> None:
    """The last records are listed a line each; one action is shown with its outcome, or as open."""
    lines = agentos("audit", "tail", "-n", "4").stdout.splitlines()
    assert [line.split("  ")[2] for line in lines] == ["intent", "outcome", "denied", "intent"]
    assert "evil.example:443" in lines[2]
    records = [json.loads(line) for line in agentos("audit", "tail", "--json", "-n", "100").stdout.splitlines()]
    assert [record["seq"] for record in records] == list(range(6))
    assert "tools.x" in agentos("audit", "show", "act_1").stdout
    assert "under way" in agentos("audit", "show", "act_3").stderr
    assert agentos("audit", "show", "act_9").returncode == 1


def test_an_intent_without_outcome_is_interrupted_after_the_next_start(home: Path) -> None:
    """Once the writer has started anew, an open intent is called interrupted."""
    open_state().close()
    assert "interrupted" in agentos("audit", "show", "act_3").stderr


def test_verify_names_the_first_bad_record(home: Path) -> None:
    """Exit 0 and the checkpoint for a whole log; exit 1 and the record for one with a byte changed."""
    good = agentos("audit", "verify")
    assert (good.returncode, "verified" in good.stdout) == (0, True)
    path = segments_of(home / "audit" / "agentos")[0]
    path.write_bytes(path.read_bytes().replace(b"evil", b"evim"))
    bad = agentos("audit", "verify")
    assert bad.returncode == 1
    assert "record 4" in bad.stdout
    assert "edited" in bad.stdout
    report = json.loads(agentos("audit", "verify", "--json").stdout)
    assert report["ok"] is False
    assert report["writers"][0]["faults"][0]["seq"] == 4


def test_a_printed_checkpoint_catches_a_log_rewritten_with_its_own(home: Path, tmp_path: Path) -> None:
    """Whoever cuts log and checkpoints alike is caught by the checkpoint that was kept elsewhere."""
    kept = tmp_path / "kept.jsonl"
    kept.write_text(agentos("audit", "checkpoint").stdout)
    path = segments_of(home / "audit" / "agentos")[0]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    for place in (home / "audit" / "agentos" / "checkpoints.jsonl", home / "checkpoints" / "agentos.jsonl"):
        place.write_bytes(place.read_bytes().splitlines(keepends=True)[0])
    assert agentos("audit", "verify").returncode == 0, "without the kept checkpoint the cut does not show"
    caught = agentos("audit", "verify", "--against", str(kept))
    assert caught.returncode == 1
    assert "cut" in caught.stdout


def test_exports(home: Path, tmp_path: Path) -> None:
    """Each format holds what it must: all records, safe cells, OCSF classes, arguments from the payload store."""
    assert len(agentos("audit", "export").stdout.splitlines()) == 6
    rows = list(csv.DictReader(io.StringIO(agentos("audit", "export", "--format", "csv").stdout)))
    assert rows[4]["reason"] == "'=1+1"
    assert rows[4]["target"] == "evil.example:443"
    events = [json.loads(line) for line in agentos("audit", "export", "--format", "ocsf").stdout.splitlines()]
    assert (events[4]["class_uid"], events[4]["type_uid"], events[4]["disposition_id"]) == (4002, 400206, 2)
    assert (events[2]["class_uid"], events[2]["status_id"], events[2]["time"]) == (6003, 1, 1763721000500)
    agentos("audit", "export", "--format", "trace", "-o", str(tmp_path / "t.jsonl"))
    (trace,) = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert (trace["prompt"], trace["principal"]["user"]) == ("pay it", "alice")
    first, last = trace["calls"]
    assert (first["tool"], first["args"], first["result"]) == ("send_payment", {"amount": 5}, "paid")
    assert "args" not in last
    assert "payload" in last["not_evaluable"]
    assert agentos("audit", "export", "--format", "xml").returncode == 2
    since = agentos("audit", "export", "--since", "2025-11-21T10:30:01", "--until", "2025-11-21T10:31").stdout
    assert [json.loads(line)["type"] for line in since.splitlines()] == ["outcome"]


def test_an_ask_is_shown_exactly_and_answered_once(home: Path) -> None:
    """What is shown is the exact action, harmless to a terminal; one answer counts and stands in the audit."""
    listed = json.loads(agentos("approvals", "list", "--json").stdout)
    assert [each["id"] for each in listed] == ["apr_1"]
    shown = agentos("approvals", "show", "apr_1").stdout
    assert "send_payment" in shown
    assert "\x1b" not in shown
    assert "\\u001b[31mred" in shown
    refused = agentos("approvals", "approve", "apr_1", stdin="")
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    approved = agentos("approvals", "approve", "apr_1", "--yes", "--json")
    assert json.loads(approved.stdout)["state"] == "approved"
    again = agentos("approvals", "deny", "apr_1")
    assert (again.returncode, "answered before" in again.stderr) == (3, True)
    assert agentos("approvals", "approve", "apr_9", "--yes").returncode == 1
    records = [
        json.loads(line) for line in agentos("audit", "tail", "--writer", "operator", "--json").stdout.splitlines()
    ]
    answers = [record for record in records if record["type"].startswith("approval.")]
    assert [record["type"] for record in answers] == ["approval.answered", "approval.answered", "approval.void"]
    assert answers[0]["uid"] == os.getuid()
    assert agentos("audit", "verify").returncode == 0


AGENT = """
import subprocess, sys
from agent_os.runtime.state import open_state
state = open_state()
run = subprocess.run(["env", sys.executable, "-m", "agent_os", "approvals", "approve", "apr_1", "--yes"],
                     capture_output=True, text=True)
print(run.returncode, run.stderr)
state.close()
"""


def test_an_agent_does_not_answer_its_own_asks(home: Path) -> None:
    """A command started by a process that runs agents here, through a wrapper too, is refused with exit 3."""
    run = subprocess.run([sys.executable, "-c", AGENT], capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout.startswith("3 "), run.stdout + run.stderr
    assert "does not answer its own asks" in run.stdout
    assert json.loads(agentos("approvals", "show", "apr_1", "--json").stdout)["state"] == "waiting"


def test_keys_are_listed_without_secrets_and_rotated(home: Path) -> None:
    """The list names ids; a rotation makes a new current key, old checkpoints still verify."""
    before = json.loads(agentos("keys", "list", "--json").stdout)
    assert all("secret" not in key for key in before)
    rotated = json.loads(agentos("keys", "rotate", "audit", "--json").stdout)
    after = [key for key in json.loads(agentos("keys", "list", "--json").stdout) if key["purpose"] == "audit"]
    assert [key["current"] for key in after] == [False, True]
    assert after[1]["id"] == rotated["id"]
    open_state().close()
    assert agentos("audit", "verify").returncode == 0
    assert agentos("keys", "rotate", "house").returncode == 1


def test_budget_show(home: Path) -> None:
    """What was used and what is left, as JSON, CSV and a table."""
    (row,) = json.loads(agentos("budget", "show", "--json").stdout)
    assert (row["budget"], row["for"], row["used"], row["left"]) == ("user/year", "user=default/alice", 0.25, 1.75)
    assert agentos("budget", "show", "--csv").stdout.splitlines()[1].startswith("user/year,user=default/alice,")
    assert "user/year" in agentos("budget", "show").stdout
    assert json.loads(agentos("budget", "show", "team", "--json").stdout) == []


def test_without_a_state_the_verbs_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing there yet is an error with its reason, not an empty success."""
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "none"))
    for words in (("audit", "verify"), ("budget", "show")):
        run = agentos(*words)
        assert run.returncode == 1
        assert "AGENTOS_STATE" in run.stderr
