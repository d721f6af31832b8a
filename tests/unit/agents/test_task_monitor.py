"""The monitor of a task's run adds names of its own and takes none of the monitor's away."""

from __future__ import annotations

from agent_os.agents.task_monitor import TaskMonitor
from agent_os.monitor import Monitor

MEANT = {"perform", "admit", "admit_alike", "_confirm", "_scoped", "_go_on"}
"""What the subclass is there to replace."""


def test_no_method_of_the_monitor_is_hidden_by_accident() -> None:
    """A private name that both classes use would switch a part of the door off."""
    own = {name for name in vars(TaskMonitor) if not name.startswith("__")} | set(TaskMonitor.__annotations__)
    assert own & set(dir(Monitor)) == MEANT
