"""`process.exec` and the `run_command` tool: every program an agent starts runs in a sandbox under the session's policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_os import AgentOS
from agent_os.core.errors import DeniedError
from agent_os.core.ports import Outcome

pytestmark = pytest.mark.kernel
POLICY = "version: 1\nextends: [pack:baseline]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / ".env").write_text("TOKEN=secret-value\n")
    (tmp_path / "policy.yaml").write_text(POLICY)
    return tmp_path


def session(folder: Path) -> AgentOS:
    return AgentOS.open(
        folder / "policy.yaml", principal="ana@corp.example", workspace=folder / "ws", state=folder / "state"
    )


def test_the_tool_runs_in_a_sandbox(folder: Path) -> None:
    """A permitted program sees the workspace, not the machine: no secrets, no state, no other files."""
    script = "echo done > made; cat .env; cat /etc/shadow; ls /home /root; echo $AGENTOS_SANDBOX"
    with session(folder) as runtime:
        outcome = runtime.perform(
            {"kind": "tool.call", "tool": "run_command", "args": {"argv": ["/usr/bin/sh", "-c", script]}}
        )
    assert isinstance(outcome, Outcome)
    assert "secret-value" not in outcome.value["stdout"]
    assert outcome.value["stdout"].endswith("1\n")
    assert (folder / "ws" / "made").read_text() == "done\n"


def test_status_and_both_streams_come_back(folder: Path) -> None:
    """The outcome's value has the status and both streams; control characters are made harmless."""
    with session(folder) as runtime:
        outcome = runtime.perform(
            {
                "kind": "process.exec",
                "argv": ["sh", "-c", "printf 'a\\033[31mb'; echo e >&2; exit 3"],
                "binary_path": "/usr/bin/sh",
            }
        )
    assert isinstance(outcome, Outcome)
    assert (outcome.value["status"], outcome.value["stdout"], outcome.value["stderr"]) == (3, "a\ufffd[31mb", "e\n")


def test_a_denied_program_does_not_start(folder: Path) -> None:
    """What the policy's process section denies is denied at the door, wrapped or not."""
    with session(folder) as runtime:
        for argv in (["sudo", "touch", "x"], ["sh", "-c", "sudo touch x"]):
            with pytest.raises(DeniedError):
                runtime.perform({"kind": "process.exec", "argv": argv, "binary_path": f"/usr/bin/{argv[0]}"})
    assert not (folder / "ws" / "x").exists()


def test_a_program_that_does_not_exist_is_an_error(folder: Path) -> None:
    """A missing program is told as such, not as a status."""
    with session(folder) as runtime:
        outcome = runtime.perform({"kind": "process.exec", "argv": ["nope"], "binary_path": "/usr/bin/nope"})
    assert isinstance(outcome, Outcome)
    assert not outcome.ok
    assert "cannot be run" in outcome.detail
