"""Policies as they are named: a file, `pack:NAME`, the installed bundle, or several of them as layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent_os.core.errors import PolicyError, Problem
from agent_os.policy import Policy
from agent_os.runtime.policy_files import load_file


def load_policy(source: str | Path | Sequence[str | Path], *, semantics: str | None = None) -> Policy:
    """Return the policy of a file, of `pack:NAME`, of `installed:` (bundles), or of several as layers (each must allow).

    Raises PolicyError with file, line, column and a hint.
    """
    if isinstance(source, (str, Path)):
        return _load_one(source, semantics)
    layers = [_load_one(each, semantics) for each in source]
    if not layers:
        raise PolicyError("no policy file is named")
    return layers[0] if len(layers) == 1 else Policy.layered(layers)


def policy_names(source: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """Return what `load_policy` takes, in a form that means the same from any folder and in any process."""
    each = [source] if isinstance(source, (str, Path)) else list(source)
    return tuple(
        name
        if isinstance(name, str) and (name.startswith("pack:") or name == "installed:")
        else str(Path(name).resolve())
        for name in each
    )


def _load_one(source: str | Path, semantics: str | None) -> Policy:
    if source != "installed:":
        return load_file(source, semantics=semantics)
    from agent_os.runtime.bundles import current  # noqa: PLC0415 - keys and signatures load with the first bundle

    policy = current()
    if policy is None:
        raise PolicyError(Problem("no policy is installed", hint="agentos policy bundle --install FILE"))
    return policy
