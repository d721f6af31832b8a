"""The one canonicaliser: two spellings of one thing become one value, or an ActionError. Pure: no clock, no I/O.

Threat: a check that judges one spelling while the effect uses another (`/a/../b`, `0x7f.1`, `EXAMPLE.com.`).
Every name another module uses is exported here; nothing else in the project normalises a path, host, URL or argv.
"""

from agent_os.core.canonical.addresses import ip, ip_classes
from agent_os.core.canonical.hosts import host
from agent_os.core.canonical.jsons import foreign_json, json_bytes, json_digest, json_value
from agent_os.core.canonical.paths import is_magic_link, path
from agent_os.core.canonical.requests import Target, headers, method, parse_query, query, request_path, request_target
from agent_os.core.canonical.texts import argv, environment, integer, name, nearest, text
from agent_os.core.canonical.urls import Url, split_authority, url

__all__ = [
    "Target", "Url", "argv", "environment", "foreign_json", "headers", "host", "integer", "ip", "ip_classes", "is_magic_link",
    "json_bytes", "json_digest", "json_value", "method", "name", "nearest", "parse_query", "path", "query",
    "request_path", "request_target", "split_authority", "text", "url",
]  # fmt: skip
