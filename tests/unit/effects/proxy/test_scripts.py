"""The script of an interpreter: told where it is plain, and nothing where a command line could say another than it runs."""

from __future__ import annotations

import pytest

from agent_os.effects.proxy.scripts import script_of

GOOD = "/jobs/good.py"
TOLD = {
    "python": ("python3.11", [GOOD]),
    "with arguments of its own": ("python3", [GOOD, "-c", "x"]),
    "harmless options": ("python3", ["-I", "-BE", "-W", "ignore", "-Wdefault", "-X", "utf8", "-Xdev", GOOD]),
    "node": ("node", ["--no-warnings", "--max-old-space-size=64", GOOD]),
    "a shell": ("bash", ["-eu", "-o", "pipefail", GOOD]),
    "perl": ("perl5.36", ["-w", GOOD]),
    "deno": ("deno", ["run", "--allow-net=a.test", GOOD]),
}
SPOOFED = {
    "code": ("python3", ["-c", "evil()", GOOD]),
    "code joined to its option": ("python3", ["-cevil()", GOOD]),
    "code in a cluster": ("python3", ["-Ic", "evil()", GOOD]),
    "a module": ("python3", ["-mevil", GOOD]),
    "a module in a cluster": ("python3", ["-Bm", "evil", GOOD]),
    "compiled files of another folder": ("python3", ["-X", "pycache_prefix=/tmp/evil", GOOD]),
    "a warning category that is imported": ("python3", ["-W", "error::evil.Category", GOOD]),
    "an option nobody knows": ("python3", ["--new-option", GOOD]),
    "a relative name": ("python3", ["good.py"]),
    "a path through a link": ("python3", ["/jobs/link/../good.py"]),
    "standard input": ("python3", ["-", GOOD]),
    "nothing": ("python3", []),
    "code of node": ("node", ["--eval=evil()", GOOD]),
    "a preloaded module of node": ("node", ["-r", "/tmp/evil.js", GOOD]),
    "an imported module of node": ("node", ["--import=/tmp/evil.mjs", GOOD]),
    "a shell's command": ("bash", ["-ec", "evil", GOOD]),
    "a shell's start file": ("bash", ["--rcfile", "/tmp/evil", GOOD]),
    "a module of perl": ("perl", ["-MEvil", GOOD]),
    "code of ruby": ("ruby", ["-e", "evil", GOOD]),
    "a subcommand": ("deno", ["eval", "evil()", GOOD]),
    "a preloaded module of deno": ("deno", ["run", "--preload=/tmp/evil.ts", GOOD]),
    "no interpreter": ("curl", [GOOD]),
    "a name that begins like one": ("python3-evil", [GOOD]),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_plain_command_line_names_its_script(name: str) -> None:
    """Options that bring in no other code do not hide it."""
    assert script_of(*TOLD[name]) == GOOD


@pytest.mark.parametrize("name", SPOOFED)
def test_what_could_be_another_script_is_none(name: str) -> None:
    """ATTACK: a permitted script's path after options that run something else, or a name that means another file."""
    assert script_of(*SPOOFED[name]) == ""
