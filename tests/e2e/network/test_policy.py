"""The guard under a real policy file, with the real monitor and its audit as the door."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.principal import Principal
from agent_os.effects.proxy import Limits
from agent_os.policy import Policy
from agent_os.runtime.compose import compose
from agent_os.runtime.network import PolicyRules, open_guard, reload_guard, serve_loopback
from tests.e2e.network.world import TableResolver, TestAuthority, Upstream, response

POLICY = """
version: 1
network_policies:
  erp:
    endpoints:
      - {{host: erp.test, port: {port}, protocol: rest, enforcement: enforce, allowed_ips: [10.9.8.7],
          rules: [{{allow: {{method: GET, path: "/invoices/**"}}}}]}}
      - {{host: git.test, port: {port}, allowed_ips: [10.9.8.7]}}
  mcp:
    endpoints:
      - {{host: mcp.test, port: {port}, protocol: mcp, enforcement: enforce, path: /mcp, allowed_ips: [10.9.8.7],
          rules: [{{allow: {{method: tools/call, tool: search}}}}]}}
secrets:
  ERP_KEY: {{from: env, destinations: [erp.test]}}
"""


def test_treatment_follows_the_policy() -> None:
    """Entries with requests are inspected, opaque ones passed, secrets make their host inspected; others unresolvable."""
    rules = PolicyRules(Policy.parse(POLICY.format(port=443).replace("git.test", "git.test")))
    assert rules.treatment("erp.test", 443).inspect
    assert not rules.treatment("git.test", 443).inspect
    assert rules.treatment("mcp.test", 443).body
    assert rules.resolvable("erp.test")
    assert not rules.resolvable("evil.test")
    assert rules.secret_places("ERP_KEY", "erp.test", 443) == {"header", "basic"}
    assert not rules.secret_places("ERP_KEY", "git.test", 443)
    assert {row["host"] for row in rules.reachable()} == {"erp.test", "git.test", "mcp.test"}
