"""Mount trees made outside the sandbox, and the user name spaces that map their owners. Runs in the launcher.

The threat: a path that a sandbox swaps for a link while it is opened; `openat2` follows none. As root every workspace tree
is owner-mapped, so that no file inside belongs to an id the host knows.
"""

import ctypes
import os
import secrets

from agent_os.effects.sandbox.launcher import wire
from agent_os.effects.sandbox.launcher.kernel import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    ATTR_IDMAP,
    CLONE_NEWUSER,
    OPEN_TREE_CLONE,
    call,
    clone,
    openat2,
    set_attributes,
    write_file,
)

TRANSIENT_IDS_FROM, TRANSIENT_IDS = 0x70000000, 0x0F000000


def clone_tree(step, id_space):
    """Return a detached copy of a bind's source with its flags set; `id_space(uid, gid)` gives a user name space."""
    recursive = bool(step["options"] & wire.RECURSIVE)
    source = openat2(-100, step["source"], os.O_PATH, 0)
    try:
        flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
        tree = call("open_tree", source, ctypes.c_char_p(b""), flags)
    finally:
        os.close(source)
    attributes = step["attributes"]
    if step["options"] & wire.IDMAPPED and id_space:
        space = id_space(step["uid"], step["gid"])
        set_attributes(tree, attributes | ATTR_IDMAP, recursive=recursive, user_namespace=space)
    else:
        set_attributes(tree, attributes, recursive=recursive)
    return tree


class IdSpaces:
    """User name spaces that only carry an owner mapping (host id -> the sandbox's transient id) for idmapped mounts."""

    def __init__(self, uid, gid):
        self.uid, self.gid, self.known = uid, gid, {}

    def __call__(self, uid, gid):
        if (uid, gid) not in self.known:
            hold_read, hold_write = os.pipe2(os.O_CLOEXEC)
            pid = clone(CLONE_NEWUSER)
            if pid == 0:
                os.close(hold_write)
                os.read(hold_read, 1)
                os._exit(0)
            try:
                write_file(f"/proc/{pid}/uid_map", f"{uid} {self.uid} 1")
                write_file(f"/proc/{pid}/gid_map", f"{gid} {self.gid} 1")
                self.known[uid, gid] = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                os.close(hold_read)
                os.close(hold_write)
        return self.known[uid, gid]

    def close(self):
        for descriptor in self.known.values():
            os.close(descriptor)


def transient_spaces():
    """Draw the transient id of one sandbox and return its owner mappings; the usual one is made at once."""
    transient = TRANSIENT_IDS_FROM + secrets.randbelow(TRANSIENT_IDS)
    spaces = IdSpaces(transient, transient)
    spaces(0, 0)
    return spaces
