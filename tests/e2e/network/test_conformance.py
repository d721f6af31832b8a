"""The conformance folder's framing and path cases through the live guard; own cases where the folder is not there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent_os.effects.proxy import Treatment
from tests.e2e.network.world import Client, Place, World

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "conformance" / "openshell"
OWN_FRAMING = [
    {"id": "own-1", "raw_latin1": "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n", "expect": "reject"},
    {"id": "own-2", "raw_latin1": "GET /a HTTP/1.1\r\nHost: x\r\nX: y\r\n\r\n", "expect": "accept"},
]
OWN_PATHS = [
    {"id": "own-3", "target": "/a/./b/../c", "options": {}, "expect": "/a/c"},
    {"id": "own-4", "target": "/a/%5c..%5cb", "options": {}, "expect": "reject"},
]


def cases(name: str, own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases of a file of the folder, after our own."""
    path = FOLDER / name
    return own + (json.loads(path.read_text()) if path.exists() else [])


async def sent(world: World, raw: bytes, *, host: str, encoded_slash: bool = False) -> tuple[int, bytes]:
    """Send raw bytes in an inspected tunnel to `host`: the status (0: closed) and what the upstream received."""
    upstream = await world.upstream()
    world.resolver.table[host] = ("127.0.0.1",)
    world.allow(Place(host, upstream.port, treatment=Treatment(encoded_slash=encoded_slash)))
    await world.start()
    client = await Client.to(await world.listen())
    assert await client.connect(f"{host}:{upstream.port}") == 200
    client.send(raw)
    client.writer.write_eof()
    said = await client.rest()
    return int(said.split(b" ")[1]) if said else 0, upstream.text


@pytest.mark.parametrize("case", cases("http_framing_cases.json", OWN_FRAMING), ids=lambda case: case["id"])
async def test_framing(world: World, case: dict[str, Any]) -> None:
    """A request that must be refused never reaches the upstream; another one does."""
    raw = case["raw_latin1"].encode("latin-1")
    named = re.search(rb"(?im)^host:[ \t]*([a-z0-9.-]+)", raw)
    host = named[1].decode() if named is not None else "api.example.test"
    status, got = await sent(world, raw, host=host)
    if case["expect"] == "reject":
        assert status == 0 or 400 <= status < 502
        assert got == b""
    else:
        assert (status, bool(got)) == (200, True)


@pytest.mark.parametrize("case", cases("path_cases.json", OWN_PATHS), ids=lambda case: case["id"])
async def test_paths(world: World, case: dict[str, Any]) -> None:
    """What is judged, and sent, is the canonical path; what has none is refused."""
    target, options = case["target"], case.get("options") or {}
    if not re.fullmatch(r"[!-~]{1,4000}", target):
        pytest.skip("no such target can stand in a request line")
    absolute = re.match(r"https?://([^/?#]+)", target)
    host = absolute[1].partition(":")[0] if absolute is not None else "a.test"
    raw = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")
    status, got = await sent(world, raw, host=host, encoded_slash=bool(options.get("allow_encoded_slash")))
    if case["expect"] == "reject":
        assert (status == 0 or 400 <= status < 500) and got == b""
        return
    if absolute is not None:
        return  # the port of the test's upstream is not the one the target names: 421, judged elsewhere
    path = case["expect"] if isinstance(case["expect"], str) else case["expect"]["path"]
    assert status == 200
    assert world.door.requests()[0].path == path
    assert got.split(b" ")[1].partition(b"?")[0].decode() == path
