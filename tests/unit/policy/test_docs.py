"""docs/policy.md: every command in it is run, and its output is what the page says.

`python -m tests.unit.policy.test_docs` writes the outputs anew. Files that the page shows (a fence whose first line is
`# file: NAME`) are written beside the commands; digests are left out of the comparison.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "policy.md"
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def render(text: str, folder: Path) -> str:
    """Return the page with the output of each command as it is now."""
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "policies").symlink_to(ROOT / "policies")
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder), "COLUMNS": "120",
        "AGENTOS_STATE": str(folder / "state"), "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    command = folder / "agentos"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m agent_os "$@"\n')
    command.chmod(0o755)

    def block(found: re.Match[str]) -> str:
        kind, body = found[1], found[2]
        first = body.split("\n", 1)[0]
        if first.startswith("# file: "):
            path = folder / first.removeprefix("# file: ").strip()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(body.split("\n", 1)[1])
            return found[0]
        if kind != "console":
            return found[0]
        out = []
        for line in body.splitlines():
            if line.startswith("$ "):
                done = subprocess.run(
                    ["/bin/sh", "-c", line[2:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
                )  # fmt: skip
                out.append(line)
                out.append((done.stdout + done.stderr).rstrip("\n"))
        return "```console\n" + DIGEST.sub("sha256:…", "\n".join(part for part in out if part)) + "\n```"

    return FENCE.sub(block, text)


@pytest.mark.slow
def test_every_command_of_the_page_prints_what_the_page_says(tmp_path: Path) -> None:
    """Documentation that rots fails here; run this module to write the outputs anew."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("$ agentos policy") >= 10
    assert render(text, tmp_path).splitlines() == text.splitlines()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        os.umask(0o022)
        PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), Path(name)), encoding="utf-8")
