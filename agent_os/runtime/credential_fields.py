"""What a request's credential fields carry beside a credential: no personal data that the privacy section keeps in.

`Authorization`, `Cookie` and API key fields enter no action, so that no record or approval shows a credential; neither rules nor
the privacy section's rewrites see them. Here their values are shown to the section's detectors for this one check, and kept
nowhere. A secret is what such a field is for and counts for nothing; what is found for certain and a rule would deny or rewrite
elsewhere is denied. Threat: data that leaves as a cookie.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote

from agent_os.core.action import NetRequest
from agent_os.core.decision import Verdict
from agent_os.core.facts import DEFAULTS, Finding
from agent_os.core.ports import Detector
from agent_os.effects.proxy.content import Content, ContentError
from agent_os.effects.proxy.rules import Treatment
from agent_os.policy import Policy

FIELDS: Final = frozenset({"authorization", "cookie", "x-api-key", "api-key"})
SCORE_MIN: Final = 0.8
"""Tokens are full of digits: what is only likely to be a telephone number is none here."""
_NAMED_MAX: Final = 4
_ACCOUNT: Final = frozenset({"EMAIL_ADDRESS", "PERSON"})
"""What an account is called by."""
_PLACEHOLDER: Final = re.compile(r"agentos-secret:[A-Za-z0-9_.-]{1,128}")


class CredentialFields:
    """A stage of the guard (effects/proxy/content.py: RequestStage)."""

    name = "credential-fields"

    def __init__(self, policy: Policy, detector: Callable[[], Detector]) -> None:
        self._sections: list[Any] = [
            item.section
            for layer in policy.compiled
            for item in layer.by_kind.get("net.request", ())
            if item.section.name == "privacy"
        ]
        self._make = detector
        self._made: Detector | None = None

    def wants(self, direction: str, host: str, treatment: Treatment) -> bool:
        """No body."""
        return False

    async def inspect(self, content: Content) -> bytes:
        """Return the body as it is."""
        return content.body

    async def inspect_request(self, action: NetRequest, fields: Sequence[tuple[str, str]]) -> None:
        """Raise ContentError where a credential field holds what the privacy section keeps in."""
        texts, accounts = dict[str, str](), set[str]()
        for number, (name, value) in enumerate(fields):
            if name in FIELDS:
                for place, (text, account) in enumerate(_shown(name, value)):
                    pointer = f"/headers/{name}/{number}.{place}"
                    texts[pointer] = text
                    accounts.update([pointer] if account else [])
        if not texts or not self._sections:
            return
        if self._made is None:
            self._made = await asyncio.to_thread(self._make)
        found = [item for item in await self._made.scan(texts) if _counts(item, account=item.pointer in accounts)]
        if found and (rule := self._denied_by(action, found, texts)):
            names = ", ".join(sorted({item.type for item in found})[:_NAMED_MAX])
            where = ", ".join(sorted({item.pointer.split("/")[2] for item in found}))
            raise ContentError(rule, f"{names} found in {where}, which is for a credential")

    def _denied_by(self, action: NetRequest, found: Sequence[Finding], texts: Mapping[str, str]) -> str:
        """Return the rule of the privacy section that would deny or rewrite this anywhere else, or an empty text."""
        bare = replace(action, headers=dict.fromkeys(texts, ""), body=None, body_digest="", size=0)
        facts = replace(DEFAULTS, findings=tuple(found))
        for section in self._sections:
            for match in section.judge(bare, facts):
                if not match.audit_only and (match.effect is not Verdict.ALLOW or match.obligations):
                    return str(match.rule)
        return ""


def _counts(finding: Finding, *, account: bool) -> bool:
    """Whether a finding is one that a credential field has no business with."""
    if finding.score < SCORE_MIN or finding.type.startswith("SECRET") or finding.type == "UNREADABLE":
        return False
    return not (account and finding.type in _ACCOUNT)


def _shown(name: str, value: str) -> list[tuple[str, bool]]:
    """Return what of a field's value is looked at, part by part: each text, and whether it is the account of a placeholder."""
    if name == "cookie":
        return [(unquote(part), False) for part in value.split(";")]
    if name != "authorization":
        return [(unquote(value), False)]
    scheme, _, rest = value.partition(" ")
    if scheme.lower() != "basic":
        return [(unquote(rest or scheme), False)]
    try:
        opened = base64.b64decode(rest.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return [(rest, False)]
    user, _, password = opened.partition(":")
    return [(user, True)] if _PLACEHOLDER.fullmatch(password) else [(user, False), (password, False)]
