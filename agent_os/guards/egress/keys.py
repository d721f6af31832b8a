"""The built-in `openshell/regex` middleware: API keys in texts that leave. Pure.

It knows exactly what the reference knows (`sk-` keys of sixteen characters and more) and nothing else, so that a policy
that asks for it means the same here; the `privacy` section finds far more.
"""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "[REDACTED]"
_KEY: Final = re.compile(r"sk-[A-Za-z0-9_-]{16,}")


def redact_keys(text: str) -> str:
    """Return a text with every key replaced by a mark."""
    return _KEY.sub(REDACTED, text)
