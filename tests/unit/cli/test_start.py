"""What a verb loads before it does anything: starts are paid by every command, worker and tool of a day."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADED = "import sys; [__import__(name) for name in sys.argv[1].split()]; print(*sorted(sys.modules))"


@pytest.mark.parametrize(
    ("rooms", "unwanted"),
    [
        ("agent_os", {"asyncio", "pydantic", "agent_os.core.action"}),
        ("agent_os.cli.main agent_os.runtime.tasks.desk", {"agent_os.effects.proxy.guard", "agent_os.runtime.compose"}),
        (
            "agent_os.cli.main agent_os.runtime.sandbox.run",
            {"agent_os.effects.proxy.guard", "langchain", "rich.console"},
        ),
        (
            "agent_os.cli.main agent_os.runtime.compose",
            {"agent_os.effects.proxy.guard", "presidio_analyzer", "pygments"},
        ),
    ],
    ids=["the package", "a task", "a program", "a session"],
)
def test_what_a_start_leaves_out(rooms: str, unwanted: set[str]) -> None:
    """Neither the network guard nor the big libraries are loaded where nothing has asked for them."""
    done = subprocess.run([sys.executable, "-c", LOADED, rooms], capture_output=True, text=True, check=True, timeout=60)
    assert not unwanted & set(done.stdout.split())
