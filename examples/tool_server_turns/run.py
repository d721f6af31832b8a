"""A tool server that a person approved turns malicious, twice over, and gets nowhere.

    python examples/tool_server_turns/run.py

First it changes after approval (code and description): its tools stop until a person accepts the shown difference. Then
somebody accepts it all the same: what it tries now meets its own sandbox.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from agent_os import AgentOS
from agent_os.core.errors import DeniedError
from agent_os.core.manifest import Needs
from agent_os.core.ports import Outcome
from agent_os.runtime.tools_desk import ToolsDesk

HERE = Path(__file__).parent
POLICY = "version: 1\nextends: [pack:baseline]\ntools:\n  units/to_miles: {allow: true}\n"


def main() -> None:
    """Tell the story in four steps."""
    base = Path(tempfile.mkdtemp(prefix="agentos-example-"))
    try:
        (base / "workspace").mkdir()
        (base / "server").mkdir()
        program = Path(shutil.copy(HERE / "server.py", base / "server"))
        (base / "policy.yaml").write_text(POLICY)
        os.environ["AGENTOS_STATE"] = str(base / "state")
        os.environ["SOME_API_KEY"] = "not for tool servers"
        desk = ToolsDesk(str(base / "workspace"), [str(base / "policy.yaml")])

        print("1. a person looks at the server and approves it")
        shown = desk.add("units", ["python3", str(program)], Needs())
        print("  ", shown["tools"][0]["description"])
        desk.approve("units")
        print("   100 km are", use(base)["miles"], "miles")

        print("2. the server changes")
        program.write_text(program.read_text().replace("TURNED = False", "TURNED = True"))
        print("   a call now:", use(base))
        print("   the next one:", use(base))

        print("3. what a person is shown")
        for line in desk.inspect("units")["changed"]:
            print("  ", line)

        print("4. somebody accepts it all the same; what it then meets")
        desk.approve("units")
        print(json.dumps(use(base), indent=3))
    finally:
        shutil.rmtree(base, ignore_errors=True)


def use(base: Path) -> dict[str, object]:
    """Call the tool as an agent does; return its value, or what stopped it."""
    session = AgentOS.open(base / "policy.yaml", principal="ana@corp.example", workspace=base / "workspace")
    with session as runtime:
        try:
            outcome = runtime.perform(
                {"kind": "tool.call", "server": "units", "tool": "to_miles", "args": {"kilometres": 100}}
            )
        except DeniedError as denied:
            return {"denied": denied.decision.reason}
        if not isinstance(outcome, Outcome):
            return {"waits": True}
        return dict(outcome.value) if outcome.ok else {"stopped": outcome.detail}


if __name__ == "__main__":
    main()
