"""`agentos kill` and sessions that live in other processes: what it ends, what goes on, what is there again afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from tests.e2e.durable.support import Site
from tests.e2e.durable.test_stops import agentos, attempt, audit, end, session, until


def open_sessions(site: Site) -> dict[str, str]:
    """Return the ids of open sessions by their agent."""
    return {view["agent"]: view["id"] for view in json.loads(agentos(site, "ps", "--json").stdout)["sessions"]}


def test_a_session_of_another_process_is_killed(site: Site) -> None:
    """It is listed, ends by its id or the beginning of it, for good, and is recorded; another agent goes on."""
    doomed, spared = session(site, "doomed"), session(site, "spared")
    assert attempt(doomed) == attempt(spared) == "done"
    ids = open_sessions(site)
    assert set(ids) == {"doomed", "spared"}
    shown = agentos(site, "ps").stdout
    assert ids["doomed"] in shown
    assert f":{doomed.pid}" in shown
    done = agentos(site, "kill", ids["doomed"][:12], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"id": ids["doomed"], "state": "killed", "parent": ""}]
    assert attempt(doomed).startswith(f"denied runtime.killed session {ids['doomed']} is killed by ")
    assert attempt(spared) == "done"
    refused = agentos(site, "release", ids["doomed"])
    assert (refused.returncode, "nothing is halted" in refused.stderr) == (1, True), "what was killed is over"
    assert attempt(doomed).startswith("denied runtime.agent-ended"), "and nobody brings it back"
    (told,) = [record for record in audit(site) if record["type"] == "killed"]
    assert (told["scope"], told["name"]) == ("session", ids["doomed"])
    end(doomed)
    assert set(open_sessions(site)) == {"spared"}
    assert json.loads(agentos(site, "stops", "--json").stdout) == [], "the kill went with the session"
    end(spared)


def test_kill_all_ends_sessions_and_tasks(site: Site) -> None:
    """Both kinds of agents are ended by one command; new ones start."""
    site.submit(site.request("naps", id="tsk_1", count=400))
    site.start(2.0)
    embedded = session(site)
    site.wait_for_lines(3)
    done = agentos(site, "kill", "--all", "--json")
    ended = {each["id"]: each["state"] for each in json.loads(done.stdout)}
    assert ended.pop("tsk_1") == "killed"
    assert list(ended.values()) == ["killed"]
    assert attempt(embedded).startswith("denied runtime.killed")
    end(embedded)
    again = session(site)
    assert attempt(again) == "done"
    end(again)


def test_a_killed_process_leaves_nothing_that_kills_its_successor(site: Site) -> None:
    """A session of a name of its own is killed, its process dies by `kill -9`; opened again under that name it works."""
    script = """
import sys
from agent_os import AgentOS, DeniedError
with AgentOS.open(sys.argv[1], principal="ana", workspace=".", session="chat-42") as system:
    print("open", flush=True)
    for line in sys.stdin:
        try:
            print(system.perform({"kind": "fs.list", "path": "."}).error or "done", flush=True)
        except DeniedError as error:
            print("denied", error.decision.rules[0], flush=True)
"""

    def named() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(site.policy)], cwd=site.work, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**site.environment, "PYTHONPATH": sys.path[0] or "."},
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        return process

    site.environment = {**site.environment, "PYTHONPATH": str(os.getcwd())}
    first, beside = named(), named()
    assert agentos(site, "kill", "chat-42").returncode == 0
    assert attempt(first) == attempt(beside) == "denied runtime.killed", "every session of that name"
    first.kill()
    first.communicate(timeout=30)
    late = named()
    assert attempt(late) == "denied runtime.killed", "one of those that were killed is still open"
    for process in (beside, late):
        end(process)
    again = named()
    assert attempt(again) == "done"
    end(again)


def test_a_program_in_a_sandbox_ends_with_its_session(site: Site) -> None:
    """`agentos run` is a session too: killed, its program is ended within seconds and the run says by whom."""
    program = subprocess.Popen(
        [sys.executable, "-m", "agent_os", "run", "--", "sh", "-c", "echo up; exec sleep 300"], cwd=site.work, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**site.environment, "PYTHONPATH": str(os.getcwd())},
    )  # fmt: skip
    assert program.stdout is not None
    if program.stdout.readline() != "up\n":
        pytest.skip("no sandbox on this machine")
    began = time.monotonic()
    assert agentos(site, "kill", open_sessions(site)["run"]).returncode == 0
    _, said = program.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert program.returncode == 125
    assert "is killed by" in said


def test_a_kill_reaches_every_machine(shared: Site) -> None:
    """Over PostgreSQL a session on another machine (a state directory of its own) is listed and killed from here."""
    elsewhere = Site.__new__(Site)
    elsewhere.__dict__.update(shared.__dict__)
    for each in (shared, elsewhere):
        each.environment = {**shared.environment, "AGENTOS_KEY_PAYLOAD": "00" * 32}
    elsewhere.state = shared.state.with_name("elsewhere")
    elsewhere.environment = {**elsewhere.environment, "AGENTOS_STATE": str(elsewhere.state)}
    embedded = session(elsewhere)
    assert attempt(embedded) == "done"
    assert agentos(shared, "kill", open_sessions(shared)["desk"]).returncode == 0
    until(lambda: attempt(embedded).startswith("denied runtime."))
    end(embedded)
    until(lambda: open_sessions(shared) == {})
    assert json.loads(agentos(shared, "stops", "--json").stdout) == []


@pytest.mark.parametrize("name", ["ses_", "ses_nobody", "s"])
def test_an_id_of_nobody_is_named(site: Site, name: str) -> None:
    """What is neither a task nor an open session is an error that says so, and nothing is killed."""
    embedded = session(site)
    refused = agentos(site, "kill", name)
    assert (refused.returncode, f"no task has the id '{name}'" in refused.stderr) == (1, True), refused.stderr
    assert attempt(embedded) == "done"
    end(embedded)
