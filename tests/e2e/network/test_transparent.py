"""A real network namespace in front of the guard: every address is local, DNS is ours, programs know of no proxy."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_os.effects.proxy import ListenerIdentity, Treatment
from tests.e2e.network.world import Client, Place, World, response

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a network and a mount namespace as root"),
]

INSIDE = """
import ctypes, json, os, socket, subprocess, sys
sys.path.insert(0, {root!r})
from agent_os.effects.sandbox.launcher import network
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x40000000 | 0x00020000):
    sys.exit("unshare: " + os.strerror(ctypes.get_errno()))
libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None)
open({resolv!r}, "w").write("nameserver 10.0.0.53\\n")
if libc.mount({resolv!r}.encode(), b"/etc/resolv.conf", None, 0x1000, None):
    sys.exit("mount: " + os.strerror(ctypes.get_errno()))
control = socket.socket(fileno=int(sys.argv[1]))
plan = {{"guarded": True, "tcp_ports": {ports}, "dns": True, "proxy_port": 3128}}
network.send_listeners(control, network.build_network(plan))
control.send(b"done")
for line in sys.stdin:
    done = subprocess.run(json.loads(line), capture_output=True, timeout=20)
    print(json.dumps([done.returncode, (done.stdout + done.stderr).decode(errors="replace")]), flush=True)
"""


class Inside:
    """A namespace with a shell in it; its listeners are served by the guard."""

    def __init__(self, process: asyncio.subprocess.Process, env: dict[str, str]) -> None:
        self.process, self.env = process, env

    async def run(self, *argv: str) -> tuple[int, str]:
        """Run a program inside; its status and output."""
        command = ["env", *(f"{name}={value}" for name, value in self.env.items()), *argv]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        status, output = json.loads(await asyncio.wait_for(self.process.stdout.readline(), 30))
        return status, output


async def enter(world: World, ports: list[int]) -> tuple[Inside, ListenerIdentity]:
    """Make the namespace and serve its listeners."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    root = str(Path(__file__).resolve().parents[3])
    script = INSIDE.format(root=root, resolv=str(world.folder / "resolv.conf"), ports=ports)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(theirs.fileno()), pass_fds=[theirs.fileno()],
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    theirs.close()
    identity = ListenerIdentity(sandbox_pid=process.pid, label="box")
    assert world.guard is not None
    while True:
        data, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, ours, 65536, 64)
        if not data or data == b"done":
            break
        for kind, descriptor in zip(data.decode().split("\0")[2:], descriptors, strict=True):
            await world.guard.serve_listener(socket.socket(fileno=descriptor), kind, identity)
    ours.close()
    env = {**world.guard.environment(), "PATH": os.environ["PATH"], "HOME": str(world.folder)}
    return Inside(process, env), identity


@pytest.fixture
async def inside(world: World) -> AsyncIterator[tuple[World, Inside, int]]:
    """A namespace, and a.test behind the guard (inspected TLS); b.test is allowed for no program that is here."""
    upstream = await world.upstream(tls=["a.test", "b.test"])
    world.allow(Place("a.test", upstream.port, [("GET", "/ok*")], Treatment()))
    world.allow(Place("b.test", upstream.port, treatment=Treatment(), binaries=["/usr/bin/nobody-has-this"]))
    await world.start()
    place, _ = await enter(world, [upstream.port])
    yield world, place, upstream.port
    assert place.process.stdin is not None
    place.process.stdin.close()
    await place.process.wait()


async def test_curl_without_any_proxy_is_held_to_the_policy(inside: tuple[World, Inside, int]) -> None:
    """DNS, TLS and request all pass the guard: allowed is served, a forbidden path is a 403 inside the tunnel."""
    world, box, port = inside
    assert await box.run("curl", "-sS", f"https://a.test:{port}/ok") == (0, "hello")
    status, said = await box.run("curl", "-sS", f"https://a.test:{port}/secret")
    assert status == 0
    assert json.loads(said)["status"] == 403
    stated = world.door.stated[0]
    assert stated["executable"].path == os.path.realpath(shutil.which("curl") or "")
    assert stated["resolved_ips"] == ("127.0.0.1",)


