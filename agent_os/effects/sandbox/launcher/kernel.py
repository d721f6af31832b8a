"""System calls for which Python has no function, with the kernel's numbers. Raises OSError; decides nothing.

Source: Linux UAPI headers; the numbers are those of x86-64 and aarch64.
"""

import ctypes
import os
import signal
import struct

libc = ctypes.PyDLL(None, use_errno=True)
ARM = os.uname().machine == "aarch64"
NR = {
    "clone": 220 if ARM else 56,
    "pivot_root": 41 if ARM else 155,
    "keyctl": 219 if ARM else 250,
    "capset": 91 if ARM else 126,
    "open_tree": 428,
    "move_mount": 429,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}
CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWNET = 0x02000000, 0x04000000, 0x10000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 0x4000, 1 << 18
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC, ATTR_IDMAP = 1, 2, 4, 8, 0x100000
AT_EMPTY_PATH, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW = 0x1000, 0x8000, 0x100
OPEN_TREE_CLONE = 1
MOVE_FROM_EMPTY, MOVE_TO_EMPTY = 0x4, 0x40
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 2, 4, 8
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 4, 24, 28, 38
PR_SET_CHILD_SUBREAPER = 36
PR_SET_SECCOMP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 22, 47, 4
SECURE_BITS_LOCKED = 0xEF
libc.syscall.restype = ctypes.c_long


class StageError(Exception):
    """A step failed: `stage` names it, `number` is the errno (0: none)."""

    def __init__(self, stage, number=0, detail=""):
        self.stage, self.number, self.detail = stage, number, detail
        super().__init__(f"{stage}: {os.strerror(number) if number else ''} {detail}".strip())


def call(name, *arguments):
    """Make a raw system call; raises OSError."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(NR[name]), *converted)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def check(result, what):
    """Raise OSError when a C function answered -1."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def prctl(option, a=0, b=0, c=0, d=0):
    """prctl(2); raises OSError."""
    check(libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(x) for x in (a, b, c, d))), f"prctl {option}")


def clone(flags):
    """fork(2) with name space flags; returns the pid, 0 in the child. The caller is single-threaded."""
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = libc.syscall(ctypes.c_long(NR["clone"]), ctypes.c_long(flags | signal.SIGCHLD), *[ctypes.c_long(0)] * 4)
    number = ctypes.get_errno()
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, os.strerror(number), "clone")
    return pid


def openat2(directory, path, flags, resolve):
    """Open without following any link; `path` is relative to the descriptor unless absolute and BENEATH is unset."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS)
    return call("openat2", directory, ctypes.c_char_p(os.fsencode(path)), ctypes.c_char_p(how), len(how))


def set_attributes(descriptor, attributes, *, recursive, user_namespace=-1):
    """mount_setattr(2) on a mount tree, which becomes private as well."""
    attr = struct.pack("=QQQQ", attributes, 0, MS_PRIVATE, user_namespace if user_namespace >= 0 else 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    call("mount_setattr", descriptor, ctypes.c_char_p(b""), flags, ctypes.c_char_p(attr), len(attr))


def mount(source, target, kind, flags, data):
    """mount(2); raises OSError."""
    check(
        libc.mount(
            ctypes.c_char_p(source.encode()),
            ctypes.c_char_p(os.fsencode(target)),
            ctypes.c_char_p(kind.encode()) if kind else None,
            ctypes.c_ulong(flags),
            ctypes.c_char_p(data.encode()) if data else None,
        ),
        f"mount {kind}",
    )


def write_file(path, text):
    """Write to a kernel file in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
