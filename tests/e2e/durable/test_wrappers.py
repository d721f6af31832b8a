"""What a person approved for one program is not what a wrapper around it asks for: each wrapper asks anew, none can be lasting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS, Policy
from agent_os.core.approval import Answer
from agent_os.core.errors import ActionError, DeniedError
from agent_os.core.ports import Pending

POLICY = """
version: 1
filesystem_policy: {include_workdir: true, read_only: [/usr, /bin]}
process:
  allow: [{binary: "/**", args: ["**"]}]
  ask: [{binary: "/**", args: ["**"]}]
approvals: {timeout: 10m, allow_session: true, allow_always: true}
"""
RM = ["/usr/bin/rm", "old.txt"]
WRAPPERS = [
    ["/usr/bin/env", "rm", "old.txt"],
    ["/usr/bin/env", "-S", "rm old.txt"],
    ["/usr/bin/time", "rm", "old.txt"],
    ["/usr/bin/nohup", "rm", "old.txt"],
    ["/usr/bin/flock", "lock", "rm", "old.txt"],
    ["/bin/sh", "-c", "rm old.txt"],
    ["/usr/bin/python3", "-c", "import os; os.remove('old.txt')"],
    ["/usr/bin/rm", "old.txt", "other.txt"],
    ["/usr/bin/rm", "-r", "old.txt"],
    ["./link-to-rm", "old.txt"],
]


def ask(system: AgentOS, argv: list[str]) -> Any:
    """Ask for a program; nothing runs before a person said yes."""
    return system.perform({"kind": "process.exec", "argv": argv, "binary_path": argv[0]})


@pytest.mark.parametrize("argv", WRAPPERS, ids=[" ".join(words)[:24] for words in WRAPPERS])
def test_a_wrapper_asks_anew(tmp_path: Path, argv: list[str]) -> None:
    """`rm old.txt` was approved; the same effect through something else is another ask, and the approval stays unspent."""
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "link-to-rm").symlink_to("/usr/bin/rm")
    with AgentOS.open(Policy.parse(POLICY), principal="ana", workspace=tmp_path / "ws", state=tmp_path / "s") as system:
        first = ask(system, RM)
        assert isinstance(first, Pending)
        store = system.stores.approvals
        answer = Answer(True, "lea")
        system.loop.run(store.answer(first.approval_id, answer, system.monitor.ports.clock.now()))
        try:
            wrapped = ask(system, argv)
        except (ActionError, DeniedError):
            wrapped = None  # refused outright: narrower still
        if wrapped is not None:
            assert isinstance(wrapped, Pending)
            assert wrapped.approval_id != first.approval_id
        assert system.loop.run(store.get(first.approval_id)).state == "approved", "nobody spent it"


def test_no_lasting_answer_for_a_program(tmp_path: Path) -> None:
    """`for this session` and `always` are not offered for programs, and refused where somebody gives them all the same."""
    (tmp_path / "ws").mkdir()
    with AgentOS.open(Policy.parse(POLICY), principal="ana", workspace=tmp_path / "ws", state=tmp_path / "s") as system:
        asked = ask(system, RM)
        store = system.stores.approvals
        shown = system.loop.run(store.get(asked.approval_id))
        assert not {"session", "always"} & set(shown.offers)
        for lasting in ("session", "always"):
            with pytest.raises(ActionError):
                system.loop.run(
                    store.answer(
                        asked.approval_id, Answer(True, "lea", lasting=lasting), system.monitor.ports.clock.now()
                    )
                )
