"""The network guard's flow log as an HTTP Archive (HAR 1.2). Pure: rows in, pieces of one JSON document out.

What browsers' developer tools and HAR viewers open. There are no bodies, header fields or queries in it, since the flow log has
none; custom fields (`_...`) say who asked, which rules decided, and which record of the audit holds the request, with the keyed
digest of its path as that record has it. Source: the HAR 1.2 specification (Odvarko), as har-schema 2.0 states it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

Row = Mapping[str, Any]
_COMMENT: Final = (
    "From the flow log of Agent OS: no bodies, header fields or queries. `_audit` names the record of the audit that holds the "
    "request, `_digest` is the keyed digest of its path there."
)
_FAILED: Final = frozenset({"broken-off", "bad-response", "unreachable", "tls", "tls-pin", "upstream-proxy", "rewrite"})


def archive(rows: Iterable[Row], intents: Mapping[str, Row], version: str) -> Iterator[str]:
    """Yield one HAR document; `rows` are of the flow log in its order, `intents` records of the audit by id."""
    log = {"version": "1.2", "creator": {"name": "Agent OS", "version": version}, "comment": _COMMENT, "entries": []}
    head, tail = json.dumps({"log": log}).rsplit("[]", 1)
    yield head + "["
    between = "\n"
    for row in rows:
        if is_entry(row):
            yield between + json.dumps(_entry(row, intents.get(str(row.get("audit")), {})))
            between = ",\n"
    yield "\n]" + tail + "\n"


def is_entry(row: Row) -> bool:
    """Whether a row stands for a request: one that was answered or denied, or a connection that nobody looked into."""
    kind = row.get("type")
    return (kind in ("request", "denied") and bool(row.get("url"))) or (
        kind == "flow" and not row.get("requests") and bool(row.get("host"))
    )


def _entry(row: Row, intent: Row) -> dict[str, Any]:
    milliseconds = max(float(row.get("seconds") or 0.0), 0.0) * 1000
    started = datetime.fromisoformat(str(row["time"])) - timedelta(milliseconds=milliseconds)
    status, up, down = _status(row), int(row.get("bytes_up") or 0), int(row.get("bytes_down") or 0)
    message = {"httpVersion": "HTTP/1.1", "cookies": [], "headers": [], "headersSize": -1}
    entry: dict[str, Any] = {
        "startedDateTime": started.isoformat(timespec="milliseconds"),
        "time": milliseconds,
        "request": {
            **message,
            "method": str(row.get("method") or "CONNECT"),
            "url": str(row.get("url") or f"https://{_authority(row)}/"),
            "queryString": [],
            "bodySize": up or -1,
        },
        "response": {
            **message,
            "status": status,
            "statusText": _phrase(status),
            "content": {"size": down, "mimeType": "x-unknown"},
            "redirectURL": "",
            "bodySize": down or -1,
        },
        "cache": {},
        "timings": {"send": 0, "wait": milliseconds, "receive": 0},
        "connection": str(row.get("flow", "")),
    }
    action = intent.get("action")
    for name, value in (
        ("serverIPAddress", row.get("address")),
        ("comment", row.get("reason") or row.get("error")),
        ("_verdict", row.get("verdict") or ("deny" if row["type"] == "denied" else "allow")),
        ("_rules", row.get("rules") or intent.get("rules")),
        ("_program", row.get("program")),
        ("_agent", row.get("agent")),
        ("_session", row.get("session")),
        ("_audit", row.get("audit")),
        ("_digest", action.get("path") if isinstance(action, Mapping) else ""),
    ):
        if value:
            entry[name] = value
    return entry


def _status(row: Row) -> int:
    if row.get("status"):
        return int(row["status"])
    if row["type"] == "denied" or row.get("verdict") == "deny" or row.get("error") == "denied":
        return int(HTTPStatus.FORBIDDEN)
    return int(HTTPStatus.BAD_GATEWAY if row.get("error") in _FAILED else HTTPStatus.OK)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _authority(row: Row) -> str:
    host, port = str(row.get("host", "")), row.get("port") or 443
    return (f"[{host}]" if ":" in host else host) + ("" if port == 443 else f":{port}")
