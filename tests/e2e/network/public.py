"""Runs in a network namespace of its own, where a public address is this machine's: a policy file and curl, as they are.

`unshare -rn python -m tests.e2e.network.public POLICY FOLDER [observe]` with requests on stdin, one `METHOD URL` a line; prints one
JSON line `[status, what the upstream saw]` each. Policies with port 443 and public names are then enforced unchanged.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
from fcntl import ioctl
from pathlib import Path
from urllib.parse import urlsplit

from agent_os.core.facts import PUBLIC_ADDRESS
from agent_os.core.principal import Principal
from agent_os.runtime.compose import compose
from agent_os.runtime.network import open_guard, serve_loopback
from agent_os.runtime.policies import load_policy
from tests.e2e.network.authority import TestAuthority
from tests.e2e.network.world import TableResolver, Upstream


def address_of_our_own() -> None:
    """Bring loopback up and put the public address on it (what `ip addr add` does)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        ioctl(probe, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))
        for alias, request in ((PUBLIC_ADDRESS, 0x8916), ("255.255.255.255", 0x891C)):
            ioctl(probe, request, struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(alias)))


async def main(policy_file: str, folder: Path, *, observe: bool) -> None:
    """Serve one TLS upstream for every host asked for, and put curl's requests through the guard."""
    requests = [line.split() for line in sys.stdin.read().splitlines()]
    hosts = sorted({urlsplit(url).hostname or "" for _, url in requests})
    authority = TestAuthority(folder / "upstream")
    upstream = Upstream(context=authority.context(*hosts))
    server = await asyncio.start_server(upstream._serve, PUBLIC_ADDRESS, 443, ssl=upstream.context)
    policy = load_policy(policy_file)
    (folder / "workspace").mkdir()
    session = await compose(policy, Principal(user="tester"), str(folder / "workspace"), state=folder / "state")
    resolver = TableResolver(dict.fromkeys(hosts, (PUBLIC_ADDRESS,)))
    guard = await open_guard(
        policy, session.monitor, state=folder / "state", resolver=resolver, roots=authority.root, environment={},
        observe=observe,
    )  # fmt: skip
    _, proxy = await serve_loopback(guard, session.monitor.principal)
    environment = {**guard.environment(proxy=proxy), "PATH": os.environ["PATH"]}
    for method, url in requests:
        before = len(upstream.text)
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_connect} %{http_code}", "-X", method, url,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        said, _ = await process.communicate()
        connect, code = said.decode().split()
        print(json.dumps([int(code) or int(connect), upstream.text[before:].decode().partition("\r\n")[0]]), flush=True)
    await guard.stop()
    await session.aclose()
    server.close()


if __name__ == "__main__":
    address_of_our_own()
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), observe=sys.argv[3:] == ["observe"]))
