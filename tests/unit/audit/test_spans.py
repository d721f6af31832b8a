"""Records to spans: what stands in them, what never does, and what becomes of an intent without an outcome."""

from __future__ import annotations

from typing import Any

from agent_os.audit.spans import OPEN_MAX, Assembler, Span

WHO = {"tenant": "acme", "user": "ana@corp.example", "agent": "main", "session": "ses_1", "writer": "agentos"}


def intent(reference: str = "act_1", **action: Any) -> dict[str, Any]:
    action = action or {"kind": "model.call", "provider": "openai", "model": "gpt-5", "digest": "sha256:00"}
    said = {"type": "intent", "time": 100.25, "ref": reference, "verdict": "allow", "rules": ["models.providers"]}
    return {**WHO, **said, "action": action}


def outcome(reference: str = "act_1", **more: Any) -> dict[str, Any]:
    return {"type": "outcome", "time": 101.75, "ref": reference, "writer": "agentos", "ok": True, **more}


def spans(*records: dict[str, Any]) -> list[Span]:
    assembler = Assembler()
    return [span for record in records for span in assembler.add(record)]


def test_an_intent_and_its_outcome_are_one_span_by_the_genai_conventions() -> None:
    """A model call is a client span named by operation and model, with its tokens and its length."""
    (span,) = spans(intent(), outcome(usage={"input_tokens": 7, "output_tokens": 3, "usd": 0.5}))
    assert (span.name, span.outward, span.error) == ("chat gpt-5", True, "")
    assert span.end - span.start == 1_500_000_000
    assert span.attributes["gen_ai.operation.name"] == "chat"
    assert span.attributes["gen_ai.provider.name"] == "openai"
    assert (span.attributes["gen_ai.usage.input_tokens"], span.attributes["agentos.usage.usd"]) == (7, 0.5)
    assert span.attributes["agentos.rules"] == ("models.providers",)


def test_a_tool_call_names_its_tool_and_a_file_effect_only_its_kind() -> None:
    """Names of spans have few values: a path is an attribute."""
    tool, file = spans(
        intent("a", kind="tool.call", tool="read_file", arguments=["path"]), outcome("a"),
        intent("b", kind="fs.read", path="/ws/customers/7.csv"), outcome("b"),
    )  # fmt: skip
    assert (tool.name, file.name) == ("execute_tool read_file", "fs.read")
    assert file.attributes["agentos.path"] == "/ws/customers/7.csv"


def test_a_denial_is_a_span_without_length_that_failed() -> None:
    """What was denied is seen in the trace, with the reason."""
    denied = {
        **intent(kind="tool.call", tool="pay"),
        "type": "denied",
        "verdict": "deny",
        "reason": "denied by tools.pay.deny",
    }
    (span,) = spans(denied)
    assert (span.start, span.error) == (span.end, "denied by tools.pay.deny")
    assert span.attributes["error.type"] == "denied"


def test_an_ask_and_the_call_after_the_answer_are_two_spans_of_one_trace() -> None:
    """The reference is the same, the spans are not: a backend that keys by id keeps both."""
    asked = {**intent(), "type": "asked", "verdict": "ask", "approval": "apr_1"}
    first, second = spans(asked, intent(), outcome())
    assert first.trace == second.trace
    assert first.id != second.id
    assert first.error == ""


def test_sent_twice_is_the_same_span() -> None:
    """Ids come from the record, so that at-least-once sending does not double what is shown."""
    assert spans(intent(), outcome()) == spans(intent(), outcome())


def test_sessions_of_two_tenants_are_two_traces() -> None:
    """A session id that two tenants share does not put them into one trace."""
    other = {**intent("b"), "tenant": "globex"}
    first, second = spans(intent("a"), outcome("a"), other, outcome("b"))
    assert first.trace != second.trace


def test_an_intent_whose_writer_began_anew_is_an_interrupted_span() -> None:
    """A killed process's effect, which may have happened, is shown as such; another writer's is waited for."""
    elsewhere = {**intent("b"), "writer": "tasks"}
    (span,) = spans(intent("a"), elsewhere, {"type": "audit.started", "writer": "agentos", "time": 102.0})
    assert span.error.startswith("interrupted")
    assert span.attributes["agentos.ref"] == "a"


def test_what_waits_is_bounded_and_the_oldest_is_sent_first() -> None:
    """Intents that never end do not fill the memory of whoever sends."""
    assembler = Assembler()
    sent = [span for each in range(OPEN_MAX + 3) for span in assembler.add(intent(f"act_{each}"))]
    assert [span.attributes["agentos.ref"] for span in sent] == ["act_0", "act_1", "act_2"]
    assert len(assembler.open) == OPEN_MAX


def test_records_of_odd_shape_make_no_span_and_no_error() -> None:
    """Checkpoints, answers, an outcome of an intent before the beginning, and a record with nothing in it."""
    assert (
        spans({}, {"type": "approval.answered", "approval": "apr_1"}, outcome("unknown"), {"type": 3, "time": "x"})
        == []
    )
    (span,) = spans({"type": "denied", "action": "none", "time": True})
    assert (span.name, span.start) == ("", 0)
