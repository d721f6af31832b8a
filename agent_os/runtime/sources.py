"""Where the secrets that a policy names come from: environment, files, keyring or the vault, outside every sandbox."""

from __future__ import annotations

from collections.abc import Mapping

from agent_os.effects.secret_store import SecretStores, SecretVault, Source
from agent_os.policy import Policy


def secret_stores(policy: Policy, *, vault: SecretVault | None, environment: Mapping[str, str]) -> SecretStores:
    """Return the secrets a policy names, from the sources it names; the first file of a layer wins."""
    sources: dict[str, Source] = {}
    for section, _layer, _unit in policy.sections("secrets"):
        for name, secret in section.items():
            sources.setdefault(name, Source(secret.from_, secret.key or ""))
    return SecretStores(sources, vault=vault, environment=environment)