async def test_a_program_that_is_not_listed_is_told_so_in_its_own_tongue(inside: tuple[World, Inside, int]) -> None:
    """A transparent TLS connection that is denied gets a readable 403 inside TLS."""
    _, box, port = inside
    status, said = await box.run("curl", "-sS", f"https://b.test:{port}/ok")
    assert status == 0
    assert json.loads(said)["title"] == "denied by policy"


async def test_names_that_no_rule_can_allow_do_not_exist(inside: tuple[World, Inside, int]) -> None:
    """DNS answers NXDOMAIN for them, whatever server the program asks, and nothing was looked up outside."""
    world, box, port = inside
    status, said = await box.run("curl", "-sS", f"https://c3RvbGVu.evil.test:{port}/")
    assert status == 6
    assert "resolve" in said
    assert world.resolver.asked == []


async def test_addresses_are_denied_unless_listed(inside: tuple[World, Inside, int]) -> None:
    """Connecting to an address directly is refused, the metadata address and public ones alike."""
    world, box, port = inside
    for literal in ("169.254.169.254", "93.184.215.14", "[2606:2800:21f::1]"):
        status, said = await box.run("curl", "-sS", "-k", f"https://{literal}:{port}/latest/")
        assert '"status": 403' in said or status != 0
    status, _ = await box.run("curl", "-sS", f"http://93.184.215.14:{port + 1 if port < 65535 else 1}/")
    assert status == 7  # no listener: refused by the kernel
    assert not world.upstreams[0].received


async def test_the_sandbox_proxy_port_serves_too(inside: tuple[World, Inside, int]) -> None:
    """A program that speaks to the proxy on loopback gets the same answers."""
    _, box, port = inside
    assert await box.run("curl", "-sS", "-x", "http://127.0.0.1:3128", f"https://a.test:{port}/ok") == (0, "hello")
    assert await box.run("curl", "-sS", "-x", "socks5h://127.0.0.1:3128", f"https://a.test:{port}/ok") == (0, "hello")
    assert await box.run("curl", "-sS", "http://policy.local/may?host=evil.test", "-x", "http://127.0.0.1:3128")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
async def test_node_fetch(inside: tuple[World, Inside, int]) -> None:
    """node's fetch trusts the CA from the environment and is held to the policy."""
    _, box, port = inside
    script = f"fetch('https://a.test:{port}/ok').then(r=>r.text()).then(console.log,e=>console.log(e.cause))"
    assert await box.run("node", "-e", script) == (0, "hello\n")


async def test_python_clients(inside: tuple[World, Inside, int]) -> None:
    """requests, httpx and urllib work unchanged, and are denied alike."""
    _, box, port = inside
    program = (
        f"import requests, httpx, urllib.request as u\nbase='https://a.test:{port}'\n"
        "print(requests.get(base+'/ok').text, httpx.get(base+'/ok').text, u.urlopen(base+'/ok').read().decode())\n"
        "print(requests.get(base+'/no').status_code, httpx.post(base+'/ok', json={}).status_code)"
    )
    assert await box.run(sys.executable, "-c", program) == (0, "hello hello hello\n403 403\n")


