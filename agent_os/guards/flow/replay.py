"""Replay of recorded traces through the flow guard: what `agentos policy replay` gives each call as facts. Pure.

Call i is judged from the prompt and the results of calls before it. A call that is not allowed counts as not carried
out: what its recorded result would vouch for vouches for nothing, and what is untrusted in it counts as read all the
same. Input and output: docs/flow.md, *traces*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from agent_os.core.action import Action, ToolCall
from agent_os.core.errors import ActionError
from agent_os.core.facts import Facts
from agent_os.core.manifest import Manifest, ToolSpec
from agent_os.core.principal import Principal
from agent_os.guards.flow.references import References
from agent_os.guards.flow.session import FlowSession
from agent_os.guards.flow.wiring import references_of
from agent_os.policy import Policy
from agent_os.policy.workbench.replay import replay_trace


def specs_of(manifests: Iterable[Manifest]) -> dict[str, ToolSpec]:
    """Return tool semantics by name, and by `server/tool`.

    Raises ActionError for two different descriptions of one tool: each would be judged by the other's semantics.
    """
    specs: dict[str, ToolSpec] = {}
    for manifest in manifests:
        for tool in manifest.tools:
            if specs.get(tool.name, tool) != tool:
                raise ActionError("is described twice, differently", field=f"{manifest.name}.{tool.name}")
            specs[tool.name] = specs[f"{manifest.name}/{tool.name}"] = tool
    return specs


class TraceWatcher:
    """Follows one trace with a flow session of its own."""

    def __init__(
        self,
        specs: Mapping[str, ToolSpec],
        head: Mapping[str, Any],
        principal: Principal,
        references: References | None = None,
    ) -> None:
        self._session = FlowSession(specs=specs, principal=principal, references=references)
        prompt = head.get("prompt", "")
        if isinstance(prompt, str):
            self._session.prompt(prompt)

    def facts(self, action: Action, base: Facts) -> Facts:
        """Return the facts with labels, context and concerns of a call."""
        labels, context, concerns = self._session.facts(action)
        return replace(base, labels=labels, context=context, flow=concerns)

    def observe(self, action: Action, result: Any, performed: bool = True) -> None:
        """Take the recorded result of a call; `performed` says whether it was allowed."""
        if isinstance(action, ToolCall):
            failed = isinstance(result, Mapping) and set(result) == {"error"}
            self._session.take(action.target, action.args, result, failed=failed, performed=performed)

    def unread(self, tool: Any, result: Any) -> None:
        """Take what stands as the result of a malformed call: it was read, and nothing of it vouches."""
        if result is not None:
            named = tool if isinstance(tool, str) and tool else "unknown"
            self._session.take(named, {}, result, failed=True, performed=False)


def watcher(
    manifests: Iterable[Manifest], head: Mapping[str, Any], principal: Principal, policy: Policy | None = None
) -> TraceWatcher:
    """Return the watcher of one trace under a policy's reference lists; `head` is the trace without its calls."""
    return TraceWatcher(specs_of(manifests), head, principal, references_of(policy) if policy is not None else None)


def replay(policy: Policy, manifests: Iterable[Manifest], trace: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"id", "decisions": [{"tool", "verdict", "rules", "reason"}]}` for one trace."""
    specs = specs_of(manifests)
    watched = any(True for _ in policy.sections("flow"))
    return replay_trace(
        policy,
        trace,
        make_watcher=(lambda head, principal: TraceWatcher(specs, head, principal, references_of(policy)))
        if watched
        else None,
    )
