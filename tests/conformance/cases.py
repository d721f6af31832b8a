"""How each kind of conformance case is put to the project: one function a file, through the public ways in.

An answer `agrees`, is `listed` (does not agree, for a stated reason) or `disagrees`. What the project answers never
depends on what a case expects; reasons are given by kind, so that they hold for cases not seen here too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_os.core import canonical
from agent_os.core.action import Action
from agent_os.core.canonical import addresses
from agent_os.core.errors import ActionError, PolicyError
from agent_os.guards import egress
from agent_os.policy import Policy, decide
from agent_os.policy.network import check_network
from agent_os.policy.network.addresses import forbidden
from agent_os.policy.network.globs import GlobError
from agent_os.policy.network.hosts import host_matches, hosts_overlap

Case = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """One case answered. `state`: agrees, listed, disagrees; in strict runs also stricter and exempt."""

    id: str
    state: str
    detail: str = ""


def load(folder: Path, name: str) -> list[Case]:
    """Return the cases of a file, or none when there is no such file."""
    path = folder / name
    return json.loads(path.read_text()) if path.exists() else []


def _compare(case: Case, got: Any, detail: str = "") -> Answer:
    if got == case["expect"]:
        return Answer(case["id"], "agrees")
    return Answer(case["id"], "disagrees", f"expected {_short(case['expect'])}, got {_short(got)} {detail}".rstrip())


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 160 else text[:159] + "…"


# ---- decisions -------------------------------------------------------------------------------------------------------


def _decide(case: Case, semantics: str) -> tuple[str, str, tuple[str, ...]]:
    kind = "net.request" if case["layer"].startswith("l7") else "net.connect"
    wire = {"kind": kind, **case["request"]}
    if "runtime" in case:
        wire["runtime"] = case["runtime"]
    try:
        decision = decide(Policy.parse(case["policy"], semantics=semantics), Action.parse(wire))
    except ActionError as error:
        return "deny", f"action: {error}", ()
    except PolicyError as error:
        return "deny", f"policy: {error}", ()
    return decision.verdict.value, f"{decision.reason}; {decision.advice}", decision.rules


def _expected(case: Case) -> str:
    """What the reference does end to end: a violation that is only audited flows."""
    if "expect_end_to_end" in case:
        return str(case["expect_end_to_end"])
    return "allow" if case.get("audit_violation") else str(case["expect"])


def decisions(case: Case) -> Answer:
    """Judge a case under openshell semantics."""
    verdict, detail, rules = _decide(case, "openshell")
    expected = _expected(case)
    if verdict != expected:
        if detail.startswith("policy: ") and expected == "allow":
            return Answer(case["id"], "listed", f"the reference's own validators refuse this policy too ({detail})")
        return Answer(case["id"], "disagrees", f"expected {expected}, got {verdict} ({detail})")
    wanted = case.get("expect_reason_contains", "")
    refused = detail.startswith(("policy: ", "action: "))
    if verdict == "deny" and wanted and wanted not in detail and not refused:
        return Answer(case["id"], "disagrees", f"reason lacks {wanted!r}: {detail}")
    policy = case.get("expect_matched_policy")
    if policy and not any(f"network_policies.{policy}." in rule for rule in rules):
        return Answer(case["id"], "disagrees", f"matched {rules}, not {policy}")
    return Answer(case["id"], "agrees")


def strictness(case: Case) -> Answer:
    """Judge a case under strict semantics: never more open, but for the classes the design exempts."""
    verdict, detail, _ = _decide(case, "strict")
    expected = _expected(case)
    if verdict == expected:
        return Answer(case["id"], "agrees")
    if verdict != "allow":
        return Answer(case["id"], "stricter", detail)
    why = _exemption(case)
    return Answer(case["id"], "exempt" if why else "disagrees", why or f"more open: {detail}")


def _exemption(case: Case) -> str:
    request = case["request"]
    if "binaries" not in case["policy"]:
        return "absent binaries: any program in the sandbox"
    if "arguments" in case["policy"]:
        return "MCP arguments are matched"
    values = [value for values in request.get("query", {}).values() for value in values]
    values += [str(value) for value in (request.get("jsonrpc") or {}).values() if isinstance(value, str)]
    values += [str(value) for value in ((request.get("jsonrpc") or {}).get("params") or {}).values()]
    for operation in (request.get("graphql") or {}).get("operations", ()):
        values += [*operation.get("fields", ()), operation.get("operation_name") or ""]
    return "a dotted value in an allow glob" if any("." in value for value in values) else ""


# ---- files -----------------------------------------------------------------------------------------------------------


def _validate(text: str, semantics: str = "openshell") -> tuple[str, list[str], list[str]]:
    """Return (accept | accept_with_warning | reject, errors, everything found)."""
    try:
        policy = Policy.parse(text, semantics=semantics)
    except PolicyError as error:
        problems = [str(problem) for problem in error.problems]
        return "reject", problems, problems
    file = policy.document
    findings = check_network(file.network_policies, file.network_middlewares, semantics=semantics)
    texts = [f"{item.path}: {item.message}" for item in findings]
    refusing = [text for text, item in zip(texts, findings, strict=True) if item.severity in ("error", "conflict")]
    if refusing:
        return "reject", refusing, texts
    return ("accept_with_warning" if findings else "accept"), [], texts


def validation(case: Case) -> Answer:
    """Check a policy file under openshell semantics."""
    verdict, errors, texts = _validate(case["policy"])
    expected = case["expect"]
    if expected == "accept_unless_other":
        return Answer(case["id"], "agrees", f"{verdict}: {_short(texts)}")
    if verdict == expected:
        return Answer(case["id"], "agrees")
    note = case.get("note", "")
    asserts_one = "only find_endpoint_ambiguities" in note or "errors not asserted" in note
    conflict = case.get("stage") == "ambiguity" and any("conflicting" in error for error in errors)
    if verdict == "reject" and asserts_one and not conflict:
        return Answer(case["id"], "listed", f"the test asserts one diagnostic only; refused for: {_short(errors)}")
    return Answer(case["id"], "disagrees", f"expected {expected}, got {verdict}: {_short(texts)}")


def policies(folder: Path) -> Iterator[Answer]:
    """Load every real policy and preset, under both semantics."""
    for path in sorted((folder / "policies").glob("*")):
        text = path.read_text()
        if "${" in text:
            yield Answer(path.name, "listed", "a template with variables, no policy")
            continue
        if "\nid:" in f"\n{text}":
            yield Answer(path.name, "listed", "a provider profile, no policy")
            continue
        for semantics in ("openshell", "strict"):
            verdict, errors, _ = _validate(text, semantics)
            state = "disagrees" if verdict == "reject" else "agrees"
            yield Answer(f"{path.name} ({semantics})", state, _short(errors) if errors else "")


# ---- predicates and readers ------------------------------------------------------------------------------------------


def _net(predicate: Callable[[addresses.Network], bool]) -> Callable[[str], bool]:
    def judge(value: str) -> bool:
        network = addresses.parse_net(value)
        if network is None:
            raise ActionError("is no network")
        return predicate(network)

    return judge


PREDICATES: dict[str, Callable[[str], bool]] = {
    "is_link_local_ip": addresses.is_link_local_ip,
    "is_always_blocked_ip": lambda value: forbidden(value, strict=False),
    "is_always_blocked_net": _net(addresses.overlaps_own),
    "is_internal_ip": addresses.is_internal_ip,
    "is_internal_net": _net(addresses.overlaps_internal),
    "is_cloud_metadata_ip": addresses.is_metadata_ip,
    "is_known_metadata_hostname": addresses.is_metadata_host,
    "is_host_gateway_alias": addresses.is_gateway_alias,
}


def ip(case: Case) -> Answer:
    """Ask a predicate over an address, a network or a name."""
    predicate = PREDICATES.get(case["predicate"])
    if predicate is None:
        return Answer(case["id"], "disagrees", f"unknown predicate {case['predicate']}")
    try:
        return _compare(case, predicate(case["value"]), f"for {case['predicate']} {case['value']}")
    except ActionError as error:
        return _compare(case, "error", str(error))


def host_pattern(case: Case) -> Answer:
    """Match a host against a pattern, or ask whether two patterns overlap."""
    operation = {"match": host_matches, "overlap": hosts_overlap}[case["op"]]
    try:
        got: Any = operation(case["pattern"], case["host"])
    except GlobError:
        got = "error"
    return _compare(case, got, f"for {case['pattern']!r} and {case['host']!r}")


def path(case: Case) -> Answer:
    """Canonicalise a request target."""
    options = case.get("options") or {}
    try:
        got = canonical.request_target(
            case["target"], allow_encoded_slash=bool(options.get("allow_encoded_slash"))
        ).path
    except ActionError:
        got = "reject"
    if options.get("strip_path_parameters") is False and got != case["expect"]:
        return Answer(case["id"], "listed", "path parameters are always dropped here: servers disagree about them")
    return _compare(case, got, f"for {case['target']!r}")


def framing(case: Case) -> Answer:
    """Read a request head off the wire."""
    try:
        parts = egress.split_head(case["raw_latin1"].encode("latin-1"))
        if parts is None:
            raise egress.HttpError("head has no end")
        egress.parse_request(parts[0])
        got, detail = "accept", ""
    except egress.HttpError as error:
        got, detail = "reject", str(error)
    return _compare(case, got, detail)


def misc(case: Case) -> Answer:
    """Read queries, JSON-RPC, MCP and GraphQL; detect inference APIs; fill placeholders; redact keys."""
    reader = MISC.get(case["kind"])
    if reader is None:
        return Answer(case["id"], "disagrees", f"unknown kind {case['kind']}")
    got = reader(case)
    expected = case["expect"]
    if isinstance(expected, dict) and isinstance(got, dict):
        got = {key: got.get(key) for key in expected}
    return _compare(case, got)


def _inference(case: Case) -> Any:
    found = egress.detect_inference(case["method"], case["path"])
    return found.protocol if found else None


def _query(case: Case) -> Any:
    try:
        target = canonical.request_target(case["target"], allow_encoded_slash=True)
        return {"path": target.path, "query": canonical.parse_query(target.query or "")}
    except ActionError:
        return "reject"


def _jsonrpc(case: Case) -> Any:
    named = case.get("strict_tool_names", (case.get("options") or {}).get("mcp_strict_tool_names", True))
    try:
        parsed = egress.parse_messages(case["body"], mcp=case["mode"] == "mcp", strict_tool_names=named is not False)
    except egress.BodyError:
        return "reject"
    messages = parsed if isinstance(parsed, list) else [parsed]
    calls = [message for message in messages if message["method"] is not None]
    tools = [message["params"].get("name") for message in calls if message["method"] == "tools/call"]
    return {
        "methods": [message["method"] for message in calls],
        "tool": tools[0] if tools else None,
        "tools": tools,
        "params": {"name": tools[0]} if tools else {},
        "is_batch": isinstance(parsed, list),
        "has_response": any(message.get("has_response") for message in messages),
        "receive_stream": False,
        "error": None,
    }


def _graphql(case: Case) -> Any:
    try:
        target = canonical.request_target(case["target"], allow_encoded_slash=True)
        info = egress.classify(case["method"], canonical.parse_query(target.query or ""), case.get("body") or "")
    except ActionError:
        return "reject"
    if info.get("error"):
        return "reject"
    return {"operations": info["operations"], **info["operations"][0]}


def _credentials(case: Case) -> Any:
    fill = {"header_line": egress.fill_header, "request_target": egress.fill_target}.get(
        case["where"], egress.fill_text
    )
    try:
        return fill(case["input"], case["provider_env"])
    except egress.PlaceholderError:
        return "fail_closed"


MISC: dict[str, Callable[[Case], Any]] = {
    "inference_pattern": _inference,
    "query_parse": _query,
    "jsonrpc_parse": _jsonrpc,
    "graphql_classify": _graphql,
    "credential_rewrite": _credentials,
    "redact": lambda case: egress.redact_keys(case["input"]),
}
FILES: dict[str, Callable[[Case], Answer]] = {
    "cases.json": decisions,
    "validation_cases.json": validation,
    "path_cases.json": path,
    "http_framing_cases.json": framing,
    "ip_cases.json": ip,
    "host_pattern_cases.json": host_pattern,
    "misc_cases.json": misc,
}


def answers(folder: Path, name: str, *, strict: bool = False) -> list[Answer]:
    """Return the answers to every case of a file; a case that raises disagrees."""
    judge = strictness if strict else FILES[name]
    result = []
    for case in load(folder, name):
        try:
            result.append(judge(case))
        except Exception as error:  # a crash is an answer too: the wrong one
            result.append(Answer(str(case.get("id", "?")), "disagrees", f"raised {type(error).__name__}: {error}"))
    return result
