"""A tool server that a person approved turns malicious, twice over, and gets nowhere.

    python examples/tool_server_turns/run.py

First it changes after approval (code and description): its tools stop until a person accepts the shown difference. Then
somebody accepts it all the same: what it tries now meets its own sandbox. The same attempts are made outside it as well, so
that it is seen that there was something to get.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from agent_os import AgentOS
from agent_os.core.errors import DeniedError
from agent_os.core.manifest import Needs
from agent_os.core.ports import Outcome
from agent_os.runtime.tools_desk import ToolsDesk

HERE = Path(__file__).parent
POLICY = "version: 1\nextends: [pack:baseline]\ntools:\n  units/to_miles: {allow: true}\n"
LAYERS = {
    "the ssh key": "private root: the file does not exist in there",
    "the user's files": "private root: the manifest asked for no path",
    "a git hook": "private root: nothing of the workspace is mounted",
    "secrets in variables": "environment: an allow-list, the manifest named none",
    "a listener of the host": "network name space: a loopback of its own",
    "a host on the internet": "network name space: no way out, no endpoint in the policy",
    "the runtime's process": "pid name space: no process of the host is in there",
}


def main() -> None:
    """Tell the story in four steps."""
    base = Path(tempfile.mkdtemp(prefix="agentos-example-"))
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=answer, args=(listener,), daemon=True).start()
    try:
        targets = lay_out(base, listener.getsockname()[1])
        program = Path(shutil.copy(HERE / "server.py", base / "server"))
        desk = ToolsDesk(str(base / "workspace"), [str(base / "policy.yaml")])

        print("1. a person looks at the server and approves it")
        shown = desk.add("units", ["python3", str(program), json.dumps(targets)], Needs())
        print("  ", shown["tools"][0]["description"])
        desk.approve("units")
        print("   100 km are", use(base)["miles"], "miles")

        print("2. the server changes")
        program.write_text(program.read_text().replace("TURNED = False", "TURNED = True"))
        print("   a call now: ", use(base)["stopped"])
        print("   agents see: ", "nothing of it" if not desk_lists(desk) else "its tools")

        print("3. what a person is shown (agentos tools inspect units)")
        for line in desk.inspect("units")["changed"]:
            print("  ", line)

        print("4. somebody accepts it all the same; what its attempts meet")
        desk.approve("units")
        tell(outside(program, targets), use(base)["loot"])
    finally:
        listener.close()
        shutil.rmtree(base, ignore_errors=True)


def lay_out(base: Path, port: int) -> dict[str, Any]:
    """Make a person's folder with things worth stealing; return where they are."""
    for folder in ("home/.ssh", "workspace/.git/hooks", "server"):
        (base / folder).mkdir(parents=True)
    (base / "home/.ssh/id_rsa").write_text("-----BEGIN PRIVATE KEY-----")
    (base / "workspace/salaries.csv").write_text("name,salary")
    (base / "policy.yaml").write_text(POLICY)
    os.environ["AGENTOS_STATE"] = str(base / "state")
    os.environ["BILLING_API_KEY"] = "not for tool servers"
    return {
        "key": str(base / "home/.ssh/id_rsa"),
        "file": str(base / "workspace/salaries.csv"),
        "hook": str(base / "workspace/.git/hooks/pre-commit"),
        "port": port,
        "pid": os.getpid(),
    }


def answer(listener: socket.socket) -> None:
    """Be the listener that loot is sent to."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(100)
            connection.sendall(b"thank you")


def use(base: Path) -> dict[str, Any]:
    """Call the tool as an agent does; return its value, or what stopped it."""
    session = AgentOS.open(base / "policy.yaml", principal="ana@corp.example", workspace=base / "workspace")
    with session as runtime:
        try:
            outcome = runtime.perform(
                {"kind": "tool.call", "server": "units", "tool": "to_miles", "args": {"kilometres": 100}}
            )
        except DeniedError as denied:
            return {"stopped": denied.decision.reason}
        if not isinstance(outcome, Outcome):
            return {"stopped": "waits for a person"}
        return dict(outcome.value) if outcome.ok else {"stopped": outcome.detail}


def desk_lists(desk: ToolsDesk) -> bool:
    """Return whether agents get the server's tools."""
    return any(row["state"] == "approved" for row in desk.list()["servers"])


def outside(program: Path, targets: dict[str, Any]) -> dict[str, str]:
    """Make the server's attempts in this process, where nothing stands in their way."""
    spec = importlib.util.spec_from_file_location("turned", program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, str] = module.loot(targets)
    Path(targets["hook"]).unlink(missing_ok=True)
    return found


def tell(free: dict[str, str], held: dict[str, str]) -> None:
    """Print what each attempt found outside and inside, and the layer that made the difference."""
    for name, layer in LAYERS.items():
        print(f"   {name}")
        print(f"      without the sandbox:  {free[name]}")
        print(f"      as a tool server:     {held[name]}")
        print(f"      stopped by:           {layer if held[name].startswith('refused') else 'NOTHING'}")
    got = [name for name in LAYERS if not held[name].startswith("refused")]
    print(f"   {len(LAYERS) - len(got)} of {len(LAYERS)} attempts stopped")


if __name__ == "__main__":
    main()
