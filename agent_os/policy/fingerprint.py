"""What an answer that outlives a policy revision is bound to: the sections of the rules that asked, as written. Pure.

Threat: a standing answer that goes on covering an ask after the rule behind it was changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from agent_os.core.canonical import json_bytes
from agent_os.policy.policy import Policy

_FINGERPRINTS_KEPT: Final = 64


@lru_cache(_FINGERPRINTS_KEPT)
def fingerprint(policy: Policy, rules: tuple[str, ...]) -> str:
    """Return what an answer that outlives a revision is bound to: the sections of the rules that asked, as written.

    The `approvals` and `data` of every file belong to it. A rule that stands in no section of its own (an external
    engine's) binds to the whole policy.
    """
    parts: list[Any] = []
    for rule in sorted(set(rules)):
        origin = policy.origins.get(rule)
        key = "" if origin is None else origin.path.partition(".")[0].partition("[")[0]
        units = [] if origin is None else [u for u in policy.layers[origin.layer].units if u.pack == origin.pack]
        sections = [unit.file.model_dump(mode="json", include={key}) for unit in units]
        if not key or key == "rego" or not any(section.get(key) for section in sections):
            parts.append([rule, policy.digest])
            continue
        data = [sorted((name, repr(value)) for name, value in unit.data.items()) for unit in units]
        parts.append([rule, sections, data])
    for layer in policy.layers:
        parts.append([unit.file.model_dump(mode="json", include={"approvals"}) for unit in layer.units])
    form = hashlib.sha256(json_bytes(_texts(parts))).hexdigest()
    return f"rules:sha256:{form}"


def _texts(value: Any) -> Any:
    """Return a value as JSON that every canonicaliser takes: what is no plain JSON is written as text."""
    if isinstance(value, Mapping):
        return {str(key): _texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_texts(item) for item in value]
    return value if value is None or isinstance(value, bool | str) else repr(value)
