"""What is made from a policy and stands beside the monitor: engines, detectors, routers, budgets, providers.

`compose` makes them when a session opens; `engines_of` makes them all for another policy before anything is swapped, so that a
revision is in force whole or not at all. What cannot change in an open session is refused and named. Threat: a policy that
holds for decisions while an engine beside them still follows the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.budget import STATED, Budget
from agent_os.core.errors import PolicyError
from agent_os.core.guards import Classifier
from agent_os.core.ports import LabelStore
from agent_os.core.principal import Principal
from agent_os.core.reading import MediaReader
from agent_os.effects.detectors.injection import Defender
from agent_os.monitor.gather import Needs, Session
from agent_os.policy import Policy
from agent_os.policy.budgets import budget_name
from agent_os.policy.flow_labels import asks_personal, wanted
from agent_os.runtime.model_routes import endpoints_of, key_source
from agent_os.runtime.policy_files import policy_files

if TYPE_CHECKING:
    from agent_os.agents.toolbox import Toolbox
    from agent_os.effects.models.client import Endpoint, Key
    from agent_os.effects.rego import RegoEngines
    from agent_os.monitor import Monitor
    from agent_os.runtime.state import State

SCANNED_KINDS: Final = frozenset({"tool.call", "net.request", "model.call", "message.send"})
"""Kinds whose content a `privacy:` section governs (policy/compile.py: WIRING)."""
UNITS: Final = ("tokens", "usd", "calls", "bytes", "seconds", "steps")
_PSEUDONYMS: Final = ("scope", "pseudonyms", "keep")
"""Fields of `privacy` that say where a session's pseudonyms are and what they look like."""


@dataclass(frozen=True, slots=True)
class Engines:
    """Everything of one policy revision, for a session that is open. `adjust` is called with each of its agents' sessions."""

    rego: RegoEngines | None
    needs: Needs
    ports: Mapping[str, Any]
    endpoints: Mapping[str, Endpoint]
    key: Key
    adjust: Callable[[Session], None]


def engines_of(policy: Policy, monitor: Monitor, state: State, vault: Any) -> Engines:
    """Return what another policy needs in an open session. Raises PolicyError for what needs a restart; nothing changes."""
    refuse_restarts(monitor.policy, policy)
    budgets = tuple(budgets_of(policy))
    held: Any = monitor.ports.budgets
    view = held.under(budgets) if held is not None else None
    if view is None and budgets:
        view = state.stores.budgets.view(budgets, monitor.principal, run=monitor.principal.session)
    router = monitor.session.privacy or privacy_of(policy, monitor.principal, vault)
    local = _local_model(policy)
    trust = _flow_trust(policy, monitor.session.workspace)
    rego = rego_of(policy)

    def adjust(session: Session) -> None:
        session.privacy = session.privacy or router
        privacy: Any = session.privacy
        flow: Any = session.flow
        if privacy is not None:
            privacy.reconfigure(local=local)
        if flow is not None and trust is not None:
            flow.reconfigure(*trust)

    detector = detector_of(policy)
    ports = {
        "rego": rego,
        "detector": detector,
        "finder": finder_of(policy, detector),
        "reader": reader_of(policy),
        "classifier": classifier_of(policy),
        "budgets": view,
    }
    return Engines(rego, needs_of(policy), ports, endpoints_of(policy), key_source(policy, vault), adjust)


def refuse_restarts(old: Policy, new: Policy) -> None:
    """Raise PolicyError naming the sections that cannot change while a session is open."""
    reasons = []
    before, after = _pseudonyms(old), _pseudonyms(new)
    if before and after and before != after:
        reasons.append("privacy (scope, pseudonyms and keep: pseudonyms that are out would not come back)")
    flow_before, flow_after = _by_reference(old), _by_reference(new)
    if flow_after is not None and flow_before is None:
        reasons.append("flow (what was read before it is not known)")
    elif flow_after is not None and flow_before != flow_after:
        reasons.append("flow (by_reference: the tools that go with it are given out at the start)")
    if reasons:
        raise PolicyError(f"this needs a restart: {'; '.join(reasons)}")


def _pseudonyms(policy: Policy) -> tuple[Any, ...]:
    """Return where a policy's pseudonyms are, as `privacy_of` reads it; empty without the section."""
    sections = [section for section, _, _ in policy.sections("privacy")]
    settings = next((item for item in sections if not isinstance(item, (list, tuple))), None)
    if not sections:
        return ()
    return (
        tuple(getattr(settings, name) for name in _PSEUDONYMS) if settings is not None else ("session", "opaque", None)
    )


def _by_reference(policy: Policy) -> bool | None:
    sections = [section for section, _, _ in policy.sections("flow")]
    return any(section.by_reference for section in sections) if sections else None


