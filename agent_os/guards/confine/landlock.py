"""Landlock rulesets: the kernel's access bits, and which of them each part of the private root gets. Pure.

A second fence with other posts: the mount tree says what exists, Landlock says what may be done there, and it also stops
signals and abstract sockets from leaving the sandbox. Source: Linux UAPI `linux/landlock.h`, ABI 1 to 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent_os.guards.confine.plan import LandlockPlan, LandlockRule, Mount

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG = 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8
MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = 1 << 9, 1 << 10, 1 << 11, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
BIND_TCP, CONNECT_TCP = 1 << 0, 1 << 1
SCOPE_ABSTRACT_UNIX, SCOPE_SIGNAL = 1 << 0, 1 << 1

READ: Final = EXECUTE | READ_FILE | READ_DIR
CHANGE: Final = (
    READ
    | WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_SYM
    | REFER
    | TRUNCATE
)
DEVICES: Final = READ_FILE | WRITE_FILE | READ_DIR | TRUNCATE | IOCTL_DEV


def handled(abi: int) -> tuple[int, int, int]:
    """Return the (file system, network, scope) bits that an ABI version knows."""
    files = (1 << 13) - 1
    files |= REFER if abi >= 2 else 0
    files |= TRUNCATE if abi >= 3 else 0
    files |= IOCTL_DEV if abi >= 5 else 0
    network = BIND_TCP | CONNECT_TCP if abi >= 4 else 0
    scopes = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL if abi >= 6 else 0
    return files, network, scopes


def plan_landlock(abi: int, mounts: Sequence[Mount], *, network_namespace: bool) -> LandlockPlan:
    """Return the ruleset for a private root. TCP is handled (with no rule: denied) only without a network of its own."""
    if abi < 1:
        return LandlockPlan()
    files, network, scopes = handled(abi)
    rules: dict[str, LandlockRule] = {"/": LandlockRule("/", READ_DIR & files, "list")}
    for mount in mounts:
        if mount.kind == "proc":
            name, access = "read", READ
        elif mount.kind == "devpts" or mount.devices or mount.target == "/dev":
            name, access = "devices", DEVICES
        elif mount.kind == "file" and mount.mode:
            name, access = "read", READ_FILE
        elif mount.kind in ("bind", "tmpfs", "overlay") and mount.mode:
            name, access = ("change", CHANGE) if mount.writable else ("read", READ)
        else:
            continue
        if mount.hold:
            continue
        rules[mount.target] = LandlockRule(mount.target, access & files, name)
    return LandlockPlan(abi, files, 0 if network_namespace else network, scopes, tuple(rules.values()))
