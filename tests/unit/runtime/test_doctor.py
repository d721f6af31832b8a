"""`agentos doctor` says when another distribution has written into our package."""

from __future__ import annotations

from agent_os.runtime.doctor import collisions


def test_another_owner_of_the_package_is_named() -> None:
    """A second distribution with a top-level `agent_os` is a collision; our own, and other packages, are none."""
    installed = {"agent_os": ["agent-os-runtime", "agent-governance-toolkit-core"], "httpx": ["httpx"]}
    assert collisions(installed) == ["agent-governance-toolkit-core"]
    assert collisions({"agent_os": ["agent-os-runtime", "agent-os-runtime"]}) == []
    assert collisions({}) == []
