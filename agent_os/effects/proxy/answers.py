"""Answers an agent can read: structured denials (RFC 9457) and `policy.local`. Pure: values in, bytes out.

A denial names rules and fields and says what would be allowed, never a value of the request. Agents that can read
why, and whom to ask, stop looking for ways around.
"""

from __future__ import annotations

import http
import json
from collections.abc import Mapping
from typing import Any, Final

from agent_os.core.decision import Decision

POLICY_HOST: Final = "policy.local"


def phrase(status: int) -> str:
    """Return the reason phrase of a status; an upstream's own words are not passed on."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Status"


def respond(
    status: int,
    body: Mapping[str, Any] | bytes,
    *,
    content_type: str = "application/json",
    close: bool = True,
    extra: str = "",
    head_only: bool = False,
) -> bytes:
    """Return a whole response."""
    content = body if isinstance(body, bytes) else json.dumps(body, indent=1).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status} {phrase(status)}\r\ncontent-type: {content_type}\r\n"
        f"content-length: {len(content)}\r\ncache-control: no-store\r\nx-agentos-guard: egress\r\n{extra}"
        f"connection: {'close' if close else 'keep-alive'}\r\n\r\n"
    ).encode("latin-1")
    return head if head_only else head + content


def problem(status: int, title: str, detail: str, *, close: bool = True, head_only: bool = False, **more: Any) -> bytes:
    """Return an `application/problem+json` response of the guard's own."""
    body = {"type": f"https://agentos.invalid/problems/{title.replace(' ', '-')}", "title": title, "status": status,
            "detail": detail, **more}  # fmt: skip
    return respond(status, body, content_type="application/problem+json", close=close, head_only=head_only)


def denial(decision: Decision, *, host: str, port: int, close: bool = True, head_only: bool = False) -> bytes:
    """Return the 403 of a denied connection or request."""
    more: dict[str, Any] = {
        "rules": list(decision.rules),
        "destination": f"{host}:{port}",
        "policy": decision.policy_digest,
    }
    if decision.advice:
        more["allowed_instead"] = decision.advice
    more["what_next"] = (
        f"http://{POLICY_HOST}/ lists what may be reached. Do not look for another way out: every way is guarded. "
        "If the task needs this, say so to the person you work for; they can approve it or change the policy."
    )
    return problem(
        403, "denied by policy", decision.reason or "no rule allows this", close=close, head_only=head_only, **more
    )
