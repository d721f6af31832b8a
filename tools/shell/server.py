"""A shell command in the workspace, inside this server's own sandbox."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from serving import serve, tool

OUTPUT_BYTES_MAX = 200_000


@tool("Run a shell command in the workspace and return its status and output.",
      {"command": {"type": "string", "minLength": 1, "maxLength": 100_000}, "seconds": {"type": "number", "minimum": 0.1, "maximum": 3600}},
      ["command"])  # fmt: skip
def run(command: str, seconds: float = 120) -> dict[str, Any]:
    child = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
    timed_out = False
    try:
        output, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
    text = output[:OUTPUT_BYTES_MAX].decode("utf-8", errors="replace")
    return {
        "status": child.returncode,
        "output": text,
        "truncated": len(output) > OUTPUT_BYTES_MAX,
        "timed_out": timed_out,
    }


if __name__ == "__main__":
    serve()
