"""Where the policy packs and tool packs lie: beside the package in a wheel, at the root of a checkout."""

from __future__ import annotations

from pathlib import Path

from agent_os.core.errors import EffectError

_PACKAGE = Path(__file__).resolve().parents[1]


def data_dir(name: str) -> Path:
    """Return the folder `policies` or `tools` as shipped. Raises EffectError when the installation lacks it."""
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise EffectError(f"the installation lacks its folder {name!r}: reinstall agent-os-runtime")
