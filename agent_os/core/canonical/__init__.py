"""The one canonicaliser: two spellings of one thing become one value, or an ActionError. Pure: no clock, no I/O.

Threat: a check that judges one spelling while the effect uses another (`/a/../b`, `0x7f.1`, `EXAMPLE.com.`).
Every name another module uses is exported here; nothing else in the project normalises a path, host, URL or argv.
"""

from agent_os.core.canonical.jsons import json_bytes, json_digest, json_value
from agent_os.core.canonical.net import headers, host, ip, method, query, request_path
from agent_os.core.canonical.paths import path
from agent_os.core.canonical.texts import argv, environment, integer, name, nearest, text

__all__ = [
    "argv", "environment", "headers", "host", "integer", "ip", "json_bytes", "json_digest", "json_value", "method",
    "name", "nearest", "path", "query", "request_path", "text",
]  # fmt: skip
