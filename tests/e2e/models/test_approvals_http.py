"""Approvals over HTTP on a served gateway: a person's credential answers, an agent's does not."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.approval import Approval
from agent_os.core.errors import EffectError
from agent_os.core.ports import Outcome, Pending
from agent_os.effects.stores.identity import current_identity
from agent_os.policy import Policy
from agent_os.runtime.serving.callers import load_callers, new_token
from agent_os.runtime.serving.start import Serving, start_serving
from tests.e2e.models.serving import records, serving

POLICY = """
version: 1
filesystem_policy: {include_workdir: true}
tools:
  write_file:
    allow: true
    ask: {path: {under: out/}}
approvals: {timeout: 10m, allow_session: true}
models: {providers: {openai: {kind: openai, base_url: "http://127.0.0.1:1/v1", models: [m]}}}
"""
CALL = {"kind": "tool.call", "tool": "write_file", "args": {"path": "out/a.txt", "content": "new\n"}}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    """A gateway with one ask that waits."""
    (tmp_path / "ws" / "out").mkdir(parents=True)
    (tmp_path / "ws" / "out" / "a.txt").write_text("old\n")
    with serving(tmp_path, POLICY) as opened:
        yield opened


def perform(served: Serving, call: dict[str, Any] = CALL) -> Any:
    """Perform a call in the served session."""
    return asyncio.run_coroutine_threadsafe(served.session.monitor.perform(call), served.session.loop.loop).result(20)


def http(
    served: Serving, path: str, body: Any = None, *, token: str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Make a request as a client does; returns status and JSON."""
    said = {"Authorization": f"Bearer {served.approver_token if token is None else token}", **(headers or {})}
    data = None
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        said.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(f"{served.url}/v1/approvals{path}", data, said)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_person_lists_shows_and_approves(served: Serving, tmp_path: Path) -> None:
    """What waits is shown whole, with the change it makes; the answer lets exactly it through, under the person's name."""
    parked = perform(served)
    assert isinstance(parked, Pending)
    status, listed = http(served, "")
    assert (status, [each["id"] for each in listed["data"]]) == (200, [parked.approval_id])
    _, shown = http(served, f"/{parked.approval_id}")
    assert shown["preview"]["arguments"]["args"]["content"] == "new\n"
    assert [line for line in shown["preview"]["difference"] if line[:1] in "+-"][2:] == ["-old", "+new"]
    assert shown["preview"]["on_timeout"] == "deny"
    status, answered = http(served, f"/{parked.approval_id}/approve", {"note": "fine"})
    assert (status, answered["state"], answered["approvals"]) == (200, "approved", [current_identity().user])
    assert isinstance(perform(served), Outcome)
    assert (tmp_path / "ws/out/a.txt").read_text() == "new\n"
    (said,) = records(tmp_path, "approval.answered")
    assert said["approver"] == current_identity().user


def test_a_denial_reaches_the_agent_with_its_reason(served: Serving) -> None:
    """Denied over HTTP: an ask of its own next time, and the reason stands with the ask."""
    parked = perform(served)
    status, answered = http(served, f"/{parked.approval_id}/deny", {"reason": "wrong folder"})
    assert (status, answered["state"], answered["answer"]) == (200, "denied", "wrong folder")


def test_changed_and_lasting_answers(served: Serving, tmp_path: Path) -> None:
    """Arguments are changed, a session's grant is given, listed and revoked."""
    parked = perform(served)
    path = str(tmp_path / "ws/out/b.txt")
    _, answered = http(served, f"/{parked.approval_id}/approve", {"arguments": {"path": path, "content": "other"}})
    assert answered["state"] == "edited"
    assert perform(served).note == "a person changed content, path"
    assert (tmp_path / "ws/out/b.txt").read_text() == "other"
    parked = perform(served)
    assert http(served, f"/{parked.approval_id}/approve", {"for": "always"})[0] == 403
    assert http(served, f"/{parked.approval_id}/approve", {"for": "session", "scope": "exact"})[0] == 200
    assert isinstance(perform(served), Outcome)
    assert isinstance(perform(served), Outcome)
    _, standing = http(served, "/standing")
    (grant,) = standing["data"]
    assert (grant["state"], grant["uses"]) == ("live", 1)
    assert http(served, f"/standing/{grant['id']}/revoke", {})[1]["revoked"] is True
    assert isinstance(perform(served), Pending)