async def test_a_peer_of_another_namespace_cannot_use_the_sandbox_listener(world: World) -> None:
    """A unix listener of one sandbox refuses a process outside its namespace; an unbound one serves it."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    box, identity = await enter(world, [upstream.port])
    assert world.guard is not None
    for label, who in (("theirs", identity), ("ours", ListenerIdentity(executables=False))):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(world.folder / label))
        sock.listen()
        await world.guard.serve_listener(sock, "proxy", who)
    client = await Client.to(str(world.folder / "theirs"))
    client.send(b"CONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1\r\n\r\n")
    assert await client.rest() == b""
    assert world.guard.snapshot()["counts"]["alerts"] == 1
    twin = await Client.to(str(world.folder / "ours"))
    assert await twin.connect(f"a.test:{upstream.port}") == 200
    twin.close()
    await closed(box)


async def closed(box: Inside) -> None:
    """End a namespace."""
    assert box.process.stdin is not None
    box.process.stdin.close()
    await box.process.wait()


async def test_pip_and_uv_install_from_an_allowed_index_only(world: World, tmp_path: Path) -> None:
    """They download over inspected https what policy lets them, and report the denial of the rest."""
    pytest.importorskip("pip", reason="this environment has no pip")
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo.py", "x = 1\n")
        archive.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        archive.writestr("demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("demo-1.0.dist-info/RECORD", "")
    name = "demo-1.0-py3-none-any.whl"

    async def index(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /simple/demo/ "):
                page = f'<a href="/files/{name}">{name}</a>'.encode()
                writer.write(response(page, extra="Content-Type: text/html\r\n"))
            else:
                writer.write(response(wheel.getvalue()))
            await writer.drain()

    upstream = await world.upstream(index, tls="pypi.test")
    world.allow(Place("pypi.test", upstream.port, [("GET", "/simple/demo/*"), ("GET", "/files/*")], Treatment()))
    await world.start()
    box, _ = await enter(world, [upstream.port])
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "--retries", "0", "-d"]
    where = ["--index-url", f"https://pypi.test:{upstream.port}/simple"]
    status, said = await box.run(*pip, str(tmp_path / "got"), *where, "demo")
    assert status == 0, said
    assert (tmp_path / "got" / name).read_bytes() == wheel.getvalue()
    status, said = await box.run(*pip, str(tmp_path / "not"), *where, "evil")
    assert status != 0
    uv = shutil.which("uv", path=os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"])))
    if uv is not None:  # a Rust program with TLS of its own, linked to no library but libc
        install = [uv, "pip", "install", "-q", "--no-cache", "--no-deps", "--python", sys.executable, "--target"]
        status, said = await box.run(*install, str(tmp_path / "uv"), *where, "demo")
        assert status == 0, said
        assert (tmp_path / "uv" / "demo.py").read_text() == "x = 1\n"
        status, said = await box.run(*install, str(tmp_path / "none"), *where, "evil")
        assert status != 0
        assert "403 Forbidden" in said
    await closed(box)


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
async def test_npm_asks_an_allowed_registry_only(world: World) -> None:
    """npm reads a package's record through the guard; another package is denied."""
    record = json.dumps(
        {"name": "demo", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {"name": "demo", "version": "1.0.0"}}}
    ).encode()
    upstream = await world.upstream(response(record, extra="Content-Type: application/json\r\n"), tls="npm.test")
    world.allow(Place("npm.test", upstream.port, [("GET", "/demo")], Treatment()))
    await world.start()
    box, _ = await enter(world, [upstream.port])
    registry = f"--registry=https://npm.test:{upstream.port}/"
    status, said = await box.run("npm", "view", "demo", "version", registry, "--fetch-retries=0")
    assert (status, said.strip()) == (0, "1.0.0")
    status, said = await box.run("npm", "view", "evil", "version", registry, "--fetch-retries=0")
    assert status != 0
    assert "403" in said
    await closed(box)


