"""Which script an interpreter says it runs, by its command line. Pure: words in, a path out.

A command line is the process's own word: it can only narrow what an executable may do, and code that runs in the interpreter
can say anything. What is refused here is what costs an attacker nothing: code or modules named in options (`-c`, `-m`, `-r`, in
clusters and joined to their value), options nobody here knows, a relative name (whoever starts in one folder and changes to
another would be another script), a path with `..` (a link in it leads elsewhere). Then there is no script, and a rule that names
one does not match.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

INTERPRETER: Final = re.compile(r"(python|node|nodejs|deno|bun|bash|dash|sh|zsh|perl|ruby|php|lua)[0-9.]*")
_SHELL: Final = re.compile(r"-[eufxvC]+|-o|\+o|pipefail|--(?:norc|noprofile|posix)")
_BARE: Final = re.compile(r"-[wWT]+")
_RUNS: Final = re.compile(r"run|-[Aq]|--(?:allow-[a-z]+(?:=\S+)?|no-prompt|quiet|cached-only|no-remote)")
_HARMLESS: Final = {
    "python": re.compile(
        r"-[BEIOPsSubqvdR]+|-W(?:ignore|default|error|always|module|once)"
        r"|-X(?:utf8(?:=[01])?|dev|faulthandler|importtime|int_max_str_digits=[0-9]+)"
    ),
    "node": re.compile(
        r"--(?:no-warnings|enable-source-maps|use-env-proxy|use-system-ca|no-deprecation|trace-warnings"
        r"|max-old-space-size=[0-9]+|stack-size=[0-9]+)"
    ),
    **dict.fromkeys(("bash", "dash", "sh", "zsh"), _SHELL),
    **dict.fromkeys(("perl", "ruby", "php", "lua"), _BARE),
    **dict.fromkeys(("deno", "bun"), _RUNS),
}  # fmt: skip
"""By interpreter, the words before a script that bring in no other code."""
_WITH_VALUE: Final = {"python": frozenset({"-W", "-X"})}


def script_of(program: str, arguments: Sequence[str]) -> str:
    """Return the absolute path of the script that an interpreter runs, or an empty text where that is not plain.

    `program` is the executable's base name, `arguments` its command line without its own name.
    """
    known = INTERPRETER.fullmatch(program)
    if known is None:
        return ""
    family = "node" if known[1] == "nodejs" else known[1]
    words = iter(arguments)
    for word in words:
        joined = word + next(words, "") if word in _WITH_VALUE.get(family, ()) else word
        if _HARMLESS[family].fullmatch(joined):
            continue
        plain = word.startswith("/") and not any(part in ("..", ".") for part in word.split("/"))
        return word if plain else ""
    return ""
