"""`agentos ps` and its columns: the tree, the words of states, what cannot drive a terminal, and ten thousand of them."""

from __future__ import annotations

import time
from dataclasses import replace

from agent_os.cli.columns import columns
from agent_os.cli.ps import tree
from agent_os.cli.task_show import note, word
from agent_os.core.principal import Principal
from agent_os.core.stop import Stop, Stops
from agent_os.core.task import Task, TaskState

TASK = Task(
    id="tsk_1", program="agent", input={}, principal=Principal(user="ana"), workspace="/w", policies=(), queue="default",
    priority=100, deadline=0.0, parent="", schedule="", state=TaskState.RUNNING, created=1.0,
)  # fmt: skip
HALT = Stops.of([Stop("stp_1", "all", "", "lea", "odd", 1.0)])


def test_children_stand_below_their_parent() -> None:
    """Each generation further in, the last of each with a corner; a child whose parent is not shown stands alone."""
    child = replace(TASK, id="tsk_2", parent="tsk_1", created=2.0)
    tasks = [
        TASK,
        child,
        replace(child, id="tsk_3", created=3.0),
        replace(child, id="tsk_4", parent="tsk_2"),
        replace(TASK, id="tsk_5", parent="gone", created=9.0),
    ]
    shown = [line.partition("agent")[0].rstrip() for line in tree(tasks)[1:]]
    assert shown == ["tsk_1", "├─ tsk_2", "│  └─ tsk_4", "└─ tsk_3", "tsk_5"]


def test_states_are_said_in_words() -> None:
    """What waits says for what, what is held says by whom; a killed one does not go on about what it waited for."""
    asks = replace(TASK, state=TaskState.WAITING_APPROVAL, approval="apr_1")
    assert (word(asks), note(asks)) == ("waiting for a person", "agentos approvals show apr_1")
    waits = replace(TASK, state=TaskState.WAITING_CHILDREN, waits=("a",))
    assert (word(waits), note(waits)) == ("waiting for children", "1 child")
    ready = replace(TASK, state=TaskState.READY)
    assert (word(ready), word(ready, HALT)) == ("ready", "held")
    assert note(ready, HALT) == "everything is halted by lea: odd"
    assert note(replace(TASK, wanted="kill")) == "kill was asked for"
    assert note(replace(TASK, state=TaskState.KILLED, reason="waits for approval apr_1")) == ""
    denied = replace(TASK, state=TaskState.FAILED, reason="DeniedError: no rule allows this")
    assert note(denied) == "denied: no rule allows this"


def test_a_cell_does_nothing_to_a_terminal() -> None:
    """Control characters are replaced, long lines cut, empty columns left out."""
    lines = columns(("A", "B", "C"), [("x\x1b[2J", "", "y" * 50)], width=20)
    assert "\x1b" not in "".join(lines)
    assert lines[0].split() == ["A", "C"]
    assert len(lines[1]) <= 20
    assert lines[1].endswith("…")


def test_ten_thousand_are_shown_at_once() -> None:
    """The tree of 10,000 agents costs a fraction of a second of processor time."""
    tasks = [
        replace(TASK, id=f"tsk_{number}", parent=f"tsk_{number // 10}" if number > 9 else "")
        for number in range(10_000)
    ]
    begun = time.process_time()
    assert len(tree(tasks, HALT)) == 10_001
    assert time.process_time() - begun < 5, "a loaded machine; 0.3 s on an idle one"
