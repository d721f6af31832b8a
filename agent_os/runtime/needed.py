"""What a policy needs of this machine, part by part, and whether it is here: `agentos doctor --policy`.

Asks, and changes nothing. Threat: a deployment that starts, and learns from the first denied action that a key, a model or
an engine is missing. What is missing denies what it governs; this says so beforehand, with the line that mends it.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import httpx

from agent_os.core.errors import AgentOSError, MissingPartError
from agent_os.effects.detectors.injection import installed
from agent_os.effects.models.client import Endpoint, Key
from agent_os.effects.pictures import reader
from agent_os.policy import Policy
from agent_os.runtime.approvals import OPERATOR
from agent_os.runtime.engines import classifier_of, reader_of
from agent_os.runtime.model_routes import endpoints_of, key_source
from agent_os.runtime.models import local_rows
from agent_os.runtime.rego import check_rego, opa_health
from agent_os.runtime.state import open_state


@dataclass(frozen=True, slots=True)
class Need:
    """One part: `state` is `here` or `missing`; `fix` says what mends it."""

    section: str
    part: str
    state: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the printable form."""
        return asdict(self)


def needed(policy: Policy) -> list[Need]:
    """Return every part that a policy's sections stand on, present or missing."""
    return [
        *_keys(policy),
        *_local_models(policy),
        *_names(policy),
        *_rego(policy),
        *_schedules(policy),
        *_classifier(policy),
        *_pictures(policy),
    ]


def _need(section: str, part: str, fix: str) -> Need:
    return Need(section, part, "missing" if fix else "here", fix)


def _keys(policy: Policy) -> Iterator[Need]:
    wanted = [endpoint for endpoint in endpoints_of(policy).values() if endpoint.secret]
    if not wanted:
        return
    state = open_state(writer=OPERATOR)
    try:
        source = key_source(policy, state.stores.vault)
        for endpoint in wanted:
            yield _need(
                "models", f"key {endpoint.secret} of {endpoint.name}", asyncio.run(_key_fault(source, endpoint))
            )
    finally:
        state.close()


async def _key_fault(source: Key, endpoint: Endpoint) -> str:
    url = httpx.URL(endpoint.base_url)
    try:
        value = await source(endpoint.secret, url.host, url.port or {"https": 443}.get(url.scheme, 80))
    except AgentOSError as error:
        return str(error)
    return "" if value else f"agentos secret set {endpoint.secret} --to {url.host}"


def _local_models(policy: Policy) -> Iterator[Need]:
    rows = {row["model"]: row for row in local_rows()}
    for section, _layer, _unit in policy.sections("models"):
        for name, provider in section.providers.items():
            if provider.kind != "local":
                continue
            row = rows.get(provider.model, {})
            fix = "" if row.get("here") else f"agentos models pull {provider.model}"
            if not fix and not row["engine"]:
                fix = str(MissingPartError("the engine of local models", "local"))
            yield _need("models", f"local model {provider.model} of {name}", fix)


def _names(policy: Policy) -> Iterator[Need]:
    from agent_os.runtime.privacy import detector_for  # noqa: PLC0415 - patterns compile for a while

    detector = detector_for(policy)
    if detector is None:
        return
    try:
        asyncio.run(detector.scan({"": "Ada Lovelace"}))
    except AgentOSError as error:
        yield _need("privacy", "detector", str(error))
    else:
        yield _need("privacy", "detector", "")


def _rego(policy: Policy) -> Iterator[Need]:
    if not policy.engines:
        return
    faults = [problem for problem in check_rego(policy) if problem.code == "rego-engine"]
    servers = opa_health(policy)
    if {name for name, _ in policy.engines} - servers.keys():
        yield _need("rego", "modules", "; ".join(problem.message for problem in faults))
    for engine, fault in servers.items():
        yield _need("rego", engine, f"the server does not answer: {fault}" if fault else "")


def _schedules(policy: Policy) -> Iterator[Need]:
    """Schedules run on the base install; only their cron expressions need a part of their own."""
    if any(True for _ in policy.sections("schedules")):
        there = importlib.util.find_spec("croniter") is not None
        yield _need("schedules", "cron expressions", "" if there else str(MissingPartError("croniter", "durable")))


def _classifier(policy: Policy) -> Iterator[Need]:
    if classifier_of(policy) is not None:
        missing = "" if installed() else str(MissingPartError("the injection classifier", "classifier"))
        yield _need("flow", "injection classifier", missing)


def _pictures(policy: Policy) -> Iterator[Need]:
    if reader_of(policy) is not None:
        missing = "" if reader.installed() else str(MissingPartError("the reader of pictures", "ocr"))
        yield _need("privacy", "reader of pictures", missing)
