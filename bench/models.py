"""What the model gateway adds: a call through it against the same call made directly, whole and streamed.

One process per role would be fairer to the gateway; here provider, gateway and caller share one machine, so read the
difference of medians and the ratio, not the absolute figures. The audit is written as in production (group commit).
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from agent_os import Policy
from agent_os.runtime.serving.start import start_serving

CALLS = 150
STREAMS = 500
BODY = {"model": "m", "messages": [{"role": "user", "content": "x" * 2000}]}
PROVIDER = r"""
import asyncio, json, sys
ANSWER = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}],
                     "usage": {"prompt_tokens": 500, "completion_tokens": 2}}).encode()
def event(delta, finish=None):
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode() + b"\n\n"
PIECES = [event({"content": "word "}) for _ in range(20)] + [event({}, "stop"), b"data: [DONE]\n\n"]
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            body = await reader.readexactly(length)
            if b'"stream": true' in body or b'"stream":true' in body:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                for piece in PIECES:
                    writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


async def _whole(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> list[float]:
    taken = []
    for _ in range(CALLS):
        start = time.perf_counter()
        answer = await client.post(url, json=BODY, headers=headers)
        taken.append((time.perf_counter() - start) * 1000)
        if answer.status_code != 200:
            raise SystemExit(f"the call failed: {answer.status_code} {answer.text[:200]}")
    return taken


async def _first_byte(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> list[float]:
    taken = []
    for _ in range(CALLS):
        start = time.perf_counter()
        async with client.stream("POST", url, json={**BODY, "stream": True}, headers=headers) as answer:
            first = True
            async for _part in answer.aiter_raw():
                if first:
                    taken.append((time.perf_counter() - start) * 1000)
                    first = False
    return taken


async def _at_once(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> float:
    async def one() -> None:
        async with client.stream("POST", url, json={**BODY, "stream": True}, headers=headers) as answer:
            text = b"".join([part async for part in answer.aiter_raw()])
            if b"[DONE]" not in text:
                raise SystemExit(f"a stream broke off: {answer.status_code} {text[:200]!r}")

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(STREAMS)))
    return time.perf_counter() - start


async def _measure(port: int, folder: Path) -> dict[str, float]:
    text = f'version: 1\nmodels: {{providers: {{p: {{kind: vllm, base_url: "http://127.0.0.1:{port}/v1", models: [m]}}}}}}\n'
    (folder / "ws").mkdir()
    serving = await start_serving(
        Policy.parse(text), principal="bench", workspace=folder / "ws", state=folder / "state", port=0
    )
    routes = {
        "direct": (f"http://127.0.0.1:{port}/v1/chat/completions", {}),
        "gateway": (f"{serving.url}/v1/chat/completions", {"authorization": f"Bearer {serving.token}"}),
    }
    found: dict[str, float] = {}
    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=STREAMS)) as client:
        for name, (url, headers) in routes.items():
            await _whole(client, url, headers)  # connections and code are warm
            whole, first = await _whole(client, url, headers), await _first_byte(client, url, headers)
            found[f"{name}_ms_p50"] = statistics.median(whole)
            found[f"{name}_ms_p99"] = sorted(whole)[int(len(whole) * 0.99) - 1]
            found[f"{name}_first_byte_ms_p50"] = statistics.median(first)
            found[f"{name}_{STREAMS}_streams_s"] = await _at_once(client, url, headers)
    await serving.aclose()
    return found


def main() -> int:
    """Print the medians, what the gateway adds, and the ratio."""
    process = subprocess.Popen([sys.executable, "-c", PROVIDER], stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None:
            raise SystemExit("the provider did not start")
        port = int(process.stdout.readline())
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(_measure(port, Path(folder)))
    finally:
        process.terminate()
        process.wait(10)
    found["added_ms_p50"] = found["gateway_ms_p50"] - found["direct_ms_p50"]
    found["added_first_byte_ms_p50"] = found["gateway_first_byte_ms_p50"] - found["direct_first_byte_ms_p50"]
    if "--json" in sys.argv:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        print(f"{name:32} {value:10.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