async def test_git_clones_from_an_allowed_repository_only(world: World, tmp_path: Path) -> None:
    """git clones over inspected https; another repository on the same host is denied."""
    source = tmp_path / "source"
    commands = (
        f"git init -q {source} && cd {source} && git -c user.name=t -c user.email=t@t commit -q --allow-empty -m first"
        " && git update-server-info"
    )
    made = await asyncio.create_subprocess_shell(commands)
    assert await made.wait() == 0

    async def files(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = tmp_path / "source" / ".git" / head.split(b" ")[1].decode().partition("?")[0].removeprefix("/repo/")
            if path.is_file():
                writer.write(response(path.read_bytes()))
            else:
                writer.write(response(b"", status="404 Not Found"))
            await writer.drain()

    upstream = await world.upstream(files, tls="git.test")
    world.allow(Place("git.test", upstream.port, [("GET", "/repo/*")], Treatment()))
    await world.start()
    box, _ = await enter(world, [upstream.port])
    status, said = await box.run(
        "git", "clone", "-q", f"https://git.test:{upstream.port}/repo/", str(tmp_path / "copy")
    )
    assert status == 0, said
    assert (tmp_path / "copy" / ".git" / "HEAD").exists()
    status, said = await box.run("git", "clone", "-q", f"https://git.test:{upstream.port}/other/", str(tmp_path / "no"))
    assert status != 0
    assert "403" in said
    await closed(box)


C_CLIENT = r"""
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int count, char **argument) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *found;
    if (getaddrinfo(argument[1], argument[2], &hints, &found)) return 2;
    int peer = socket(found->ai_family, SOCK_STREAM, 0);
    if (connect(peer, found->ai_addr, found->ai_addrlen)) return 3;
    char text[4096];
    int size = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", argument[4], argument[3]);
    if (write(peer, text, size) != size) return 4;
    while ((size = read(peer, text, sizeof text)) > 0) fwrite(text, 1, size, stdout);
    return 0;
}
"""
RUST_CLIENT = r"""
use std::io::{Read, Write};
fn main() -> std::io::Result<()> {
    let a: Vec<String> = std::env::args().collect();
    let mut peer = std::net::TcpStream::connect(format!("{}:{}", a[1], a[2]))?;
    write!(peer, "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", a[4], a[3])?;
    let mut text = String::new();
    peer.read_to_string(&mut text)?;
    print!("{}", text);
    Ok(())
}
"""


def compiled(folder: Path, language: str) -> Path:
    """A statically linked client that knows of no proxy, no libc hook and no CA variable; skips where it cannot be built."""
    source, out = folder / f"client.{language}", folder / f"client-{language}"
    source.write_text(C_CLIENT if language == "c" else RUST_CLIENT)
    argv = (
        ["gcc", "-static", "-O1", "-o", str(out), str(source)]
        if language == "c"
        else ["rustc", "-C", "target-feature=+crt-static", "-o", str(out), str(source)]
    )
    tool = shutil.which(argv[0]) or shutil.which(argv[0], path=os.path.expanduser("~/.cargo/bin"))
    if tool is None:
        pytest.skip(f"no {argv[0]} here")
    built = subprocess.run([tool, *argv[1:]], capture_output=True, timeout=120, check=False)
    if built.returncode:
        pytest.skip(f"{argv[0]} cannot link statically here: {built.stderr.decode()[-200:]}")
    return out


@pytest.mark.parametrize("language", ["c", "rs"])
async def test_a_static_program_that_knows_no_proxy_is_held_to_the_policy(
    world: World, tmp_path: Path, language: str
) -> None:
    """No preload, no variable and no library stands between it and its sockets: the kernel leads them to the guard."""
    client = str(await asyncio.to_thread(compiled, tmp_path, language))
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, [("GET", "/ok*")], Treatment(), binaries=[client]))
    world.allow(Place("b.test", upstream.port, treatment=Treatment(), binaries=["/usr/bin/nobody-has-this"]))
    await world.start()
    place, _ = await enter(world, [upstream.port])
    lookup = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"
    address = {name: (await place.run(sys.executable, "-c", lookup, name))[1].strip() for name in ("a.test", "b.test")}

    async def get(host: str, path: str, to: str = "") -> str:
        return (await place.run(client, to or address[host], str(upstream.port), f"{host}:{upstream.port}", path))[1]

    assert "200" in (await get("a.test", "/ok")).split("\r\n")[0]
    assert "403" in (await get("a.test", "/private")).split("\r\n")[0]
    assert "403" in (await get("b.test", "/ok")).split("\r\n")[0]
    assert "200" not in await get("a.test", "/ok", to="127.0.0.1")  # an address that no entry names
    fronted = await get("b.test", "/ok", to=address["a.test"])
    assert "200" not in fronted.split("\r\n")[0]
    assert upstream.text.count(b"GET") == 1
    assert place.process.stdin is not None
    place.process.stdin.close()
    await place.process.wait()
