"""Keyed digests: what the audit holds instead of a value. Pure.

HMAC-SHA256 (RFC 2104) under the audit's digest key. Threat: a plain hash of a short value (a name, a path, a card
number) is undone by trying them all; without the key that is not possible, and destroying the key unlinks the log.
Equal values give equal digests under one key, so a log can still be searched for a value by whoever holds the key.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

DIGEST_HEX: Final = 32
"""128 bits: enough that two values of one log never meet."""


def keyed_digest(key_id: str, key: bytes) -> Callable[[str], str]:
    """Return `digest_text`: text -> `hmac:<key id>:<32 hex>`. Lone surrogates are digested as they are."""
    prefix = f"hmac:{key_id}:"

    def digest_text(value: str) -> str:
        data = value.encode("utf-8", "surrogatepass")
        return prefix + hmac.digest(key, data, "sha256").hex()[:DIGEST_HEX]

    return digest_text
