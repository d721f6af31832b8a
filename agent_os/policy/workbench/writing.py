"""Policy files as the workbench writes them, for a person to read and merge. Pure.

What stands in them was recorded of agents: names of arguments, paths, hosts, ids of traces. Threats: a line end (YAML knows five)
that lets a comment become a rule, characters that reorder or hide what a person reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def comments(lines: Iterable[str]) -> str:
    """Return lines as a comment each, whatever stands in them."""
    return "".join("# " + "".join(char if char.isprintable() else " " for char in line) + "\n" for line in lines)


def dumped(data: Any) -> str:
    """Return data as YAML; where it holds what does not print, every character beyond ASCII is an escape."""
    import yaml  # noqa: PLC0415

    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    if all(char.isprintable() or char == "\n" for char in text):
        return text
    escaped: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=False, width=100)
    return escaped
