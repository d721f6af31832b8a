"""Halting and quarantining over HTTP and from an application: a person's credential does, an agent's does not."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS
from agent_os.core.errors import ActionError, DeniedError, EffectError
from agent_os.effects.stores.identity import current_identity
from agent_os.runtime.serving.callers import load_callers, new_token
from agent_os.runtime.serving.start import Serving
from tests.e2e.models.serving import records, serving
from tests.e2e.models.test_approvals_http import perform

POLICY = """
version: 1
filesystem_policy: {include_workdir: true}
models: {providers: {openai: {kind: openai, base_url: "http://127.0.0.1:1/v1", models: [m]}}}
agents: {roles: {reader: {read: ["."]}}}
"""
READ = {"kind": "fs.list", "path": "."}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    """A served gateway."""
    (tmp_path / "ws").mkdir()
    with serving(tmp_path, POLICY) as opened:
        yield opened


def http(served: Serving, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
    """Make a request as a client does; returns status and JSON."""
    said = {"Authorization": f"Bearer {served.approver_token if token is None else token}"}
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        said["Content-Type"] = "application/json"
    request = urllib.request.Request(f"{served.url}/v1/stops{path}", data, said)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_person_halts_and_releases(served: Serving, tmp_path: Path) -> None:
    """From the answer on nothing begins; released, it does; both are recorded with who and why."""
    assert perform(served, READ).ok
    status, stop = http(served, "", {"scope": "all", "reason": "odd"})
    assert (status, stop["scope"], stop["by"]) == (200, "all", current_identity().user)
    with pytest.raises(DeniedError, match="halted") as caught:
        perform(served, READ)
    assert caught.value.decision.rules == ("runtime.halted",)
    assert [each["id"] for each in http(served, "")[1]["data"]] == [stop["id"]]
    status, _ = http(served, f"/{stop['id']}/release", {"reason": "fine"})
    assert status == 200
    assert perform(served, READ).ok
    told = [
        (each["type"], each["user"], each["reason"])
        for kind in ("halted", "released")
        for each in records(tmp_path, kind)
    ]
    assert told == [("halted", stop["by"], "odd"), ("released", stop["by"], "fine")]


def test_an_agent_s_key_stops_and_releases_nothing(served: Serving) -> None:
    """The key that was given for models lists, sets and lifts nothing."""
    _, stop = http(served, "", {"scope": "agent", "name": "main"})
    for path, body in (("", None), ("", {"scope": "all"}), (f"/{stop['id']}/release", {})):
        assert http(served, path, body, token=served.token)[0] == 401
        assert http(served, path, body, token="wrong")[0] == 401
    assert len(http(served, "")[1]["data"]) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"scope": "planet"}, "one of all"),
        ({"scope": "agent"}, "name whom"),
        ({"scope": "all", "ends": "yes"}, "true or false"),
        ({"scope": "all", "tenant": "x"}, "unknown key"),
        ([], "must be an object"),
    ],
)
def test_bad_requests_are_named(served: Serving, body: Any, said: str) -> None:
    """A field that is wrong is an error that says which; nothing is stopped."""
    status, answer = http(served, "", body)
    assert (status, said in answer["error"]["message"]) == (400, True), answer
    assert http(served, "")[1]["data"] == []
    assert http(served, "/stp_none/release", {})[0] == 404


def test_a_tenant_s_person_stops_that_tenant(tmp_path: Path) -> None:
    """What a person of one tenant stops holds there alone; another tenant's stops do not exist for them."""
    (tmp_path / "ws").mkdir()
    tokens = {}
    rows = []
    for tenant in ("acme", "other"):
        tokens[tenant], row = new_token(f"{tenant}-lea", tenant)
        rows.append(row + 'may = ["approvals"]\n')
    (tmp_path / "callers.toml").write_text("\n".join(rows))
    with serving(tmp_path, POLICY, callers=load_callers(tmp_path / "callers.toml")) as opened:
        status, stop = http(opened, "", {"scope": "all"}, tokens["acme"])
        assert (status, stop["tenant"]) == (200, "acme")
        assert perform(opened, READ).ok, "the server's own session is of the tenant `default`"
        assert http(opened, "", None, tokens["other"])[1]["data"] == []
        assert http(opened, f"/{stop['id']}/release", {}, tokens["other"])[0] == 404
        assert [each["id"] for each in http(opened, "")[1]["data"]] == [stop["id"]], "the operator sees every tenant's"
        assert http(opened, f"/{stop['id']}/release", {}, tokens["acme"])[0] == 200


def test_only_whom_the_policy_names(tmp_path: Path) -> None:
    """Where a policy names its approvers, nobody else stops or releases, over HTTP or from the application."""
    (tmp_path / "ws").mkdir()
    named = POLICY + 'approvals: {approvers: ["lea@corp.example", "group:ops"]}\n'
    with serving(tmp_path, named) as opened:
        status, answer = http(opened, "", {"scope": "all"})
        assert (status, "only approvers" in answer["error"]["message"]) == (403, True)
    (tmp_path / "policy.yaml").write_text(named)
    with AgentOS.open(
        tmp_path / "policy.yaml", principal="ana", workspace=tmp_path / "ws", state=tmp_path / "s"
    ) as system:
        with pytest.raises(DeniedError, match="only approvers"):
            system.stops.halt(by="ana")
        assert system.stops.halt(by="kim", groups=["group:ops"]).by == "kim"
        assert system.stops.release("all", by="lea@corp.example").scope == "all"


def test_an_application_quarantines_a_sub_agent(tmp_path: Path) -> None:
    """The role is stopped, its parent goes on; the sub-agent's own session can do nothing about it."""
    (tmp_path / "ws").mkdir()
    (tmp_path / "policy.yaml").write_text(POLICY)

    def child(session: AgentOS, task: str) -> list[str]:
        assert getattr(session.perform(READ), "ok", False)
        outer.stops.quarantine("role", "reader", by="lea", reason="odd")
        told = []
        for attempt in (lambda: session.perform(READ), lambda: session.stops.release("reader", by="lea")):
            with pytest.raises(DeniedError) as caught:
                attempt()
            told.append(caught.value.decision.rules[0])
        return told

    with AgentOS.open(
        tmp_path / "policy.yaml", principal="ana", workspace=tmp_path / "ws", state=tmp_path / "s"
    ) as outer:
        assert outer.spawn("reader", "look", child) == ["runtime.quarantined", "runtime.stop-inside-agent"]
        assert getattr(outer.perform(READ), "ok", False)
        assert [stop.name for stop in outer.stops.list()] == ["reader"]
        with pytest.raises(EffectError, match="nothing is halted"):
            outer.stops.release("writer", by="lea")
        with pytest.raises(ActionError, match="one of all"):
            outer.stops.quarantine("planet", "x", by="lea")
        outer.stops.release("reader", by="lea")
