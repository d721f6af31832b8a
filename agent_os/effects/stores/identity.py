"""Who this process runs as: real uid, its name and its groups, from the kernel and the user database."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """A person on this machine. `groups` are `group:<name>`, as a policy's `approvals.approvers` writes them."""

    uid: int
    user: str
    groups: frozenset[str]


def current_identity() -> Identity:
    """Return the identity of the real uid (never the effective one, never the environment)."""
    return identity_of(os.getuid())


def identity_of(uid: int) -> Identity:
    """Return the identity of a uid; one without an entry in the user database is `uid:<n>`."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Identity(uid, f"uid:{uid}", frozenset())
    names = set()
    for gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        try:
            names.add("group:" + grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return Identity(uid, entry.pw_name, frozenset(names))
