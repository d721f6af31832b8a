"""Conformance with the cases of the folder `../shared/conformance/openshell` (not part of this project's tree)."""

from __future__ import annotations

import os
from pathlib import Path


def default_folder() -> Path:
    """Return where the cases are expected: beside the project, or what AGENTOS_CONFORMANCE names."""
    given = os.environ.get("AGENTOS_CONFORMANCE")
    if given:
        return Path(given)
    root = Path(__file__).resolve().parents[2]
    beside = [root.parent / "shared/conformance/openshell", root.parents[1] / "shared/conformance/openshell"]
    return next((folder for folder in beside if folder.is_dir()), beside[0])