def _flow_trust(policy: Policy, workspace: str) -> tuple[Any, ...] | None:
    if not any(True for _ in policy.sections("flow")):
        return None
    from agent_os.guards.flow.wiring import references_of, trusted_paths_of  # noqa: PLC0415 - only where a policy asks

    return trusted_paths_of(policy, workspace), references_of(policy)


def _local_model(policy: Policy) -> tuple[str, str] | None:
    from agent_os.runtime.privacy import local_model  # noqa: PLC0415

    return local_model(policy)


# ---- one by one -----------------------------------------------------------------------------------------------------


def rego_of(policy: Policy) -> RegoEngines | None:
    """Return the engines of the policy's Rego modules, or None where it has none."""
    if not any(True for _ in policy.sections("rego")):
        return None
    from agent_os.runtime.rego import rego_engines  # noqa: PLC0415  (sessions without Rego do not pay for it)

    return rego_engines(policy)


def needs_of(policy: Policy) -> Needs:
    """Return which facts this policy can ask for at all."""
    asked = any(True for _ in policy.sections("privacy"))
    return Needs(
        findings=SCANNED_KINDS if asked else frozenset(),
        labels=wanted(policy),
        verdicts=bool(policy.engines),
        resolvable=policy.resolvable,
        budgets=tuple(budget.name for budget in budgets_of(policy) if budget.per not in STATED),
        files=frozenset(policy_files(policy)),
    )


def budgets_of(policy: Policy) -> list[Budget]:
    """Return the policy's budgets; of one that several files name, the smaller limit of each unit."""
    found: dict[str, Budget] = {}
    for section, _layer, _unit in policy.sections("budgets"):
        for entry in section:
            limits = {unit: float(getattr(entry, unit)) for unit in UNITS if getattr(entry, unit) is not None}
            name = budget_name(entry)
            held = found.get(name)
            if held is not None:  # two files name one budget: the smaller limit of each unit holds
                limits = {
                    **held.limits,
                    **{unit: min(most, held.limits.get(unit, most)) for unit, most in limits.items()},
                }
            zone = held.zone if held is not None else entry.zone or "UTC"
            found[name] = Budget(name, entry.per, entry.window, limits, entry.warn_at or 0.0, zone)
    return list(found.values())


def detector_of(policy: Policy) -> Any:
    """Return the detector that the policy's `privacy` section needs, or None."""
    if not any(True for _ in policy.sections("privacy")):
        return None
    from agent_os.runtime.privacy import detector_for  # noqa: PLC0415 - patterns compile for a while

    return detector_for(policy)


def finder_of(policy: Policy, detector: Any) -> Any:
    """Return who looks through results for what the flow guard labels, or None where no file asks for it.

    `detector` is that of the policy's `privacy` section, which serves here too.
    """
    if wanted(policy) is None:
        return None
    if detector is not None:
        return detector
    from agent_os.runtime.privacy import local_detector  # noqa: PLC0415 - patterns compile for a while

    personal = asks_personal(policy)
    return local_detector(ner=False, names=personal, personal=personal)


def reader_of(policy: Policy) -> MediaReader | None:
    """Return who reads pictures and documents, or None where no file of the policy lets them be read."""
    sections = [section for section, _, _ in policy.sections("privacy")]
    if not any(not isinstance(section, (list, tuple)) and section.read for section in sections):
        return None
    from agent_os.effects.pictures.reader import PictureReader  # noqa: PLC0415 - few policies ask for it

    return PictureReader()


def classifier_of(policy: Policy) -> Classifier | None:
    """Return the advisory classifier that a policy asks for, at the lowest threshold of its files."""
    wanted = [section.classifier_threshold for section, _, _ in policy.sections("flow") if section.classifier != "off"]
    return Defender(min(wanted)) if wanted else None


def privacy_of(policy: Policy, principal: Principal, vault: Any) -> Any:
    """Return the privacy router of a session, or None where the policy has none."""
    if not any(True for _ in policy.sections("privacy")):
        return None
    from agent_os.runtime.privacy import router_for  # noqa: PLC0415

    return router_for(policy, principal, vault=vault)


def flow_of(policy: Policy, specs: Specs, principal: Principal, workspace: str, labels: LabelStore) -> Any:
    """Return the flow guard of a session, or None where the policy has none."""
    if not any(True for _ in policy.sections("flow")):
        return None
    from agent_os.guards.flow.wiring import session_for  # noqa: PLC0415 - only where a policy asks for it

    return session_for(policy, specs, principal, workspace, labels)


class Specs(Mapping[str, Any]):
    """The specs of a toolbox by tool name, always as they are now."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox

    def __getitem__(self, name: str) -> Any:
        server, _, tool = name.rpartition("/")
        found = self._toolbox.find(tool, server)
        if found is None:
            raise KeyError(name)
        return found.spec

    def __iter__(self) -> Any:
        return iter(self._toolbox.names())

    def __len__(self) -> int:
        return len(self._toolbox.names())
