"""A flow session as a policy asks for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from agent_os.core import canonical
from agent_os.core.manifest import ToolSpec
from agent_os.core.principal import Principal
from agent_os.guards.flow.session import FlowSession
from agent_os.policy import Policy


def session_for(
    policy: Policy, specs: Mapping[str, ToolSpec], principal: Principal, workspace: str = "/workspace"
) -> FlowSession | None:
    """Return the session of one agent, or None where the policy has no `flow:` section.

    A path is trusted when every layer that has a `flow:` section trusts it (a layer can only narrow).
    Raises ActionError for a path that cannot be made canonical.
    """
    by_layer: dict[str, set[str]] = {}
    for section, layer, _ in policy.sections("flow"):
        paths = {canonical.path(entry, root=workspace, field="flow.trusted_paths") for entry in section.trusted_paths}
        by_layer.setdefault(layer.name, set()).update(paths)
    if not by_layer:
        return None
    trusted = set.intersection(*by_layer.values())
    return FlowSession(specs, principal, trusted_paths=tuple(sorted(trusted)), workspace=workspace)
