"""Export formats: JSON lines, traces for `policy replay`, OCSF events, CSV. Pure: records in, lines out.

OCSF: events of schema 1.3 (File System Activity 1001, Process Activity 1007, HTTP Activity 4002, Network Activity
4001, API Activity 6003); what has no place there stands under `unmapped`. Traces need the encrypted payload store; a
call whose payload is not there is exported as not evaluable, never guessed. CSV cells that a spreadsheet would run
are quoted.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from agent_os.core.canonical import json_bytes

FORMATS: Final = ("jsonl", "trace", "ocsf", "csv")
COLUMNS: Final = (
    "time", "writer", "seq", "type", "ref", "tenant", "user", "agent", "session", "kind", "target", "verdict", "rules",
    "policy", "ok", "error", "reason",
)  # fmt: skip
NOT_EVALUABLE: Final = "no payload is stored for this call (policy: audit.payloads)"
Payload = Callable[[str], Mapping[str, Any] | None]


def jsonl(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield each record as one line of canonical JSON."""
    for record in records:
        yield json_bytes(record).decode() + "\n"


def target(record: Mapping[str, Any]) -> str:
    """Return what the action of a record was aimed at, as far as the audit says."""
    action = record.get("action")
    if not isinstance(action, Mapping):
        return ""
    if "host" in action:
        return f"{action['host']}:{action.get('port', '')}"
    return next(
        (str(action[key]) for key in ("tool", "path", "model", "program", "name", "target") if key in action), ""
    )


def moment(record: Mapping[str, Any]) -> str:
    """Return the record's time as ISO 8601 in UTC, or an empty string."""
    time = record.get("time")
    if isinstance(time, bool) or not isinstance(time, (int, float)):
        return ""
    try:
        return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return ""


