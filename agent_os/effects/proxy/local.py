"""`policy.local`: what an agent may reach, answered by the guard itself. No lookup, no upstream, no secret."""

from __future__ import annotations

from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.action import NetConnect
from agent_os.core.errors import ActionError
from agent_os.core.facts import DEFAULTS
from agent_os.effects.proxy import answers
from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.http1 import Head, HttpError
from agent_os.effects.proxy.parts import Parts

_ASSUMED: Final = DEFAULTS.resolved_ips
"""Nothing is looked up for a question: the answer takes the name to lead where it may."""


async def serve_local(parts: Parts, flow: Flow, head: Head) -> bool:
    """Answer one request; return whether the connection goes on."""
    flow.mode, flow.host, flow.verdict = "policy.local", answers.POLICY_HOST, "allow"
    keep = head.keep_alive and head.length == 0
    if head.method not in ("GET", "HEAD"):
        raise HttpError("policy.local answers GET")
    try:
        if canonical.split_authority(head.get("host"))[0] != answers.POLICY_HOST:
            raise HttpError("this door answers for policy.local only", 421)
        target = canonical.request_target(head.target)
        query = canonical.parse_query(target.query or "")
    except ActionError as error:
        raise HttpError(str(error)) from None
    only_head = head.method == "HEAD"
    if target.path == "/ca.pem":
        pem = parts.authority.certificate_path.read_bytes()
        content_type = "application/x-pem-file"
        flow.client.write(answers.respond(200, pem, content_type=content_type, close=not keep, head_only=only_head))
    elif target.path == "/":
        flow.client.write(answers.respond(200, _overview(parts, flow), close=not keep, head_only=only_head))
    elif target.path == "/may":
        answer = await _may(parts, flow, query)
        flow.client.write(answers.respond(200, answer, close=not keep, head_only=only_head))
    else:
        flow.client.write(
            answers.problem(404, "not found", "try / or /may?host=NAME&port=443 or /ca.pem", close=not keep)
        )
    return keep


def _overview(parts: Parts, flow: Flow) -> dict[str, Any]:
    executable = flow.peer.executable if flow.peer is not None else None
    return {
        "policy": parts.rules.digest,
        "you": {"agent": flow.principal.agent, "program": executable.path if executable else None},
        "reachable": [dict(entry) for entry in parts.rules.reachable()],
        "ask": f"http://{answers.POLICY_HOST}/may?host=NAME&port=443",
        "mode": "observe" if parts.observe else "enforce",
    }


async def _may(parts: Parts, flow: Flow, query: dict[str, list[str]]) -> dict[str, Any]:
    try:
        host = canonical.host(query.get("host", [""])[0])
        port = int(query.get("port", ["443"])[0])
        action = NetConnect(principal=flow.principal, host=host, port=port)
    except (ActionError, ValueError):
        raise HttpError("give host and port") from None
    executable = flow.peer.executable if flow.peer is not None else None
    decision = await parts.door.consider(action, stated={"executable": executable, "resolved_ips": _ASSUMED})
    return {"host": host, "port": port, **decision.to_json(), "addresses": "not looked up"}
