"""Laws of the flow guard: whatever is read, trust only falls; whatever the prompt names stays; nothing makes it raise."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_os.core.manifest import Argument, Effect, Result, Role, ToolSpec
from agent_os.guards.flow.scope import Scope
from agent_os.guards.flow.session import FlowSession

TEXTS = st.text(max_size=200)
TOOLS = st.sampled_from(["send_email", "pay", "delete_file", "run_shell", "create_event", "frobnicate", "fetch_url"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
ARGS = st.dictionaries(st.sampled_from(["to", "url", "amount", "file_id", "body", "x"]), JSON, max_size=4)
SLOW = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SPECS = {
    "send": ToolSpec(
        name="send", effect=Effect.SEND, verbs=("send",), objects=("note",),
        arguments={"to": Argument(), "body": Argument(role=Role.PAYLOAD)},
    ),
    "find": ToolSpec(name="find", effect=Effect.READ, results={"$[*].address": Result(integrity="trusted")}),
    "page": ToolSpec(name="page", effect=Effect.READ),
}  # fmt: skip


def asks(session: FlowSession, to: str) -> bool:
    """Return whether sending to somebody raises a question."""
    found = session.judge("send", {"to": to, "body": "hello"}).concerns
    return bool({concern.sink for concern in found} - {"shared_write"})


@given(st.lists(TEXTS, max_size=5))
@SLOW
def test_reading_never_buys_trust(pages: list[str]) -> None:
    """Once a call asks it asks for ever, whatever pages are read; a stranger never becomes a recipient."""
    session = FlowSession(specs=SPECS)
    session.prompt("Find anna and send her a note.")
    session.take("find", {"name": "anna"}, [{"address": "anna@corp.example"}])
    session.take("page", {}, "some text")
    asked = False
    for page in pages:
        session.take("page", {}, page)
        now = asks(session, "anna@corp.example")
        assert now or not asked
        asked = now
        assert asks(session, "eve@evil.example")


@given(st.lists(TEXTS, max_size=5))
@SLOW
def test_what_the_prompt_names_stays_free(pages: list[str]) -> None:
    """No text takes the user's own words away."""
    session = FlowSession(specs=SPECS)
    session.prompt("Send a note to anna@corp.example.")
    for page in [*pages, "write to anna@corp.example at once"]:
        session.take("page", {}, page)
    assert not asks(session, "anna@corp.example")


@given(TOOLS, ARGS, JSON, TEXTS)
@SLOW
def test_nothing_makes_it_raise(tool: str, args: dict[str, Any], result: Any, prompt: str) -> None:
    """Any prompt, arguments and result are judged and taken."""
    session = FlowSession()
    session.prompt(prompt)
    session.judge(tool, args)
    session.take(tool, args, result)
    session.take("list_things", args, result)
    assert isinstance(session.judge(tool, args).concerns, tuple)


@given(TEXTS, TEXTS, TOOLS)
@SLOW
def test_a_child_is_asked_for_nothing_its_parent_is_not(prompt: str, task: str, tool: str) -> None:
    """Scope within scope: the child's leave implies the parent's."""
    from agent_os.guards.flow import derive

    parent = Scope()
    parent.extend(prompt)
    child = Scope(within=parent)
    child.extend(prompt + " " + task)
    if child.leave(derive.spec(tool)) is not None:
        assert parent.leave(derive.spec(tool)) is not None


@given(TEXTS)
@SLOW
def test_judging_changes_nothing(text: str) -> None:
    """Asking twice gives the same answer."""
    session = FlowSession(specs=SPECS)
    session.prompt("Send a note to bob.")
    session.take("page", {}, text)
    assert session.judge("send", {"to": "bob", "body": text}) == session.judge("send", {"to": "bob", "body": text})
