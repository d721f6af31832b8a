"""The environment of a sandboxed program: built from an allow-list, never inherited. Pure.

The threat: API keys, tokens and agent sockets that ride along in variables, and loader variables (`LD_PRELOAD`,
`PYTHONPATH`, `NODE_OPTIONS`, `GIT_*`) that steer programs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from agent_os.core.errors import EffectError

PASSED: Final = ("TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "LANG", "LANGUAGE", "TZ", "COLUMNS", "LINES", "CI")
PASSED_PREFIXES: Final = ("LC_",)
NEVER: Final = re.compile(
    r"^(LD_.*|DYLD_.*|GLIBC_TUNABLES|BASH_ENV|ENV|BASH_FUNC_.*|SHELLOPTS|PS4|PROMPT_COMMAND|IFS"
    r"|DBUS_.*|SSH_AUTH_SOCK|SSH_AGENT_PID|GPG_AGENT_INFO|XAUTHORITY|DISPLAY|WAYLAND_DISPLAY|DOCKER_HOST|AGENTOS_.*)$"
)
"""Names that are refused even when asked for: they reach a service outside or steer the loader before any guard."""
ENVIRONMENT_NAMES_MAX: Final = 256
VALUE_BYTES_MAX: Final = 32_768
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class EnvironmentNameError(EffectError):
    """A name that may never be passed into a sandbox was asked for; the message names it."""


def sandbox_environment(
    outside: Mapping[str, str],
    *,
    home: str,
    user: str,
    workspace: str,
    path: str = DEFAULT_PATH,
    extra_names: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the environment: fixed names, the allow-list from `outside`, then `extra_names` and explicit `values`.

    Raises EnvironmentNameError for a name in NEVER, and for too many names or too long a value.
    """
    result = {
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/sh",
        "PATH": path,
        "TMPDIR": "/tmp",  # noqa: S108 - the private one
        "PWD": workspace,
        "LANG": "C.UTF-8",
        "AGENTOS_SANDBOX": "1",
    }
    for name, value in outside.items():
        if name in PASSED or name.startswith(PASSED_PREFIXES):
            result[name] = value
    for name in extra_names:
        if NEVER.match(name):
            raise EnvironmentNameError(f"{name} may not be passed into a sandbox")
        if name in outside:
            result[name] = outside[name]
    for name, value in (values or {}).items():
        if NEVER.match(name) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise EnvironmentNameError(f"{name} may not be passed into a sandbox")
        result[name] = value
    if len(result) > ENVIRONMENT_NAMES_MAX:
        raise EnvironmentNameError(f"more than {ENVIRONMENT_NAMES_MAX} names")
    for name, value in result.items():
        if len(value.encode(errors="surrogateescape")) > VALUE_BYTES_MAX or "\0" in value:
            raise EnvironmentNameError(f"the value of {name} is longer than {VALUE_BYTES_MAX} bytes or holds a NUL")
    return result
