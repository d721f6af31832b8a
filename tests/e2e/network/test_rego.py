"""Rego verdicts at the wire: a module denies and lets pass proxied requests, and is asked again after a reload."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_os.runtime.network import reload_guard
from tests.e2e.network.test_policy import Session, opened, policy
from tests.e2e.network.world import Client

pytest.importorskip("regorus", reason="needs the extra [rego]")

POLICY = """
version: 1
network_policies:
  erp:
    endpoints:
      - {host: erp.test, port: PORT, local: true, protocol: rest, enforcement: enforce, access: full}
      - {host: git.test, port: PORT, local: true}
rego:
  - name: wire
    package: wire
    inline: |
      package wire
      import rego.v1

      allow if input.kind == "net.connect"
      allow if startswith(input.path, "/public/")
      deny contains {"id": "payroll", "reason": "payroll is closed"} if input.path == "/public/payroll"
      deny contains {"id": "shut", "reason": "this host is shut"} if input.host == "SHUT"
"""


def rego(shut: str = "nobody.test") -> str:
    """The policy text; one host is shut by Rego."""
    return POLICY.replace("SHUT", shut).replace("{", "{{").replace("}", "}}").replace("PORT", "{port}")


async def test_a_rego_rule_decides_a_proxied_request(tmp_path: Path) -> None:
    """What the module allows passes over inspected TLS; what it denies, or does not allow, is a readable 403."""
    async with opened(tmp_path, rego()) as session:
        base = f"https://erp.test:{session.upstream.port}"
        assert (await session.curl(f"{base}/public/a"))[1:] == ("hello", "200")
        _, said, code = await session.curl(f"{base}/public/payroll")
        assert (code, json.loads(said)["detail"]) == ("403", "denied by rego:wire/payroll: payroll is closed")
        assert json.loads(said)["rules"] == ["rego:wire/payroll"]
        assert (await session.curl(f"{base}/private"))[2] == "403"
        assert b"payroll" not in session.upstream.text
        assert b"private" not in session.upstream.text
        assert (await _may(session, "erp.test"))["verdict"] == "allow"


async def test_a_rego_rule_that_fails_denies(tmp_path: Path) -> None:
    """A module whose answer has no known shape lets nothing through, connections neither."""
    broken = rego().replace('allow if input.kind == "net.connect"', "allow := 7")
    async with opened(tmp_path, broken) as session:
        status, said, _ = await session.curl(f"https://erp.test:{session.upstream.port}/public/a")
        assert status == 56
        assert "403" in said
        assert session.upstream.connections == 0
        assert (await _may(session, "erp.test"))["verdict"] == "deny"


async def test_after_a_reload_the_new_module_is_asked_and_closes_what_it_denies(tmp_path: Path) -> None:
    """Tunnels that Rego still allows stay open; the one it shuts is closed, and no new one opens."""
    async with opened(tmp_path, rego()) as session:
        port = session.upstream.port
        address = ("127.0.0.1", int(session.url.rsplit(":", 1)[1]))
        kept, gone = await Client.to(address), await Client.to(address)
        assert await kept.connect(f"erp.test:{port}") == 200
        assert await gone.connect(f"git.test:{port}") == 200
        assert await reload_guard(session.guard, session.composition.monitor.policy) == 0
        second = policy(port, rego(shut="git.test"))
        session.composition.reload(second)
        assert await reload_guard(session.guard, second) == 1
        assert await gone.rest() == b""
        again = await Client.to(address)
        assert await again.connect(f"git.test:{port}") == 403
        assert (await session.curl(f"https://erp.test:{port}/public/a"))[2] == "200"
        kept.close()
        again.close()


async def _may(session: Session, host: str) -> dict[str, str]:
    """What `policy.local` says of a host."""
    address = ("127.0.0.1", int(session.url.rsplit(":", 1)[1]))
    client = await Client.to(address)
    target = f"http://policy.local/may?host={host}&port={session.upstream.port}"
    _, _, body = await client.send(f"GET {target} HTTP/1.1\r\nHost: policy.local\r\n\r\n".encode()).answer()
    client.close()
    said: dict[str, str] = json.loads(body)
    return said
