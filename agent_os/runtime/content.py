"""The content stages of the network guard: findings in responses, archives in bodies. Which apply, an endpoint says.

Detectors are those of the policy's `privacy` section, else this machine's; they are made when the first body needs them.
Nothing here decides what is allowed: `guards.egress.findings` and `.archives` say what is wrong with a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from agent_os.core import canonical
from agent_os.core.ports import Detector
from agent_os.effects.proxy.content import Content, ContentError, Stage
from agent_os.effects.proxy.http1 import HttpError
from agent_os.effects.proxy.limits import Limits
from agent_os.effects.proxy.request import is_json, read_body
from agent_os.effects.proxy.rules import Treatment
from agent_os.guards.egress.archives import archive_kind, archive_problem
from agent_os.guards.egress.findings import denied_by, masked, texts_in, unfindable
from agent_os.policy import Policy

_NAMED_MAX: Final = 6


class ResponseFindings:
    """Refuses or masks responses that hold what an endpoint's `content.response_findings` names."""

    name = "findings"

    def __init__(self, detector: Callable[[], Detector]) -> None:
        self._make = detector
        self._made: Detector | None = None

    def wants(self, direction: str, host: str, treatment: Treatment) -> bool:
        """Every response of an endpoint that has such rules."""
        return direction == "response" and bool(treatment.response_findings)

    async def inspect(self, content: Content) -> bytes:
        """Return the body without what is masked; raise ContentError for what is denied or cannot be read."""
        rules, detector = content.treatment.response_findings, await self._detector()
        if missing := unfindable(rules, detector.entities):
            raise ContentError("content.findings", f"nothing here can find {missing}, which responses may not hold")
        try:
            body = read_body(content.body, content.content_type)
        except HttpError as error:
            raise ContentError("content.findings", f"the response cannot be read: {error}") from None
        if body is None:
            raise ContentError("content.findings", "the response is no text, and findings in it are denied")
        texts = texts_in(body)
        found = await detector.scan(texts) if texts else ()
        if named := denied_by(found, rules):
            raise ContentError("content.findings", f"the response holds {', '.join(named[:_NAMED_MAX])}")
        clean = masked(body, found, rules)
        if clean is body:
            return content.body
        return clean.encode() if not is_json(content.content_type) else canonical.json_bytes(clean)

    async def _detector(self) -> Detector:
        if self._made is None:
            self._made = await asyncio.to_thread(self._make)
        return self._made


class Archives:
    """Refuses archives where an endpoint's `content.archives` says so, or those that grow beyond bounds."""

    name = "archives"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def wants(self, direction: str, host: str, treatment: Treatment) -> bool:
        """Every body of an endpoint that names archives."""
        return bool(treatment.archives)

    async def inspect(self, content: Content) -> bytes:
        """Return the body, or raise ContentError."""
        kind = archive_kind(content.body)
        if kind and content.treatment.archives == "deny":
            raise ContentError("content.archives", f"the body is a {kind} archive")
        limits = self._limits
        if kind and (problem := await asyncio.to_thread(
            archive_problem, content.body, most=limits.inflate_bytes, ratio=limits.inflate_ratio
        )):  # fmt: skip
            raise ContentError("content.archives", problem)
        return content.body


def content_stages(policy: Policy, limits: Limits | None = None) -> tuple[Stage, ...]:
    """Return the stages a guard runs for a policy; each looks only where an endpoint asks for it."""

    def detector() -> Detector:
        from agent_os.runtime.privacy import detector_for, local_detector  # noqa: PLC0415 - heavy, and seldom needed

        return detector_for(policy) or local_detector()

    return ResponseFindings(detector), Archives(limits or Limits())