def as_csv(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a header and one row a record."""
    yield _row(COLUMNS)
    for record in records:
        action = record.get("action")
        values = {
            **record,
            "time": moment(record),
            "kind": action.get("kind", "") if isinstance(action, Mapping) else "",
            "target": target(record),
            "rules": " ".join(map(str, record.get("rules", ()))),
        }
        yield _row(_cell(values.get(column, "")) for column in COLUMNS)


def _cell(value: Any) -> str:
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _row(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(list(cells))
    return out.getvalue()


# ---- OCSF ----------------------------------------------------------------------------------------------------------

_CLASSES: Final = {
    "fs.": (1, 1001, "File System Activity"),
    "process.": (1, 1007, "Process Activity"),
    "net.connect": (4, 4001, "Network Activity"),
    "net.request": (4, 4002, "HTTP Activity"),
}
_API: Final = (6, 6003, "API Activity")
_ACTIVITIES: Final = {"fs.write": 3, "fs.read": 2, "fs.list": 2, "fs.delete": 4, "process.exec": 1, "net.connect": 1}
_METHODS: Final = {"CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8}
_OTHER: Final = 99
_MAPPED: Final = frozenset(
    {"type", "time", "tenant", "user", "agent", "session", "verdict", "rules", "policy", "reason"}
)


def ocsf(records: Iterable[Mapping[str, Any]], version: str) -> Iterator[str]:
    """Yield one OCSF event a line; `version` is the product's."""
    for record in records:
        yield json_bytes(ocsf_event(record, version)).decode() + "\n"


def ocsf_event(record: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return the OCSF event of a record."""
    given = record.get("action")
    action: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    kind = str(action.get("kind", ""))
    category, uid, name = next((each for start, each in _CLASSES.items() if kind.startswith(start)), _API)
    activity = _METHODS.get(str(action.get("method", "")), _OTHER) if uid == 4002 else _ACTIVITIES.get(kind, _OTHER)
    denied = record.get("type") == "denied"
    failed = denied or record.get("ok") is False
    time = record.get("time", 0)
    event: dict[str, Any] = {
        "activity_id": activity,
        "category_uid": category,
        "class_uid": uid,
        "class_name": name,
        "type_uid": uid * 100 + activity,
        "time": int(time * 1000) if isinstance(time, (int, float)) else 0,
        "severity_id": 3 if denied else 1,
        "status_id": 2 if failed else 1,
        "action_id": 2 if denied else 1,
        "disposition_id": 2 if denied else 1,
        "metadata": {
            "version": "1.3.0",
            "uid": f"{record.get('writer', '')}/{record.get('seq', '')}",
            "log_name": str(record.get("writer", "")),
            "sequence": record.get("seq", 0),
            "product": {"name": "Agent OS", "vendor_name": "Agent OS", "version": version},
        },
        "unmapped": {key: value for key, value in record.items() if key not in _MAPPED},
    }
    if record.get("type") == "denied" and record.get("reason"):
        event["status_detail"] = record["reason"]
    if "user" in record:
        event["actor"] = {
            "user": {"name": record["user"], "org": {"name": record.get("tenant", "")}},
            "session": {"uid": record.get("session", "")},
            "app_name": record.get("agent", ""),
        }
    if uid == 6003:
        event["api"] = {"operation": kind or str(record.get("type", "")), "service": {"name": target(record)}}
        event["src_endpoint"] = {"name": "local"}
    elif uid == 1001:
        event["file"] = {"path": target(record), "name": target(record).rpartition("/")[2], "type_id": 1}
        event["device"] = {"type_id": 0}
    elif uid == 1007:
        event["process"] = {"file": {"path": target(record), "name": target(record).rpartition("/")[2], "type_id": 1}}
        event["device"] = {"type_id": 0}
    else:
        event["dst_endpoint"] = {"hostname": action.get("host", ""), "port": action.get("port", 0)}
        if uid == 4002:
            event["http_request"] = {"http_method": action.get("method", "")}
    if record.get("rules"):
        event["policy"] = {"uid": record.get("policy", ""), "name": " ".join(map(str, record["rules"]))}
    return event


# ---- traces --------------------------------------------------------------------------------------------------------


def traces(records: Iterable[Mapping[str, Any]], payload: Payload) -> Iterator[str]:
    """Yield one trace a session, as `policy replay` reads it: prompt, principal and tool calls with their results.

    `payload` returns what is stored under a reference: the action under the intent's, its value under `<ref>.out`, the
    prompt under `prompt/<session>`.
    """
    sessions: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in records:
        action = record.get("action")
        if record.get("type") not in ("intent", "denied", "asked") or not isinstance(action, Mapping):
            continue
        if action.get("kind") != "tool.call":
            continue
        key = (str(record.get("tenant", "")), str(record.get("user", "")), str(record.get("session", "")))
        trace = sessions.get(key)
        if trace is None:
            prompt = payload(f"prompt/{key[2]}")
            principal = {name: record[name] for name in ("tenant", "user", "agent", "session") if name in record}
            trace = sessions[key] = {"id": key[2], "prompt": "", "principal": principal, "calls": []}
            if prompt is not None:
                trace["prompt"] = prompt.get("prompt", "")
            else:
                trace["not_evaluable"] = "no prompt is stored for this session (policy: audit.payloads)"
        trace["calls"].append(_call(record, action, payload))
    for trace in sessions.values():
        yield json_bytes(trace).decode() + "\n"


def _call(record: Mapping[str, Any], action: Mapping[str, Any], payload: Payload) -> dict[str, Any]:
    reference = str(record.get("ref", ""))
    call: dict[str, Any] = {"tool": action.get("tool", ""), "ref": reference, "recorded": record.get("verdict", "")}
    before, after = payload(reference), payload(reference + ".out")
    wire = before.get("action") if before is not None else None
    if isinstance(wire, Mapping) and "args" in wire:
        call["args"] = wire["args"]
    else:
        call["not_evaluable"] = NOT_EVALUABLE
    if after is not None:
        call["result"] = after.get("value")
    return call
