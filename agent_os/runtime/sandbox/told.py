"""What `agentos run` tells the person beside the program's own words: what was denied, what is missing, what to do next.

A program in a sandbox says what it saw ("could not resolve host", "no such file"), which reads like a broken machine. These
lines say which rule it met and the command or the policy line that changes it. Nothing is decided here.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from agent_os.effects.sandbox.running import Ended
from agent_os.guards.confine import SandboxPlan
from agent_os.guards.confine.inputs import within

if TYPE_CHECKING:
    from agent_os.effects.proxy import EgressGuard

DENIALS_SHOWN_MAX: Final = 5
"""Kinds of denials of the network guard that are shown at the end of a run."""
NOT_FOUND: Final = 127
_LIMITS: Final = {
    "wall-clock limit": "process.limits.wall_time",
    "output limit": "process.limits.output",
    "memory limit": "process.limits.memory",
    "disk limit": "process.limits.disk (or filesystem_policy.quota)",
}
_SIGNALS: Final = {
    128 + signal.SIGXFSZ: "filesystem_policy.max_file_bytes, the size of one file,",
    128 + signal.SIGXCPU: "process.limits.cpu_time",
}
_MAKES_REPOSITORY: Final = re.compile(r"\bgit\b[^;&|]*\b(init|clone)\b")
_PROGRAM_FOLDERS: Final = frozenset({"bin", "sbin", "Scripts"})


def tell(line: str) -> None:
    """Show a line to the person, also while their terminal is the program's."""
    sys.stderr.write(f"agentos: {line}\r\n" if sys.stderr.isatty() else f"agentos: {line}\n")
    sys.stderr.flush()


def of_guard(guard: EgressGuard, policies: Sequence[str]) -> list[str]:
    """Return what the network guard met, for the person: not every program shows why it was answered 403 or 502."""
    if guard.parts is None:
        return []
    observe = guard.parts.observe
    lead = "not allowed by the policy" if observe else "denied by policy"
    denials, unreached = guard.parts.denials, guard.parts.unreached
    from agent_os.effects.proxy.answers import spoken  # noqa: PLC0415 - the guard's code only where there is a network

    lines = [f"{lead}: {spoken(what)}{_times(count)}" for what, count in denials.most_common(DENIALS_SHOWN_MAX)]
    more = len(denials) - len(lines)
    if more > 0:
        lines.append(f"and {more} other kinds of denials: the flow log has them")
    lines += [f"not reached: {spoken(what)}{_times(count)}" for what, count in unreached.most_common(DENIALS_SHOWN_MAX)]
    named = " ".join(_shown(name) for name in policies)
    if denials and observe:
        lines.append(f"observed: the rules that would allow it: agentos policy learn {named} --observed")
    elif denials:
        lines.append(
            f"to allow it: run it with --observe, then read what `agentos policy learn {named} --observed` proposes"
        )
    return lines


def _times(count: int) -> str:
    return f" ({count} times)" if count > 1 else ""


def of_no_network(policies: Sequence[str]) -> list[str]:
    """Return what to say when a program wanted a network and the policy opens none."""
    named = ", ".join(policies)
    return [
        f"the program asked for the network, and the policy ({named}) opens none: name hosts under network_policies, or",
        "         let `agentos run --observe -- ...` find out which it needs, then `agentos policy learn ... --observed`",
    ]


def of_end(ended: Ended, plan: SandboxPlan, argv: Sequence[str]) -> str:
    """Return what to say of a run that met a limit or a held name: the line of a policy that changes it. Empty: nothing."""
    limit = _LIMITS.get(ended.reason) or _SIGNALS.get(ended.returncode, "")
    if limit:
        return f"to allow more: {limit} of the policy (what is in force: agentos run --plan)"
    held = any(mount.hold and mount.target == f"{plan.workspace}/.git" for mount in plan.mounts)
    if ended.returncode and held and _MAKES_REPOSITORY.search(" ".join(argv)):
        return (
            "no repository can be made at the root of the workspace by a program, its hooks would run with your rights: run"
            " `git init` yourself, make it in a folder below, or let the name go: filesystem_policy: {protect_except: [.git]}"
        )
    return ""


def of_missing_program(program: str, plan: SandboxPlan) -> str:
    """Return why a program is not found inside the sandbox, and the line of a policy that shows it."""
    if "/" in program:
        path = os.path.normpath(os.path.join(plan.cwd, program))
        if not os.path.exists(path):
            return f"{program}: no such program"
    else:
        path = shutil.which(program) or ""
        if not path:
            return f"{program}: no such program, neither inside the sandbox nor outside"
    if any(within(path, mount.target) for mount in plan.mounts if mount.kind == "bind" and not mount.hold):
        return (
            f"{program}: not found inside the sandbox: {path}, or the interpreter of its first line, is not shown there"
        )
    folder = _installation(path)
    return (
        f"{program}: not found inside the sandbox. Outside it is {path}, which the policy does not show:"
        f" filesystem_policy: {{read_only: [{_shown(folder)}]}}"
    )


def _installation(path: str) -> str:
    """Return the folder that has to be seen for a program to run: its installation's (`/opt/x` of `/opt/x/bin/tool`)."""
    folder = os.path.dirname(path)
    above = os.path.dirname(folder)
    whole = os.path.basename(folder) in _PROGRAM_FOLDERS and above not in ("/", os.path.expanduser("~"))
    return above if whole and not above.endswith(("/.local", "/local")) else folder


def _shown(name: str) -> str:
    return name if all(each.isalnum() or each in "/._-:+@%" for each in name) else repr(name)
