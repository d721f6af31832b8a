"""What the monitor writes to the audit: canonical names, hosts, methods, rule ids and keyed digests.

Pure. Threat: an audit that leaks what it guards. No argument value, URL path, query, prompt or result stands in a record;
whoever needs those turns on the encrypted payload store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent_os.core.action import (
    Action,
    AgentSpawn,
    ModelCall,
    NetConnect,
    NetRequest,
    ProcessExec,
    SecretUse,
    TaskSchedule,
    ToolCall,
)
from agent_os.core.budget import Warned
from agent_os.core.decision import Decision
from agent_os.core.ports import Outcome
from agent_os.core.principal import Principal


def describe(action: Action, keyed_digest: Callable[[str], str]) -> dict[str, Any]:
    """Return what an audit record may say of an action."""
    said: dict[str, Any] = {"kind": action.kind, "digest": action.digest}
    match action:
        case ToolCall():
            said["tool"] = action.target
            said["arguments"] = sorted(action.args)
            said["tool_digest"] = action.tool_digest
        case NetRequest():
            said.update(host=action.host, port=action.port, method=action.method, path=keyed_digest(action.path))
        case NetConnect():
            said.update(host=action.host, port=action.port)
        case ModelCall():
            said.update(model=action.model, provider=action.provider, input_tokens=action.input_tokens)
        case ProcessExec():
            said.update(
                program=action.target, argv=keyed_digest("\0".join(action.argv)), arguments=len(action.argv) - 1
            )
        case AgentSpawn() | TaskSchedule() | SecretUse():
            said["name"] = action.target
        case _:
            if action.kind.startswith("fs."):
                said["path"] = action.target
            else:
                said["target"] = keyed_digest(action.target)
    if action.call_id:
        said["call"] = action.call_id
    return said


def intent(action: Action, decision: Decision, *, reference: str, now: float, said: dict[str, Any]) -> dict[str, Any]:
    """Return the record that stands before an effect."""
    record = decided("intent", action, decision, reference=reference, now=now, said=said)
    if decision.obligations:
        record["obligations"] = sorted({obligation.kind for obligation in decision.obligations})
        standing = [each.params["standing"] for each in decision.obligations if "standing" in each.params]
        if standing:
            record["approvals"] = standing
    return record


def decided(
    kind: str, action: Action, decision: Decision, *, reference: str, now: float, said: dict[str, Any]
) -> dict[str, Any]:
    """Return a record of a decision: `intent`, `denied` or `asked`."""
    principal = action.principal
    record: dict[str, Any] = {
        "type": kind,
        "time": now,
        "ref": reference,
        "tenant": principal.tenant,
        "user": principal.user,
        "agent": principal.agent,
        "session": principal.session,
        "action": said,
        "verdict": decision.verdict.value,
        "rules": list(decision.rules),
        "policy": decision.policy_digest,
    }
    if principal.parents:
        record["parents"] = list(principal.parents)
    if decision.errored:
        record["errored"] = list(decision.errored)
    if decision.audit_only:
        record["audit_only"] = list(decision.audit_only)
    if kind == "denied":
        record["reason"] = decision.reason
    return record


def finished(reference: str, outcome: Outcome, *, now: float, size: int) -> dict[str, Any]:
    """Return the record that stands after an effect; `size` is the result's in bytes (-1: not measured)."""
    record: dict[str, Any] = {"type": "outcome", "time": now, "ref": reference, "ok": outcome.ok}
    if outcome.error:
        record["error"] = outcome.error
    if outcome.usage:
        record["usage"] = dict(outcome.usage)
    if size >= 0:
        record["bytes"] = size
    return record


def warned(principal: Principal, passed: Warned, *, now: float) -> dict[str, Any]:
    """Return the record of a budget that passed its `warn_at` by what this principal used."""
    name, _, period = passed.account.rpartition("|")
    budget, _, subject = name.rpartition("|")
    who = {"tenant": principal.tenant, "user": principal.user, "agent": principal.agent, "session": principal.session}
    counted = {"unit": passed.unit, "used": passed.used, "limit": passed.limit}
    return {"type": "budget.warned", "time": now, **who, "budget": budget, "for": subject, "period": period, **counted}
