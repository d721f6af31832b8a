"""Recorded tool-call traces judged under a policy: one result a trace, one decision a call. Pure.

Call i is judged knowing the prompt and the results of the calls before it, nothing else. What a guard knows of a run
(labels, provenance, effect scope) comes through a `Watcher`, one a trace; without one, the facts are the defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final, Protocol

from agent_os.core.action import Action
from agent_os.core.errors import ActionError
from agent_os.core.facts import DEFAULTS, Facts
from agent_os.core.principal import ANONYMOUS, Principal
from agent_os.policy.engine import decide
from agent_os.policy.policy import Policy
from agent_os.policy.workbench.facts import Judge, judged, parse_facts

MAX_CALLS: Final = 10_000
_KEYS: Final = frozenset({"id", "prompt", "principal", "calls", "facts", "not_evaluable"})
_CALL_KEYS: Final = frozenset(
    {"tool", "server", "args", "result", "error", "facts", "ref", "recorded", "not_evaluable"}
)
"""`ref`, `recorded` and `not_evaluable` are what `agentos audit export --format trace` writes beside a call."""


class Watcher(Protocol):
    """A guard that follows one trace: gives facts before a call, sees its result after."""

    def facts(self, action: Action, base: Facts) -> Facts: ...
    def observe(self, action: Action, result: Any, performed: bool) -> None: ...
    def unread(self, tool: Any, result: Any) -> None:
        """Take what stands as the result of a call that is malformed: text of nobody."""


MakeWatcher = Callable[[Mapping[str, Any], Principal], Watcher]
"""(the trace without its calls, on whose behalf) -> a watcher of that trace."""


def replay_trace(
    policy: Policy,
    trace: Any,
    *,
    make_watcher: MakeWatcher | None = None,
    workspace: str = "/workspace",
    judge: Judge | None = None,
    concerns: bool = False,
) -> dict[str, Any]:
    """Return `{"id": …, "decisions": [{tool, verdict, rules, reason}, …]}` for one trace.

    With `concerns` a decision that is no allow also has what the flow guard noticed, values and quotes included. A trace or
    call that is malformed is answered with denials that say why.
    """
    if not isinstance(trace, Mapping):
        return {"id": None, "decisions": [], "error": "a trace must be an object"}
    result: dict[str, Any] = {"id": trace.get("id"), "decisions": []}
    calls = trace.get("calls", [])
    unknown = sorted(set(trace) - _KEYS)
    if unknown or not isinstance(calls, list) or len(calls) > MAX_CALLS:
        result["error"] = f"unknown key {unknown[0]!r}" if unknown else f"calls must be a list of at most {MAX_CALLS}"
        return result
    try:
        principal = parse_principal(trace.get("principal"))
        base = parse_facts(trace.get("facts", {}), replace(DEFAULTS, workspace=workspace))
    except ActionError as error:
        result["error"] = str(error)
        return result
    head = {key: value for key, value in trace.items() if key != "calls"}
    watcher = make_watcher(head, principal) if make_watcher is not None else None
    for call in calls:
        result["decisions"].append(_judge_call(policy, call, principal, base, watcher, workspace, judge, concerns))
    return result


def parse_principal(given: Any) -> Principal:
    """Return the principal of a trace; `{"user": …}` is enough. Raises ActionError."""
    if given is None:
        return ANONYMOUS
    if not isinstance(given, Mapping):
        raise ActionError("must be an object", field="principal")
    return Principal.parse(given)


def _judge_call(
    policy: Policy,
    call: Any,
    principal: Principal,
    base: Facts,
    watcher: Watcher | None,
    workspace: str,
    judge: Judge | None,
    concerns: bool,
) -> dict[str, Any]:
    tool = call.get("tool") if isinstance(call, Mapping) else None
    try:
        if not isinstance(call, Mapping) or set(call) - _CALL_KEYS:
            raise ActionError("must be an object with tool, args, result", field="call")
        if call.get("not_evaluable"):
            why = str(call["not_evaluable"])
            return {"tool": tool, "verdict": "not-evaluable", "rules": [], "reason": why}
        wire: dict[str, Any] = {"kind": "tool.call", "tool": tool, "args": call.get("args") or {}}
        if call.get("server"):
            wire["server"] = call["server"]
        action = Action.parse(wire, workspace=workspace, principal=principal)
        facts = parse_facts(call["facts"], base) if call.get("facts") else base
        if watcher is not None:
            facts = watcher.facts(action, facts)
        decision = decide(policy, action, judged(facts, action, judge))
    except ActionError as error:
        if watcher is not None and isinstance(call, Mapping):  # whatever stands there as its result has been read
            watcher.unread(tool, call.get("result", call.get("error")))
        return {"tool": tool, "verdict": "deny", "rules": [], "reason": f"malformed call: {error}"}
    if watcher is not None:
        result = call["result"] if "result" in call else {"error": call.get("error")}
        watcher.observe(action, result, decision.allowed)
    answer: dict[str, Any] = {
        "tool": tool,
        "verdict": decision.verdict.value,
        "rules": list(decision.rules),
        "reason": decision.reason,
    }
    if decision.advice:
        answer["advice"] = decision.advice
    if decision.audit_only:
        answer["audit_only"] = list(decision.audit_only)
    if concerns and not decision.allowed:
        answer["concerns"] = [asdict(concern) for concern in facts.flow or ()]
    return answer


def summarise(results: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many traces and calls there were, and how many calls got each verdict."""
    counts = {"traces": len(results), "calls": 0, "allow": 0, "ask": 0, "deny": 0, "not-evaluable": 0}
    for result in results:
        for decision in result["decisions"]:
            counts["calls"] += 1
            counts[decision["verdict"]] += 1
    return counts
