"""Opening a session: whose it is, that it is opened once, and that it stays in its process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from agent_os import ActionError, AgentOS, AgentOSError, Policy, Principal

POLICY = Policy.parse("version: 1\nfilesystem_policy: {include_workdir: true}\n")
READ = {"kind": "fs.read", "path": "a.txt"}


def opened(folder: Path, principal: Any = "ana") -> AgentOS:
    (folder / "desk").mkdir(exist_ok=True)
    (folder / "desk" / "a.txt").write_text("a")
    return AgentOS.open(POLICY, principal=principal, workspace=folder / "desk", state=folder / "state")


@pytest.mark.parametrize("principal", ["", {"user": ""}, Principal(tenant=""), Principal(user=None), {"usr": "a"}])  # type: ignore[arg-type]
def test_nobody_is_no_principal(principal: Any, tmp_path: Path) -> None:
    """A header that was missing makes no user whom all such callers would share."""
    with pytest.raises(ActionError, match="principal"):
        opened(tmp_path, principal)


def test_a_session_is_opened_once_at_a_time(tmp_path: Path) -> None:
    """A second `with` of an open session raises and leaves the first one open; after its end it may be opened again."""
    session = opened(tmp_path)
    with session:
        with pytest.raises(AgentOSError, match="open already"):
            session.__enter__()
        assert session.perform(READ).ok
    with session:
        assert session.perform(READ).ok


def test_a_forked_process_opens_its_own(tmp_path: Path) -> None:
    """The parent's session raises there (it waited for a thread that a fork does not take along); one of its own works."""
    with opened(tmp_path) as session:
        child = os.fork()
        if not child:
            status = 1
            try:
                session.perform(READ)
            except AgentOSError as error:
                with opened(tmp_path) as own:
                    status = 0 if "after the fork" in str(error) and own.perform(READ).ok else 2
            finally:
                os._exit(status)
        limit = time.monotonic() + 60
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < limit:
            time.sleep(0.02)
        if ended == (0, 0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert ended == (child, 0)
        assert session.perform(READ).ok
