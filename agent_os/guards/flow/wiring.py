"""A flow session as a policy asks for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from agent_os.core import canonical
from agent_os.core.manifest import ToolSpec
from agent_os.core.ports import LabelStore
from agent_os.core.principal import Principal
from agent_os.guards.flow.references import Layer, References, Source, spelling
from agent_os.guards.flow.session import FlowSession
from agent_os.policy import Policy
from agent_os.policy.globs import compile_any
from agent_os.policy.values import pluck


def session_for(
    policy: Policy,
    specs: Mapping[str, ToolSpec],
    principal: Principal,
    workspace: str = "/workspace",
    labels: LabelStore | None = None,
) -> FlowSession | None:
    """Return the session of one agent, or None where the policy has no `flow:` section.

    A path is trusted when every layer that has a `flow:` section trusts it (a layer can only narrow).
    Raises ActionError for a path that cannot be made canonical.
    """
    if not any(True for _ in policy.sections("flow")):
        return None
    return FlowSession(
        specs,
        principal,
        trusted_paths=trusted_paths_of(policy, workspace),
        workspace=workspace,
        references=references_of(policy),
        labels=labels,
        by_reference=any(section.by_reference for section, _, _ in policy.sections("flow")),
    )


def trusted_paths_of(policy: Policy, workspace: str) -> tuple[str, ...]:
    """Return the paths that every layer with a `flow:` section trusts. Raises ActionError for one that is not canonical."""
    by_layer: dict[str, set[str]] = {}
    for section, layer, _ in policy.sections("flow"):
        paths = {canonical.path(entry, root=workspace, field="flow.trusted_paths") for entry in section.trusted_paths}
        by_layer.setdefault(layer.name, set()).update(paths)
    return tuple(sorted(set.intersection(*by_layer.values()))) if by_layer else ()


def references_of(policy: Policy) -> References:
    """Return the reference lists of a policy's `flow:` sections, with the values its own `data` states."""
    layers: dict[str, Layer] = {}
    for section, owner, unit in policy.sections("flow"):
        layer = layers.setdefault(owner.name, Layer())
        for entry in section.trusted:
            read = [source for source in entry.from_ if not source.startswith("data:")]
            fields = frozenset(name.lower() for name in entry.fields)
            if read:
                layer.sources = (*layer.sources, Source(compile_any(read, crossing=True), fields))
            for source in entry.from_:
                if source.startswith("data:"):
                    name, *path = source.removeprefix("data:").split(".")
                    found = pluck(unit.data.get(name), path) or ()
                    layer.values.update(spelling(str(value)) for value in found)
    return References(layers.values())
