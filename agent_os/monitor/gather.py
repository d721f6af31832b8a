"""Facts for one decision: asks the ports for what this policy needs to know of this action, each within a deadline.

Fail closed: a port that fails, times out or is absent leaves its fact missing (None), an error text in it, or its section
in `unavailable`; `decide` then lets restricting rules fire. Nothing here decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.core.action import Action, NetConnect
from agent_os.core.errors import AgentOSError
from agent_os.core.facts import AS_SENT, OURS, BudgetLeft, ExternalVerdict, Facts, Finding
from agent_os.core.guards import FlowGuard, PrivacyRouter
from agent_os.core.label import TRUSTED, Label
from agent_os.core.ports import AgentAllowance
from agent_os.core.principal import Capability, Principal
from agent_os.core.reading import READ, Reading
from agent_os.guards.privacy.joints import joints, settled
from agent_os.guards.privacy.pictures import payloads, shapes
from agent_os.monitor.wiring import (
    BUDGET_TIMEOUT_S,
    DETECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    REGO_TIMEOUT_S,
    RESOLVE_TIMEOUT_S,
    TAKING_TIMEOUT_S,
    Ports,
)

TAKING_POLL_S: Final = 0.005
"""How often a call looks whether the result that its session is taking is known."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Which facts a policy can ask for at all; what it cannot ask for is not gathered."""

    findings: frozenset[str] = frozenset()
    """Action kinds whose content the policy wants scanned."""
    labels: Callable[[str], tuple[str, bool]] | None = None
    """Entity name -> label tag, and whether its values are looked for in what leaves (policy/flow_labels.py); None: results
    are not looked through."""
    verdicts: bool = False
    budgets: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    unavailable: frozenset[str] = frozenset()
    resolvable: Callable[[str], bool] = lambda _host: True
    """Whether a rule could allow a host at all: a name no rule can allow is not even asked for."""
    files: frozenset[str] = frozenset()
    """What the policy was read from, by real path (a folder stands for all in it): no agent changes its own rules."""


@dataclass(slots=True)
class Session:
    """What one agent carries through its run. Mutable, owned by one monitor."""

    principal: Principal
    workspace: str = "/workspace"
    flow: FlowGuard | None = None
    privacy: PrivacyRouter | None = None
    capabilities: tuple[Capability, ...] | None = None
    children: int = 0
    """Live children."""
    allowance: AgentAllowance | None = None
    """What this agent may use of its own; None for an agent nobody limited."""
    lineage: tuple[str, ...] = ()
    """The tasks above this one's, the root first."""
    on_untrusted: Callable[[], None] | None = None
    """Notes, once and durably, that this session has read untrusted text; None where nobody has to know. Raises EffectError."""
    ended: bool = False
    """The agent is over (done, failed or killed): nothing it left behind may act any more."""


_NO_VERDICTS: tuple[ExternalVerdict, ...] = ()


async def gather(
    ports: Ports, needs: Needs, session: Session, action: Action, stated: Mapping[str, Any] | None
) -> Facts:
    """Return the facts `decide` needs. `stated` are facts only the caller of the door can know."""
    stated, now = stated or {}, ports.clock.now()
    labels, context, flow = await _flow(session, action)
    findings: tuple[Finding, ...] | None = ()
    error = ""
    readings: Mapping[str, Reading] = {}
    if action.kind in needs.findings:
        readings = await _read(ports, action)
        findings, error = await _scan(ports, session, action, readings)
    addresses: tuple[str, ...] | None = stated.get("resolved_ips")
    if addresses is None and isinstance(action, NetConnect) and needs.resolvable(action.host):
        addresses = await _resolve(ports, action)
    budgets: tuple[BudgetLeft, ...] | None = ()
    if needs.budgets:
        budgets = await _budgets(ports, needs.budgets)
    return Facts(
        now=now,
        workspace=session.workspace,
        executable=stated.get("executable"),
        resolved_ips=addresses,
        labels=labels,
        context=context,
        flow=flow,
        task=session.flow.task if session.flow is not None and ports.detector is None else "",
        findings=findings,
        detector_error=error,
        seen={pointer: item.error or (OURS if item.ours else AS_SENT) for pointer, item in readings.items()},
        budgets=budgets,
        rates=ports.rates.left(action.principal, now),
        verdicts=await verdicts(ports, action) if needs.verdicts else _NO_VERDICTS,
        depth=len(action.principal.parents),
        children=session.children,
        capabilities=session.capabilities,
        require_binary_identity=stated.get("require_binary_identity", True),
        registered_tools=ports.registry.names(),
        data=needs.data,
        unavailable=needs.unavailable,
    )


