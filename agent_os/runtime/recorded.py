"""Recorded actions for `policy diff` and `policy learn`: from test files, traces, action lines and the audit.

The audit alone holds names, not arguments; with the encrypted payload store (policy `audit: {payloads: encrypted}`) an
action is whole. What cannot be made whole is handed on as not evaluable, with why; nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import ActionError, EffectError
from agent_os.core.facts import DEFAULTS
from agent_os.policy.workbench.facts import parse_facts
from agent_os.policy.workbench.learn import Seen
from agent_os.policy.workbench.testing import expand, parse_tests
from agent_os.runtime.policy_files import read_policy_text
from agent_os.runtime.state import state_directory
from agent_os.runtime.workbench import lines_of, test_files, traces_of

NO_PAYLOAD: Final = "arguments were not recorded (policy: audit.payloads)"


def from_actions(path: str, standard_input: Any) -> Iterator[Seen]:
    """Yield the actions of a JSONL file in their wire form, with `id` as evidence and `facts` beside them."""
    for number, line in enumerate(lines_of(path, standard_input), 1):
        if not line.strip():
            continue
        evidence = f"{path}:{number}"
        try:
            wire = dict(json.loads(line))
            facts = parse_facts(wire.pop("facts", {}) or {}, DEFAULTS)
        except (ValueError, TypeError, RecursionError, ActionError):
            yield Seen(None, evidence, "a line that is no action")
            continue
        name = wire.pop("id", None)
        yield Seen(wire, str(name) if name is not None else evidence, facts=facts)


def observed_file() -> Path:
    """Return the file of what `agentos run --observe` let pass here. Raises EffectError when nothing was observed."""
    path = state_directory() / "flows" / "observed.jsonl"
    if not path.is_file():
        raise EffectError("nothing was observed on this machine yet: agentos run --observe -- CMD ARG...")
    return path


def from_traces(path: str, standard_input: Any) -> Iterator[Seen]:
    """Yield the tool calls of recorded traces."""
    for trace in traces_of(path, standard_input):
        calls = trace.get("calls") if isinstance(trace, Mapping) else None
        for number, call in enumerate(calls if isinstance(calls, list) else (), 1):
            evidence = f"{trace.get('id')} call {number}"
            if not isinstance(call, Mapping) or call.get("not_evaluable") or not isinstance(call.get("tool"), str):
                yield Seen(None, evidence, NO_PAYLOAD)
                continue
            wire: dict[str, Any] = {"kind": "tool.call", "tool": call["tool"], "args": call.get("args") or {}}
            if call.get("server"):
                wire["server"] = call["server"]
            if isinstance(trace.get("principal"), Mapping):
                wire["principal"] = dict(trace["principal"])
            yield Seen(wire, evidence)


def from_tests(paths: Sequence[str]) -> Iterator[Seen]:
    """Yield the actions of policy tests."""
    for path in test_files(paths):
        tests, _ = parse_tests(read_policy_text(path), file=str(path))
        for case in tests.tests:
            for name, wire, facts in expand(case):
                try:
                    yield Seen(wire, f"{path.name}: {name}", facts=parse_facts(facts, DEFAULTS))
                except ActionError:
                    yield Seen(None, name, "a test with malformed facts")


def from_audit(root: str | None, *, kinds: frozenset[str]) -> Iterator[Seen]:
    """Yield the actions of an audit whose record is one of `kinds` (intent, denied, asked).

    Records of a trial (`audit_only`) count as denied. Raises EffectError when there is no audit.
    """
    from agent_os.runtime.audit import open_audit  # noqa: PLC0415

    reader = open_audit(Path(root) if root else None)
    payloads = reader.payloads()
    for record in reader.records():
        kind = "denied" if record.get("audit_only") else record.get("type")
        said = record.get("action")
        if kind not in kinds or not isinstance(said, Mapping):
            continue
        reference = str(record.get("ref", ""))
        stored = payloads.look_up(reference) if payloads is not None else None
        wire = stored.get("action") if stored is not None else None
        wire = dict(wire) if isinstance(wire, Mapping) else _from_names(said)
        if wire is not None:
            wire.pop("schema", None)
        yield Seen(wire, reference, "" if wire is not None else NO_PAYLOAD, replace(DEFAULTS))


def _from_names(said: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an action that the names in a record tell whole, or None."""
    kind = said.get("kind")
    if isinstance(kind, str) and kind.startswith("fs.") and isinstance(said.get("path"), str):
        return {"kind": kind, "path": said["path"]}
    if kind == "net.connect":
        return {"kind": kind, "host": said.get("host"), "port": said.get("port")}
    if kind == "tool.call" and said.get("arguments") == []:
        return {"kind": kind, "tool": said.get("tool"), "args": {}}
    if kind == "process.exec" and said.get("arguments") == 0:
        return {"kind": kind, "argv": [said.get("program")]}
    return None
