"""What every section of the policy schema is made of: the strict base model, durations, sizes and enforcement.

Strict: `"443"` is no port and `1` is no boolean; an unknown key is an error. Values come from `policy/yaml.py`, which
has typed scalars by the YAML 1.2 core schema. Pure: no clock, no I/O.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|m|h|d|w|y)?")
_SIZE: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?")
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31_536_000}
_BYTES: Final = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


class Part(BaseModel):
    """A strict, frozen piece of a policy file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True, protected_namespaces=())


def parse_duration(value: Any) -> float:
    """Return seconds of `250ms`, `15m`, `1.5h`, `30d` or a plain number of seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a duration such as 250ms, 30s, 15m, 12h, 30d or 2w")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def parse_size(value: Any) -> int:
    """Return bytes of `64KiB`, `10MB` or a plain number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a size such as 4096, 64KiB, 10MB or 1GiB")
    return int(float(found[1]) * _BYTES[found[2] or "B"])


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": _DURATION.pattern}],
            "description": "seconds, or a text such as 250ms, 30s, 15m, 12h, 30d, 2w",
        }
    ),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _SIZE.pattern}],
            "description": "bytes, or a text such as 64KiB, 10MB, 1GiB",
        }
    ),
]
Text = Annotated[str, Field(min_length=1, max_length=4096)]
Enforcement = Literal["enforce", "audit"]
Scalar = str | int | float | bool | None
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class Who(Part):
    """Which principals a rule is for. A mapping is AND, a list inside it is OR; entries are globs."""

    tenant: list[Text] | Text | None = Field(default=None, description="Tenant names or globs.")
    user: list[Text] | Text | None = Field(default=None, description="User ids or globs, for example `*@corp.example`.")
    agent: list[Text] | Text | None = Field(default=None, description="Agent ids or globs; `main` is the root agent.")
    depth: int | None = Field(default=None, ge=0, description="Only agents with at least this many parents.")


class Rate(Part):
    """At most so many calls in a window."""

    calls: Annotated[int, Field(ge=1)] = Field(description="How many calls.")
    window: Duration = Field(description="The window, for example 1m.")
    per: Literal["agent", "session", "user", "tenant"] = Field(default="session", description="Whom it counts for.")