async def _flow(session: Session, action: Action) -> tuple[Mapping[str, Label] | None, Label | None, Any]:
    if session.flow is None:
        return {"": TRUSTED}, TRUSTED, ()
    try:
        if session.flow.busy:  # a result of another call of this session is being taken: its rivals are not all known
            async with asyncio.timeout(TAKING_TIMEOUT_S):
                while session.flow.busy:  # noqa: ASYNC110 - the guard is pure: it has nobody to wake
                    await asyncio.sleep(TAKING_POLL_S)
        return session.flow.facts(action)
    except AgentOSError:
        raise
    except Exception:  # a guard that fails leaves its facts missing: every rule that names them fires
        return None, None, None


async def _read(ports: Ports, action: Action) -> Mapping[str, Reading]:
    """Return what stands in the pictures and documents of an action, by pointer of the part."""
    held = payloads(action) if ports.reader is not None else {}
    if ports.reader is None or not held:
        return {}
    try:
        media = {pointer: payload.data for pointer, payload in held.items()}
        return await asyncio.wait_for(ports.reader.read(media), READ_TIMEOUT_S)
    except TimeoutError:
        return dict.fromkeys(held, Reading(error="reading took too long"))
    except Exception as error:
        return dict.fromkeys(held, Reading(error=f"the reader failed: {type(error).__name__}"))


async def _scan(
    ports: Ports, session: Session, action: Action, readings: Mapping[str, Reading]
) -> tuple[tuple[Finding, ...] | None, str]:
    if ports.detector is None or session.privacy is None:
        return None, "no detector is installed"
    try:
        texts = dict(session.privacy.texts(action))
        shaped: list[Finding] = []
        if readings:
            for pointer, payload in payloads(action).items():
                if pointer in readings and not readings[pointer].error:
                    texts.pop(payload.pointer, None)  # its bytes were read as what they are
                    texts[pointer + READ] = readings[pointer].text
                    shaped += shapes(readings[pointer].text, pointer + READ)
        found: Sequence[Finding] = ()
        if texts:
            over = joints(action, texts, session.privacy.before(action))
            asked = {**texts, **{pointer: item.text for pointer, item in over.items()}}
            found = await asyncio.wait_for(ports.detector.scan(asked), DETECT_TIMEOUT_S)
            found = settled(found, over, texts)
        return (*found, *shaped), ""
    except TimeoutError:
        return None, "the detector took too long"
    except AgentOSError as error:  # our own errors name parts and bounds, never values
        return None, f"the detector failed: {error}"
    except Exception as error:
        return None, f"the detector failed: {type(error).__name__}"


async def _resolve(ports: Ports, action: NetConnect) -> tuple[str, ...] | None:
    if ":" in action.host or action.host.replace(".", "").isdigit():
        return (action.host,)  # canonical.host leaves no other spelling of an address
    if ports.resolver is None:
        return None
    try:
        return await asyncio.wait_for(ports.resolver.resolve(action.host, action.port), RESOLVE_TIMEOUT_S)
    except Exception:  # no address is a missing fact: the network section denies
        return None


async def verdicts(ports: Ports, action: Action) -> tuple[ExternalVerdict, ...]:
    """Return what the external engines say; one that fails says an error."""
    if ports.rego is None:
        return (ExternalVerdict("rego", error="no engine is installed"),)
    try:
        return await asyncio.wait_for(ports.rego.evaluate(action.to_json(), action.digest), REGO_TIMEOUT_S)
    except Exception as error:
        return (ExternalVerdict("rego", error=f"the engine failed: {type(error).__name__}"),)


async def _budgets(ports: Ports, names: tuple[str, ...]) -> tuple[BudgetLeft, ...] | None:
    if ports.budgets is None:
        return None
    try:
        async with asyncio.timeout(BUDGET_TIMEOUT_S):
            return await ports.budgets.left(names)
    except Exception:  # an unreadable budget is a missing fact
        return None
