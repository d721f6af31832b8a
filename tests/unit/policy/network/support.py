"""Small policies and questions for tests of the network section."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import TypeAdapter

from agent_os.core.action import Action
from agent_os.core.decision import Verdict
from agent_os.core.facts import Facts
from agent_os.policy.network import NetworkSection, compile_network
from agent_os.policy.rule import Match
from agent_os.policy.schema.network import NetworkPolicies

CURL = "/usr/bin/curl"
_adapter: TypeAdapter[Any] = TypeAdapter(NetworkPolicies)


def section(text: str, semantics: str = "strict") -> NetworkSection:
    """Compile the YAML of a `network_policies` mapping."""
    return compile_network(_adapter.validate_python(yaml.safe_load(text)), semantics=semantics)


def one(endpoint: str, semantics: str = "strict", binaries: str = f"[{{path: {CURL}}}]") -> NetworkSection:
    """Compile a single endpoint, given as a YAML flow mapping, for curl."""
    return section(f"p:\n  endpoints:\n    - {endpoint}\n  binaries: {binaries}\n", semantics)


def ask(compiled: NetworkSection, **wire: Any) -> str:
    """Return the verdict a section alone gives: `allow`, `deny`, or `audit` for a violation that flows."""
    wire.setdefault("kind", "net.request" if "method" in wire else "net.connect")
    wire.setdefault("binary", CURL)
    action = Action.parse(wire)
    return verdict(compiled.judge(action, Facts.defaults().with_stated(action.stated)))


def verdict(matches: Any) -> str:
    """Compose the matches of one section by the laws."""
    found: list[Match] = list(matches)
    if any(match.effect is Verdict.DENY and not match.audit_only for match in found):
        return "deny"
    if not any(match.effect is Verdict.ALLOW for match in found):
        return "deny"
    return "audit" if any(match.audit_only for match in found) else "allow"
