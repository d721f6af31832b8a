"""The content stages of the network guard: findings in responses, archives in bodies. Which apply, an endpoint says.

JSON and what is short is looked at whole; longer texts and streams of records are followed (`guards.egress.windows`, `.joined`).

Detectors are those of the policy's `privacy` section, else this machine's; they are made when the first body needs them.
Nothing here decides what is allowed: `guards.egress.findings` and `.archives` say what is wrong with a body.
"""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from agent_os.core import canonical
from agent_os.core.ports import Detector
from agent_os.effects.proxy.content import Content, ContentError, Follower, Stage
from agent_os.effects.proxy.http1 import HttpError
from agent_os.effects.proxy.limits import Limits
from agent_os.effects.proxy.request import is_json, read_body
from agent_os.effects.proxy.rules import Treatment
from agent_os.guards.egress.archives import archive_kind, archive_problem
from agent_os.guards.egress.findings import (
    FindingRule,
    counted,
    denied_by,
    masked,
    masked_field,
    texts_in,
    unfindable,
)
from agent_os.guards.egress.joined import RecordWindow
from agent_os.guards.egress.records import EVENTS, LINES, RecordError
from agent_os.guards.egress.windows import HeldFindingError, TextWindow
from agent_os.policy import Policy
from agent_os.runtime.credential_fields import CredentialFields

_NAMED_MAX: Final = 6
_MAGIC_BYTES: Final = 16
_TEXTS: Final = frozenset(
    {"application/xml", "application/javascript", "application/x-javascript", "application/yaml", "application/x-yaml",
     "application/x-sh", "application/sql", "application/toml", "application/csv"}
)  # fmt: skip
"""Types that are texts, beside `text/*`."""


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

    async def inspect_fields(self, fields: Sequence[tuple[str, str]], treatment: Treatment) -> list[tuple[str, str]]:
        """Return the header fields without what is masked; raise ContentError for what is denied."""
        rules, detector = treatment.response_findings, await self._detector()
        texts = {f"/{number}/{name}": value for number, (name, value) in enumerate(fields) if value}
        found = counted(await detector.scan(texts)) if texts else []
        if named := denied_by(found, rules):
            raise ContentError("content.findings", f"the response's head holds {', '.join(named[:_NAMED_MAX])}")
        return [
            (name, masked_field(value, [item for item in found if item.pointer == f"/{number}/{name}"], rules))
            for number, (name, value) in enumerate(fields)
        ]

    def follow(self, content_type: str, treatment: Treatment) -> Follower | None:
        """Return what follows a response that streams: texts and streams of records; None for anything else."""
        kind, parameters = _type(content_type), content_type.partition(";")[2]
        charset = re.search(r"charset\s*=\s*\"?([\w.-]+)", parameters.lower())
        if charset is not None and charset[1] not in ("utf-8", "utf8", "us-ascii", "ascii"):
            return None
        rules = treatment.response_findings
        if kind == EVENTS or kind in LINES:
            return FollowedFindings(RecordWindow(rules, events=kind == EVENTS), rules, self._detector)
        if _is_text(kind):
            return FollowedFindings(TextWindow(rules), rules, self._detector)
        return None

    async def _detector(self) -> Detector:
        if self._made is None:
            self._made = await asyncio.to_thread(self._make)
        return self._made


class FollowedFindings:
    """Findings in one response that streams."""

    def __init__(
        self,
        window: TextWindow | RecordWindow,
        rules: Sequence[FindingRule],
        detector: Callable[[], Awaitable[Detector]],
    ) -> None:
        self._window, self._rules, self._detector = window, rules, detector
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._checked = False

    @property
    def holds(self) -> bool:
        """Whether something waits that could go on."""
        return self._window.holds

    async def feed(self, data: bytes, *, last: bool) -> bytes:
        """Take the next bytes and return what may go on. Raises ContentError."""
        try:
            self._window.add(self._decoder.decode(data, last), last=last)
        except UnicodeDecodeError:
            raise ContentError("content.findings", "the response is no text, and findings in it are denied") from None
        except RecordError as error:
            raise ContentError("content.findings", str(error)) from None
        return await self._released(everything=last)

    async def rest(self) -> bytes:
        """Return what waits, once more looked at."""
        return await self._released(everything=True)

    async def _released(self, *, everything: bool) -> bytes:
        detector = await self._detector()
        if not self._checked and (missing := unfindable(self._rules, detector.entities)):
            raise ContentError("content.findings", f"nothing here can find {missing}, which responses may not hold")
        self._checked = True
        texts = self._window.texts()
        try:
            found = await detector.scan(texts) if texts else ()
            return self._window.release(found, everything=everything).encode()
        except HeldFindingError as error:
            named = ", ".join(error.types[:_NAMED_MAX])
            raise ContentError("content.findings", f"the response holds {named}") from None


class Archives:
    """Refuses archives where an endpoint's `content.archives` says so, or those that grow beyond bounds."""

    name = "archives"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def wants(self, direction: str, host: str, treatment: Treatment) -> bool:
        """Every body of an endpoint that names archives."""
        return bool(treatment.archives)

    def follow(self, content_type: str, treatment: Treatment) -> Follower | None:
        """Return what lets pass what does not begin as an archive: streams of records, and texts that findings follow.

        Anything else is read whole, and an archive in it opened.
        """
        kind = _type(content_type)
        texts = bool(treatment.response_findings) and _is_text(kind)
        return _NoArchive() if kind == EVENTS or kind in LINES or texts else None

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


def _type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind in _TEXTS or kind.endswith(("+xml", "+yaml"))


class _NoArchive:
    """A body that may not begin as an archive does."""

    holds = False

    def __init__(self) -> None:
        self._begun = b""

    async def feed(self, data: bytes, *, last: bool) -> bytes:
        if len(self._begun) < _MAGIC_BYTES:
            self._begun += data[:_MAGIC_BYTES]
            if archive_kind(self._begun):
                raise ContentError("content.archives", "a stream of records begins as an archive")
        return data

    async def rest(self) -> bytes:
        return b""


def content_stages(policy: Policy, limits: Limits | None = None) -> tuple[Stage, ...]:
    """Return the stages a guard runs for a policy; each looks only where an endpoint asks for it."""

    def detector() -> Detector:
        from agent_os.runtime.privacy import detector_for, local_detector  # noqa: PLC0415 - heavy, and seldom needed

        return detector_for(policy) or local_detector()

    return ResponseFindings(detector), Archives(limits or Limits()), CredentialFields(policy, detector)
