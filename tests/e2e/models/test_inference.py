"""`https://inference.local` through the egress guard: models for what runs behind it, judged and without a key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from agent_os import AgentOS, Policy
from agent_os.effects.proxy import Limits
from agent_os.runtime.network import open_guard, serve_loopback
from tests.e2e.models.providers import openai_reply, provider
from tests.e2e.models.serving import records
from tests.e2e.network.world import Client

POLICY = """
version: 1
models:
  providers: {{p: {{kind: vllm, base_url: "{url}/v1", models: [m], secret: NEAR_KEY}}}}
  max_tokens: 50
"""


async def test_models_are_reached_through_the_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `openai` client behind the guard gets answers and streams; other hosts stay closed; the key stays outside."""
    monkeypatch.setenv("NEAR_KEY", "near-secret-key")
    (tmp_path / "ws").mkdir()
    with provider(lambda asked: openai_reply("from behind the guard", asked)) as near:
        policy = Policy.parse(POLICY.format(url=near.url))
        async with AgentOS.open(
            policy, principal="ana", workspace=tmp_path / "ws", state=tmp_path / "state"
        ) as session:
            guard = await open_guard(policy, session.monitor, state=tmp_path / "state")
            listener, url = await serve_loopback(guard, session.principal)
            try:
                await asyncio.to_thread(_drive, url, str(guard.ca_bundle))
            finally:
                listener.close()
                await guard.stop()
    assert near.asked[0].headers["authorization"] == "Bearer near-secret-key"
    assert near.asked[0].body["max_tokens"] == 50
    kinds = [record["action"]["kind"] for record in records(tmp_path, "intent")]
    assert kinds == ["model.call"] * 3
    assert {record["action"]["kind"] for record in records(tmp_path, "denied")} == {"model.call", "net.connect"}


def _drive(proxy: str, bundle: str) -> None:
    import ssl

    trust = ssl.create_default_context(cafile=bundle)
    with httpx.Client(proxy=proxy, verify=trust, timeout=30) as http:
        client = openai.OpenAI(
            base_url="https://inference.local/v1", api_key="placeholder", http_client=http, max_retries=0
        )
        asked: Any = [{"role": "user", "content": "hi"}]
        for _ in range(2):  # the second on the same connection
            done = client.chat.completions.create(model="m", messages=asked)
            assert done.choices[0].message.content == "from behind the guard"
        stream = client.chat.completions.create(model="m", messages=asked, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert text == "from behind the guard"
        with pytest.raises(openai.PermissionDeniedError, match="denied by policy"):
            client.chat.completions.create(model="other", messages=asked)
        assert [model.id for model in client.models.list()] == ["m"]
        with pytest.raises((httpx.ProxyError, httpx.ConnectError)):
            http.get("https://example.com/")
        assert http.get("https://inference.local/v1/models", headers={"host": "evil.example"}).status_code in (
            400,
            403,
            421,
        )


async def test_without_models_the_name_is_as_closed_as_any(tmp_path: Path) -> None:
    """A policy without models does not open the name."""
    (tmp_path / "ws").mkdir()
    policy = Policy.parse("version: 1\ntools: {}\n")
    async with AgentOS.open(policy, principal="ana", workspace=tmp_path / "ws", state=tmp_path / "state") as session:
        guard = await open_guard(policy, session.monitor, state=tmp_path / "state")
        listener, url = await serve_loopback(guard, session.principal)
        try:

            def refused() -> None:
                with pytest.raises((httpx.ProxyError, httpx.ConnectError)), httpx.Client(proxy=url) as http:
                    http.get("https://inference.local/v1/models")

            await asyncio.to_thread(refused)
        finally:
            listener.close()
            await guard.stop()


async def test_bodies_for_models_are_bounded_in_memory_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ATTACK: many large bodies at once, and one that trickles: refused, and their memory is given back; a small one is served."""
    monkeypatch.setenv("NEAR_KEY", "near-secret-key")
    (tmp_path / "ws").mkdir()
    with provider(lambda asked: openai_reply("fine", asked)) as near:
        policy = Policy.parse(POLICY.format(url=near.url))
        limits = Limits(inspect_bytes_total=3_000_000, whole_seconds=0.5, drain_seconds=0.3)
        async with AgentOS.open(
            policy, principal="ana", workspace=tmp_path / "ws", state=tmp_path / "state"
        ) as session:
            guard = await open_guard(policy, session.monitor, state=tmp_path / "state", limits=limits)
            listener, url = await serve_loopback(guard, session.principal)
            address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
            start = b"POST http://inference.local/v1/chat/completions HTTP/1.1\r\nHost: inference.local\r\n"
            try:
                first, second, small = [await Client.to(address) for _ in range(3)]
                first.send(start + b"Content-Length: 2000000\r\n\r\nx")
                async with asyncio.timeout(5):
                    while guard.parts is None or not guard.parts.inspecting.value:
                        await asyncio.sleep(0.01)
                assert (await second.send(start + b"Content-Length: 2000000\r\n\r\n").answer())[0] == 503
                assert (await first.answer())[0] == 408
                assert guard.parts.inspecting.value == 0
                body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
                small.send(start + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
                assert (await small.head()).startswith(b"HTTP/1.1 100")
                assert (await small.send(body).answer())[0] == 200
                for client in (first, second, small):
                    client.close()
            finally:
                listener.close()
                await guard.stop()


PROGRAM = """
import json, os, urllib.request
def ask(model):
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    headers = {"content-type": "application/json", "authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", data=body, headers=headers)
    try:
        return json.load(urllib.request.urlopen(request, timeout=20))["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        return error.code
print(json.dumps([ask("m"), ask("other"), [name for name, value in os.environ.items() if "near-secret" in value]]))
"""


def test_a_program_in_the_sandbox_reaches_models_and_no_key(tmp_path: Path) -> None:
    """`agentos run`: an ordinary program asks the model its policy allows; another is denied; the key is not inside."""
    import json
    import os
    import subprocess
    import sys

    root = Path(__file__).resolve().parents[3]
    (tmp_path / "ws").mkdir()
    with provider(lambda asked: openai_reply("hello, sandbox", asked)) as near:
        (tmp_path / "p.yaml").write_text(
            f'version: 1\nextends: [pack:baseline]\nmodels: {{providers: {{p: {{kind: vllm, base_url: "{near.url}/v1",'
            f" models: [m], secret: NEAR_KEY}}}}}}\n"
        )
        ran = subprocess.run(
            [sys.executable, "-m", "agent_os", "run", "--policy", str(tmp_path / "p.yaml"), "--workspace",
             str(tmp_path / "ws"), "--", "/usr/bin/python3", "-c", PROGRAM],
            env={**os.environ, "PYTHONPATH": str(root), "AGENTOS_STATE": str(tmp_path / "state"), "NEAR_KEY": "near-secret-key"},
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
    if ran.returncode == 125 and "cannot enforce" in ran.stderr:
        pytest.skip(ran.stderr)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == ["hello, sandbox", 403, []]
    assert near.asked[0].headers["authorization"] == "Bearer near-secret-key"
