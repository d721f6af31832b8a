"""`make escape`: every escape program through both launchers, as this user and, where this user is root, as another too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unittest

from agent_os.effects.native import COMPILERS

UNPRIVILEGED = 65534
LAUNCHERS = ("compiled", "python") if any(map(shutil.which, COMPILERS)) else ("python",)
SYSTEM_PYTHON = "/usr/bin/python3"


def main() -> None:
    """Run the report once for each launcher and kind of user; status 1 if anything escaped."""
    status = 0
    for kind in LAUNCHERS:
        arguments = ["-m", "tests.e2e.escape.runner", "--launcher", kind, *sys.argv[1:]]
        status |= subprocess.run([sys.executable, *arguments], check=False).returncode
        if os.geteuid() == 0 and shutil.which("setpriv"):
            status |= as_unprivileged(arguments).returncode
    sys.exit(status)


def as_unprivileged(arguments: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run this project's Python as an ordinary user; the interpreter must be one that this user may read."""
    python = sys.executable if os.access(sys.executable, os.X_OK) and _open_to_all(sys.executable) else SYSTEM_PYTHON
    if python == SYSTEM_PYTHON and _version(python) != "{}.{}".format(*sys.version_info[:2]):
        raise unittest.SkipTest(f"an ordinary user may not read {sys.executable}, and {python} is of another version")
    path = os.pathsep.join([os.getcwd(), *(entry for entry in sys.path if entry.endswith("site-packages"))])
    command = [
        "setpriv",
        f"--reuid={UNPRIVILEGED}",
        f"--regid={UNPRIVILEGED}",
        "--clear-groups",
        python,
        "-B",
        *arguments,
    ]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "HOME": "/tmp", "LANG": "C.UTF-8"}
    return subprocess.run(command, env=environment, check=False, text=True, **options)  # type: ignore[call-overload]


def _version(python: str) -> str:
    said = "import sys; print(*sys.version_info[:2], sep='.')"
    return subprocess.run([python, "-c", said], capture_output=True, text=True, check=False).stdout.strip()


def _open_to_all(path: str) -> bool:
    real = os.path.realpath(path)
    while real != "/":
        if not os.stat(real).st_mode & 0o005:
            return False
        real = os.path.dirname(real)
    return True


if __name__ == "__main__":
    main()
