"""Composition of the privacy router: which detectors stand behind the port, and the pseudonyms of a session.

Nothing here downloads anything: the language model is used if it is installed, and named as missing if a policy asks for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from agent_os.effects.detectors.detector import LocalDetector

if TYPE_CHECKING:
    from agent_os.core.principal import Principal
    from agent_os.guards.privacy.router import SessionRouter
    from agent_os.policy import Policy


def local_detector(*, ner: bool | None = None) -> LocalDetector:
    """Return the detector of this machine.

    `ner`: True demands the language model for names (raises MissingPartError without one), False leaves it out, None uses
    it where it is installed.
    """
    from agent_os.effects.detectors import addresses, names  # noqa: PLC0415
    from agent_os.effects.detectors.ner import KINDS, LanguageModel, installed_model  # noqa: PLC0415

    recognisers: dict[str, tuple[frozenset[str], Any]] = {
        "address": (frozenset({"LOCATION"}), addresses.find_addresses),
        "names": (names.KINDS, names.NameFinder().find),
    }
    wanted = ner or (ner is None and installed_model() is not None)
    return LocalDetector(recognisers, model=(KINDS, LanguageModel().find) if wanted else None)


def detector_for(policy: Policy) -> LocalDetector | None:
    """Return the detector a policy needs, or None where it has no `privacy` section."""
    if not any(True for _ in policy.sections("privacy")):
        return None
    return local_detector()


def router_for(policy: Policy, principal: Principal, *, key: bytes | None = None) -> SessionRouter | None:
    """Return the privacy router of a session, or None where the policy has no `privacy` section.

    `key` is the tenant's pseudonym key; without one the session draws its own and its pseudonyms end with it.
    """
    from agent_os.guards.privacy.pseudonyms import PseudonymBook  # noqa: PLC0415
    from agent_os.guards.privacy.router import SessionRouter  # noqa: PLC0415

    sections = [section for section, _, _ in policy.sections("privacy")]
    if not sections:
        return None
    settings = next((item for item in sections if not isinstance(item, (list, tuple))), None)
    width = settings.scope if settings is not None else "session"
    realistic = settings is not None and settings.pseudonyms == "realistic"
    scope = {
        "session": f"{principal.tenant}/{principal.user}/{principal.session}",
        "user": f"{principal.tenant}/{principal.user}",
        "tenant": principal.tenant,
    }[width]
    book = PseudonymBook(key or os.urandom(32), scope=scope, realistic=realistic)
    return SessionRouter(book, local=local_model(policy))


def local_model(policy: Policy) -> tuple[str, str] | None:
    """Return (provider, model) of the first provider of the policy that keeps data on this machine."""
    from agent_os.policy.privacy import LOCAL, provider_place  # noqa: PLC0415

    for section, _, _ in policy.sections("models"):
        for name, provider in section.providers.items():
            model: Any = provider.model or next(iter(provider.models), None)
            if model and provider_place(provider) == LOCAL:
                return name, str(model)
    return None
