"""Escape programs: each tries one way out of the sandbox and prints ESCAPED or BLOCKED. Runs INSIDE; standard library only.

`python attack NAME` runs one, `python attack --list` prints a line a program: name, flags. Flags: `control` runs outside too, where
it must print ESCAPED (so that BLOCKED means the fence, not a mistake in the program); `outside` is judged by the harness as
well (the program may be killed, or the effect comes later). Facts of the world outside come in variables `T_*`.
"""

import importlib
import subprocess
import sys

import common

for part in ("files", "protected", "mounts", "processes", "network", "resources"):
    importlib.import_module(part)


def main():
    if sys.argv[1] == "--list":
        for name in common.PROGRAMS:
            print(name, *common.FLAGS[name])
        return
    try:
        escaped = common.PROGRAMS[sys.argv[1]]()
    except (OSError, MemoryError, subprocess.SubprocessError) as error:
        print("BLOCKED", type(error).__name__, getattr(error, "strerror", "") or "")
    else:
        print("ESCAPED" if escaped else "BLOCKED")


if __name__ == "__main__":
    main()
