"""The arguments of a tool server's call, held against the rights of the sub-agent that makes it."""

from __future__ import annotations

from typing import Any

import pytest

from agent_os.core.action import ToolCall
from agent_os.core.manifest import Argument, Role, ToolSpec
from agent_os.core.principal import Capability
from agent_os.monitor.reach import beyond

WS = "/work"
SPEC = ToolSpec(
    name="t",
    sandboxed=True,
    arguments={
        "path": Argument(type="path"),
        "url": Argument(type="url"),
        "host": Argument(type="host"),
        "text": Argument(role=Role.PAYLOAD, type="text"),
    },
)
HELD = (
    Capability("tool.call", frozenset({"s/t"})),
    Capability("fs.read", frozenset({"/work/inbox/"})),
    Capability("net.connect", frozenset({"api.example:443"})),
)


def named(held: Any = HELD, spec: ToolSpec = SPEC, **args: Any) -> str:
    return beyond(spec, ToolCall(tool="t", server="s", args=args), held, WS)


@pytest.mark.parametrize(
    ("args", "argument"),
    [
        ({"path": "/work/ledger/a"}, "path"),
        ({"path": "/work/inbox/../ledger/a"}, "path"),
        ({"path": "/work/inboxes/a"}, "path"),
        ({"path": ["/work/inbox/a", "ledger/a"]}, "path"),
        ({"path": {"from": "/work/inbox/a", "to": "/etc/passwd"}}, "path"),
        ({"path": "a\0b"}, "path"),
        ({"url": "https://evil.example/"}, "url"),
        ({"url": "http://api.example/"}, "url"),
        ({"url": "https://api.example@evil.example/"}, "url"),
        ({"url": "https://api.example:8443/"}, "url"),
        ({"url": "no url"}, "url"),
        ({"url": "https://api.example:99999/"}, "url"),
        ({"host": "evil.example"}, "host"),
        ({"host": "api.example:80"}, "host"),
    ],
)
def test_what_lies_beyond_is_named(args: dict[str, Any], argument: str) -> None:
    """An argument that names a path or host outside the rights, or cannot be read, is named."""
    assert named(**args) == argument


@pytest.mark.parametrize(
    "args",
    [
        {"path": "/work/inbox/a"}, {"path": "inbox/a"}, {"path": "/work/inbox"}, {"path": ["inbox/a", "inbox/b/c"]}, {"path": ""},
        {"url": "https://API.example/x?y"}, {"url": "https://api.example:443/"}, {"host": "api.example"}, {"host": "api.example:443"},
        {"text": "/etc/passwd and https://evil.example/"}, {"undescribed": "/etc/passwd"},
    ],
)  # fmt: skip
def test_what_is_held_passes(args: dict[str, Any]) -> None:
    """What lies within the rights passes, and so does text that only speaks of places: the sandbox holds there."""
    assert named(**args) == ""


def test_the_session_and_tools_of_this_process_are_not_concerned() -> None:
    """The session holds what policy grants; an in-process tool's inner effects go through the caller's own door."""
    assert named(held=None, path="/etc/passwd") == ""
    assert named(spec=SPEC.model_copy(update={"sandboxed": False}), path="/etc/passwd") == ""