def test_an_agents_key_answers_nothing(served: Serving) -> None:
    """The key that agents hold, no key and a guessed key are nobody's here; nothing is shown to them either."""
    parked = perform(served)
    for token in (served.token, "", "x" * 32):
        assert http(served, "", token=token)[0] == 401
        assert http(served, f"/{parked.approval_id}/approve", {}, token=token)[0] == 401
    assert http(served, f"/{parked.approval_id}")[1]["state"] == "waiting"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_a_web_page_cannot_answer(served: Serving, headers: dict[str, str], status: int) -> None:
    """Cross-site posts are refused by origin, host and content type; the benign twin is answered."""
    parked = perform(served)
    assert http(served, f"/{parked.approval_id}/approve", {}, headers=headers)[0] == status


def test_forged_double_and_malformed_answers(served: Serving) -> None:
    """An unknown id, a second answer, and nonsense have statuses of their own and change nothing."""
    parked = perform(served)
    assert http(served, "/apr_forged/approve", {})[0] == 404
    for body in (b"{", b"[]", {"approved": True}, {"approver": "lea"}, {"for": "ever"}, {"arguments": 5}, {"note": 5}):
        status, said = http(served, f"/{parked.approval_id}/approve", body)
        assert (status, said["error"]["type"]) == (400, "invalid_request_error"), body
    assert http(served, f"/{parked.approval_id}")[1]["state"] == "waiting"
    assert http(served, f"/{parked.approval_id}/approve", {})[0] == 200
    assert http(served, f"/{parked.approval_id}/approve", {})[0] == 409
    assert http(served, "?state=open")[0] == 400


def test_another_tenants_asks_do_not_exist(served: Serving) -> None:
    """An ask of another tenant is neither listed, shown nor answered."""

    async def store() -> None:
        approvals = served.session.monitor.ports.approvals
        assert approvals is not None
        now = served.session.monitor.ports.clock.now()
        await approvals.request(
            Approval(
                "apr_far", {"kind": "tool.call"}, "sha256:1", "sha256:2", ("r",), "x", now, now + 600, tenant="other"
            )
        )

    asyncio.run_coroutine_threadsafe(store(), served.session.loop.loop).result(20)
    assert http(served, "?state=all")[1]["data"] == []
    assert http(served, "/apr_far")[0] == 404
    assert http(served, "/apr_far/approve", {})[0] == 404


async def test_the_two_tokens_must_differ(tmp_path: Path) -> None:
    """A server whose approver's token is the agents' token does not start."""
    (tmp_path / "ws").mkdir()
    with pytest.raises(EffectError, match="must not be"):
        await start_serving(
            Policy.parse(POLICY), principal="ana", workspace=tmp_path / "ws", state=tmp_path / "state", port=0,
            token="same" * 8, approver_token="same" * 8,
        )  # fmt: skip


def test_approvers_of_the_callers_file(tmp_path: Path) -> None:
    """Credentials that may answer are people with groups, each in its tenant; those for models answer nothing."""
    (tmp_path / "ws").mkdir()
    rows, tokens = [], {}
    for who, extra in (
        ("lea", 'may = ["approvals"]\ngroups = ["finance"]\n'),
        ("max", 'may = ["approvals"]\n'),
        ("bot", ""),
    ):
        tokens[who], row = new_token(f"{who}@corp.example", "default")
        rows.append(row + extra)
    (tmp_path / "callers.toml").write_text("\n".join(rows))
    policy = POLICY.replace("timeout: 10m", 'timeout: 10m, approvers: ["group:finance"]')
    with serving(tmp_path, policy, callers=load_callers(tmp_path / "callers.toml")) as served:
        parked = perform(served)
        assert isinstance(parked, Pending)
        path = f"/{parked.approval_id}/approve"
        assert http(served, path, {}, token=tokens["bot"])[0] == 401
        assert http(served, path, {}, token=tokens["max"])[0] == 403
        status, answered = http(served, path, {}, token=tokens["lea"])
        assert (status, answered["approvals"]) == (200, ["lea@corp.example"])


@pytest.mark.parametrize("row", ['may = ["approvals", "models"]', 'groups = "finance"', "groups = [5]"])
def test_a_callers_file_keeps_agents_and_approvers_apart(tmp_path: Path, row: str) -> None:
    """One token for both, and groups that are no list, are refused by name."""
    _, text = new_token("lea@corp.example", "default")
    (tmp_path / "callers.toml").write_text(text + row + "\n")
    with pytest.raises(EffectError, match=r"token\[0\]"):
        load_callers(tmp_path / "callers.toml")
