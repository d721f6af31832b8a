"""Python code run in a fresh interpreter without files or network of its own: for calculations and data handed in."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from serving import ToolError, serve, tool

OUTPUT_BYTES_MAX = 200_000


@tool("Run Python code; returns what it printed. Data can be handed in as text, readable as the variable `data`.",
      {"code": {"type": "string", "minLength": 1, "maxLength": 200_000}, "data": {"type": "string", "maxLength": 4_000_000},
       "seconds": {"type": "number", "minimum": 0.1, "maximum": 600}}, ["code"])  # fmt: skip
def run_python(code: str, data: str = "", seconds: float = 60) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/data", "w", encoding="utf-8") as file:
            file.write(data)
        with open(folder + "/code.py", "w", encoding="utf-8") as file:
            file.write("data = open('data', encoding='utf-8').read()\n" + code)
        try:
            done = subprocess.run([sys.executable, "-I", "code.py"], cwd=folder, stdin=subprocess.DEVNULL, timeout=seconds,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ToolError(f"not finished after {seconds} s") from None
    return {
        "status": done.returncode,
        "stdout": done.stdout[:OUTPUT_BYTES_MAX].decode("utf-8", errors="replace"),
        "stderr": done.stderr[-OUTPUT_BYTES_MAX:].decode("utf-8", errors="replace"),
        "truncated": len(done.stdout) > OUTPUT_BYTES_MAX,
    }


if __name__ == "__main__":
    serve()
