"""Every escape program is stopped, through either launcher, as this user and as an unprivileged one; each control escapes outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.e2e.escape.__main__ import LAUNCHERS, as_unprivileged

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
ARGUMENTS = ["-m", "tests.e2e.escape.runner", "--json", "--launcher"]
PROGRAMS_AT_LEAST = 100


def _judge(done: subprocess.CompletedProcess[str]) -> None:
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(rows) >= PROGRAMS_AT_LEAST, done.stderr[-2000:]
    assert [row for row in rows if row["verdict"] != "BLOCKED"] == []
    assert [row["name"] for row in rows if row["control"] not in ("", "ESCAPED")] == []


@pytest.mark.parametrize("kind", LAUNCHERS)
def test_nothing_escapes_as_this_user(kind: str) -> None:
    """All programs end BLOCKED in a sandbox started by whoever runs the tests, whichever launcher built it."""
    _judge(subprocess.run([sys.executable, *ARGUMENTS, kind], check=False, text=True, capture_output=True, timeout=400))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root to become an ordinary user")
@pytest.mark.parametrize("kind", LAUNCHERS)
def test_nothing_escapes_as_an_unprivileged_user(kind: str) -> None:
    """All programs end BLOCKED in a sandbox started by a user without any privilege, whichever launcher built it."""
    _judge(as_unprivileged([*ARGUMENTS, kind], capture_output=True, timeout=400))
