"""Resolves the placeholders of one request: each use is an action of its own, and a use elsewhere is an alert."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent_os.core.action import SecretUse
from agent_os.core.canonical.addresses import ip_classes
from agent_os.core.errors import DeniedError, EffectError
from agent_os.core.ports import Outcome
from agent_os.effects.proxy.credentials import SECRET_BYTES_MIN
from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.route import Route, denied, settle
from agent_os.guards.egress.masking import Masker
from agent_os.guards.egress.placeholders import names_in, names_in_field, names_in_target, names_spelt

_BOUND: Final = "send placeholders only to the destination the secret is bound to"


LOOKED_INLINE_BYTES_MAX: Final = 64 * 1024
"""A longer body is looked through beside the event loop."""
_AS_IT_IS: Final = "write the placeholder as it is, into a text that is not packed"


@dataclass(slots=True)
class Resolved:
    """What may be put in, and the masker of its echoes. `learn` resolves what turns up later in a streamed body."""

    parts: Parts
    flow: Flow
    route: Route
    values: dict[str, str] = field(default_factory=dict)
    masker: Masker | None = None
    body_possible: bool = False
    clear: bool = False
    """The request goes out without TLS."""
    known: Mapping[str, str] = field(default_factory=dict)
    """Every secret that may go to this destination: its server may give back what it got before, from anybody."""

    async def need(self, name: str, place: str) -> None:
        """Resolve one secret for one place in the request. Raises DeniedError, after an alert."""
        parts, route = self.parts, self.route
        rule = f"secrets.{name}"
        if place not in parts.rules.secret_places(name, route.host, route.port):
            self._refuse(rule, f"this secret may not stand in the {place} of a request to this destination")
        if self.clear and not all(ip_classes(address) for address in route.addresses):
            reason = "a secret does not go through the open network without TLS"
            self._refuse(rule, reason, alert=False, advice="ask for it with https")
        if name in self.values:
            return
        action = SecretUse(principal=self.flow.principal, name=name, destination=route.host)
        try:
            admission = await parts.door.admit(action, stated=route.stated)
        except DeniedError as error:
            parts.flows.note(
                "alert", self.flow, rule=rule, reason="a secret was sent towards a place it is not bound to"
            )
            denied(parts, self.flow, error.decision, f"secret {name}")
            raise
        try:
            secret = await parts.secrets.get(name) if parts.secrets is not None else None
        except EffectError:
            secret = None
        await settle(parts, None, admission, Outcome(error="" if secret is not None else "no-such-secret"))
        if secret is None:
            self._refuse(rule, "no secret of this name is stored", alert=False)
        elif secret.destinations and not secret.bound_to(route.host, route.port):
            self._refuse(rule, "the stored secret is bound to other destinations")
        elif not _maskable(secret.value):
            self._refuse(rule, "the stored secret is too short or has control characters", alert=False)
        else:
            self.values[name] = secret.value
            parts.known_secrets[name] = secret.value
            self.masker = Masker({**self.known, **self.values})

    def _refuse(self, rule: str, reason: str, *, alert: bool = True, advice: str = _BOUND) -> None:
        decision = self.parts.refusal(rule, reason, advice)
        if alert:
            self.parts.flows.note("alert", self.flow, rule=rule, reason=reason)
        denied(self.parts, self.flow, decision, "secret")
        raise DeniedError(decision)

    async def learn(self, data: bytes, *, place: str = "body", filled: bool = True) -> None:
        """Resolve every placeholder in a piece of a body or message. Raises DeniedError, also for those that nothing will fill.

        `filled`: placeholders are put in there; not in packed bodies and binary messages.
        """
        names, odd = names_in(data), await self._spelt(data)
        for name in dict.fromkeys((*names, *odd)):
            await self.need(name, place)
        for name in odd if filled else (*names, *odd):
            reason = "a placeholder is packed or spelt so that nothing fills it"
            self._refuse(f"secrets.{name}", reason, alert=False, advice=_AS_IT_IS)

    async def _spelt(self, data: bytes) -> list[str]:
        if not self.parts.rules.secret_names():
            return []
        return names_spelt(data) if len(data) < LOOKED_INLINE_BYTES_MAX else await asyncio.to_thread(names_spelt, data)


async def resolve_secrets(
    parts: Parts,
    flow: Flow,
    route: Route,
    target: str,
    fields: list[tuple[str, str]],
    body: bytes | None,
    *,
    scheme: str,
    packed: bool = False,
) -> Resolved:
    """Resolve the placeholders of a request: target, fields, and the body if it was read whole. Raises DeniedError.

    `packed`: the body is sent in a content coding, and nothing is filled into it. Over plain `http` a secret goes only to this
    machine and to private networks.
    """
    known = await _known(parts, route)
    resolved = Resolved(
        parts, flow, route, known=known, masker=Masker(known) if known else None, clear=scheme == "http"
    )
    in_path, in_query = names_in_target(target)
    for place, names in (("path", in_path), ("query", in_query)):
        for name in names:
            await resolved.need(name, place)
    for key, value in fields:
        plain, basic = names_in_field(key, value)
        for place, names in (("header", plain), ("basic", basic)):
            for name in names:
                await resolved.need(name, place)
    if body:
        await resolved.learn(body, filled=not packed)
    elif body is None:
        resolved.body_possible = parts.secrets is not None and parts.rules.secrets_in_bodies(route.host, route.port)
    return resolved


async def _known(parts: Parts, route: Route) -> dict[str, str]:
    """Return the values of the secrets that may go to a destination, asked for or not; what cannot be read was never put in."""
    known: dict[str, str] = {}
    store = parts.secrets
    if store is None:
        return known
    for name in parts.rules.secret_names():
        if not parts.rules.secret_places(name, route.host, route.port):
            continue
        if name not in parts.known_secrets:
            try:
                secret = await store.get(name)
            except EffectError:
                secret = None
            parts.known_secrets[name] = secret.value if secret is not None and _maskable(secret.value) else ""
        if value := parts.known_secrets[name]:
            known[name] = value
    return known


def _maskable(value: str) -> bool:
    return len(value) >= SECRET_BYTES_MIN and value.isprintable()
