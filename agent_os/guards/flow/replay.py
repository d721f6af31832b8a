"""Replay of recorded traces: a decision for each call, from the prompt and the results of calls before it. Pure.

A call that is not allowed was, for the replay, not carried out: what its result would vouch for vouches for nothing,
and what is untrusted in the result counts as read all the same. Input and output: DESIGN.md, *trace line*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import yaml
from pydantic import ValidationError

from agent_os.core.action import ToolCall
from agent_os.core.canonical import json_value
from agent_os.core.decision import Verdict
from agent_os.core.errors import ActionError
from agent_os.core.facts import DEFAULTS
from agent_os.core.manifest import Manifest, ToolSpec
from agent_os.core.principal import ANONYMOUS, Principal
from agent_os.guards.flow.session import FlowSession
from agent_os.policy import Policy, decide

TRACE_CALLS_MAX: Final = 100_000
"""Calls of one trace; a longer one is refused."""


def parse_manifests(texts: Iterable[tuple[str, str]]) -> dict[str, ToolSpec]:
    """Return tool specs by name from (file name, YAML text) of manifests; `server/tool` names them too.

    Raises ActionError naming the file and field for anything that is no manifest, and for two tools of one name that
    differ (one of them would be judged by the other's semantics).
    """
    specs: dict[str, ToolSpec] = {}
    for file, text in texts:
        try:
            manifest = Manifest.model_validate(yaml.safe_load(text))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ActionError(f"{where}: {first['msg'].lower()}", field=file, hint="see docs/flow.md") from None
        except yaml.YAMLError as error:
            raise ActionError("is not YAML: " + str(error).replace("\n", " ")[:200], field=file) from None
        for tool in manifest.tools:
            if specs.get(tool.name, tool) != tool:
                raise ActionError(f"describes {tool.name!r} a second time, differently", field=file)
            specs[tool.name] = specs[f"{manifest.name}/{tool.name}"] = tool
    return specs


def replay(policy: Policy, manifests: Mapping[str, ToolSpec], trace: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"id", "decisions": [{"tool", "verdict", "rules", "reason"}]}` for one trace.

    Raises ActionError naming the field when the trace itself is malformed; a malformed call is denied in its place.
    """
    if not isinstance(trace, Mapping):
        raise ActionError("must be an object", field="trace")
    prompt, calls = trace.get("prompt", ""), trace.get("calls", ())
    if not isinstance(prompt, str):
        raise ActionError("must be a string", field="prompt")
    if not isinstance(calls, list) or len(calls) > TRACE_CALLS_MAX:
        raise ActionError(f"must be a list of at most {TRACE_CALLS_MAX} calls", field="calls")
    given = trace.get("principal")
    principal = ANONYMOUS if given is None else Principal.parse(given)
    session = None
    if any(True for _ in policy.sections("flow")):
        session = FlowSession(specs=manifests, principal=principal)
        session.prompt(prompt)
    decisions = [_replayed(policy, session, principal, call, index) for index, call in enumerate(calls)]
    return {"id": trace.get("id", ""), "decisions": decisions}


def replay_all(
    policy: Policy, manifests: Mapping[str, ToolSpec], traces: Iterable[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield the result of each trace."""
    for trace in traces:
        yield replay(policy, manifests, trace)


def _replayed(
    policy: Policy, session: FlowSession | None, principal: Principal, call: Any, index: int
) -> dict[str, Any]:
    if not isinstance(call, Mapping) or not isinstance(call.get("tool"), str):
        raise ActionError("must be an object with a tool", field=f"calls[{index}]")
    tool = call["tool"]
    try:
        args = json_value(call.get("args") or {}, field=f"calls[{index}].args")
        if not isinstance(args, dict):
            raise ActionError("must be an object", field=f"calls[{index}].args")
        server, _, name = tool.rpartition("/")
        action = ToolCall(principal=principal, tool=name or tool, server=server, args=args)
        facts = DEFAULTS
        if session is not None:
            labels, context, concerns = session.facts(action)
            facts = replace(DEFAULTS, labels=labels, context=context, flow=concerns)
        decision = decide(policy, action, facts)
        verdict, rules, reason = decision.verdict, decision.rules, decision.reason
    except ActionError as error:
        args, verdict, rules, reason = {}, Verdict.DENY, ("action.malformed",), str(error)
    if session is not None:
        session.take(tool, args, call.get("result"), failed=failed(call), performed=verdict is Verdict.ALLOW)
    return {"tool": tool, "verdict": verdict.value, "rules": list(rules), "reason": reason}


def failed(call: Mapping[str, Any]) -> bool:
    """Return whether a recorded call failed: it says so, or its result is nothing but an error."""
    result = call.get("result")
    return bool(call.get("error")) or (isinstance(result, Mapping) and set(result) == {"error"})
