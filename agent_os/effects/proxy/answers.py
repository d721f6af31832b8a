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
_NUMBERS_ONLY: Final = ("curl/", "git/", "cargo ", "cargo/", "uv/", "reqwest/", "rustup/")
PHRASE_CHARS_MAX: Final = 160
"""Characters of a reason in a status line; of a longer one the end is left out."""


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
    words: str = "",
) -> bytes:
    """Return a whole response; `words` is the reason phrase, where not the status's own."""
    content = body if isinstance(body, bytes) else json.dumps(body, indent=1).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status} {words or phrase(status)}\r\ncontent-type: {content_type}\r\n"
        f"content-length: {len(content)}\r\ncache-control: no-store\r\nx-agentos-guard: egress\r\n{extra}"
        f"connection: {'close' if close else 'keep-alive'}\r\n\r\n"
    ).encode("latin-1")
    return head if head_only else head + content


def problem(
    status: int, title: str, detail: str, *, close: bool = True, head_only: bool = False, words: str = "", **more: Any
) -> bytes:
    """Return an `application/problem+json` response of the guard's own."""
    body = {"type": f"https://agentos.invalid/problems/{title.replace(' ', '-')}", "title": title, "status": status,
            "detail": detail, **more}  # fmt: skip
    kind = "application/problem+json"
    return respond(status, body, content_type=kind, close=close, head_only=head_only, words=words)


def denial(
    decision: Decision, *, host: str, port: int, close: bool = True, head_only: bool = False, agent: str = ""
) -> bytes:
    """Return the 403 of a denied connection or request. `agent` is the client's own User-Agent.

    The reason stands where programs show it to people: in the reason phrase (pip, npm, requests, httpx, node) and, for
    git, as a plain text, of which it prints each line after `remote:`.
    """
    reason = decision.reason or "no rule allows this"
    words = spoken(f"Denied by policy: {reason}")
    if agent.startswith(("git/", "JGit/")):
        text = f"denied by policy: {spoken(reason)}\n"
        text += f"allowed instead: {spoken(decision.advice)}\n" if decision.advice else ""
        body = (text + f"http://{POLICY_HOST}/ lists what may be reached\n").encode()
        return respond(403, body, content_type="text/plain", close=close, head_only=head_only, words=words)
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
    return problem(403, "denied by policy", reason, close=close, head_only=head_only, words=words, **more)


def shows_numbers_only(agent: str) -> bool:
    """Whether a program, by its User-Agent, shows people of an answer to CONNECT the status alone (libcurl and reqwest do)."""
    return agent.startswith(_NUMBERS_ONLY) or "libcurl/" in agent


def spoken(text: str) -> str:
    """Return a text as it may stand in a status line: printable ASCII on one line, bounded."""
    kept = "".join(char if " " <= char <= "~" else "?" for char in text)
    return kept if len(kept) <= PHRASE_CHARS_MAX else kept[: PHRASE_CHARS_MAX - 3] + "..."
