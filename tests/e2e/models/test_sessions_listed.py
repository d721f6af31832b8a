"""Callers' sessions of a served gateway: listed, killable, cut off in the middle of an answer by a halt or a kill."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_os.runtime.serving.callers import digest, load_callers
from agent_os.runtime.stopping import look, open_stops
from tests.e2e.models.providers import Asked, Reply, openai_reply, provider
from tests.e2e.models.serving import records, serving

POLICY = """
version: 1
models: {{providers: {{near: {{kind: vllm, base_url: "{url}/v1", models: [m], retries: 0, timeout: 60s}}}}}}
"""
WITHIN = 20.0


def eventually(found: Callable[[], Any]) -> Any:
    """Return what is found before the deadline."""
    deadline = time.monotonic() + WITHIN
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def answer(asked: Asked) -> Reply:
    """Answer a little, and then go on for a minute."""
    reply = openai_reply("word " * 8, asked)
    if asked.body["messages"][0]["content"] == "quick":
        return reply
    if reply.chunks is None:
        time.sleep(WITHIN)
        return reply
    return Reply(chunks=reply.chunks[:3] * 1200, pause=0.05)


def ask(url: str, token: str, text: str = "slow", *, stream: bool = False) -> tuple[int, str]:
    """Call the model; returns the status and all that came."""
    body = {"model": "m", "max_tokens": 50, "stream": stream, "messages": [{"role": "user", "content": text}]}
    said = httpx.post(url + "/v1/chat/completions", json=body, headers={"x-api-key": token}, timeout=60)
    return said.status_code, said.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_kill_reaches_a_caller_in_the_middle_of_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """`agentos ps` has a session for each caller; a killed one's answer ends at once and is settled as it was reserved; another
    caller goes on; the next call of the killed one begins a new session. A halt ends every answer.
    """
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    (tmp_path / "callers.toml").write_text(
        "".join(
            f'[[token]]\nsha256 = "{digest(name)}"\nuser = "{name}"\ntenant = "{name}"\n' for name in ("acme", "bolt")
        )
    )
    environment = {"AGENTOS_STATE": str(tmp_path / "state")}

    def listed() -> dict[str, str]:
        return {view.tenant: view.id for view in look(environment)[1]}

    def stop(*words: Any) -> Any:
        desk = open_stops(environment)
        try:
            return asyncio.run(desk.stop(*words))
        finally:
            desk.close()

    with provider(answer) as near, ThreadPoolExecutor(2) as pool:
        callers = load_callers(tmp_path / "callers.toml")
        with serving(tmp_path, POLICY.format(url=near.url), callers=callers) as served:
            assert ask(served.url, "acme", "quick")[0] == ask(served.url, "bolt", "quick")[0] == 200
            before = listed()
            assert set(before) == {"acme", "bolt"}
            begun = time.monotonic()
            going = pool.submit(ask, served.url, "acme", stream=stream)
            eventually(lambda: len(near.asked) == 3)
            stop("session", before["acme"])
            status, text = going.result(WITHIN)
            assert time.monotonic() - begun < WITHIN
            assert "killed" in text
            assert status == (200 if stream else 403), text
            assert ask(served.url, "bolt", "quick")[0] == ask(served.url, "acme", "quick")[0] == 200
            after = listed()
            assert after["bolt"] == before["bolt"]
            assert after["acme"] != before["acme"]
            going = pool.submit(ask, served.url, "bolt", stream=stream)
            eventually(lambda: len(near.asked) == 6)
            stop("all")
            assert "halted" in going.result(WITHIN)[1]
            assert ask(served.url, "bolt", "quick")[0] == 403
        assert not listed()
    cut = [record for record in records(tmp_path, "outcome") if not record["ok"]]
    assert [(record["error"], record["usage"]["output_tokens"]) for record in cut] == [("cancelled", 50)] * 2
