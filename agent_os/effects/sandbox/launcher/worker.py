"""The last steps before the program: session, descriptors, limits, key ring, capabilities, Landlock, seccomp, exec.

Nothing may fail silently here: each step reports its name, and without each of them nothing is run.
"""

import ctypes
import errno
import fcntl
import os
import resource
import socket
import stat
import struct
import termios

from agent_os.effects.sandbox.launcher import wire
from agent_os.effects.sandbox.launcher.kernel import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    PR_SET_SECUREBITS,
    SECURE_BITS_LOCKED,
    StageError,
    call,
    libc,
    prctl,
)

CAPABILITIES_MAX = 64
FILE_ACCESS = 1 | 2 | 4 | 1 << 14 | 1 << 15  # what Landlock knows of plain files


def work(request, control, stdio, terminal):
    """Become the program. Nothing may fail silently: each step reports its name."""
    plan, stage = request["plan"], "session"
    try:
        os.setsid()
        if terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            stdio = [terminal] * 3
        stage = "descriptors"
        safe = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in stdio]
        for number, descriptor in enumerate(safe):
            os.dup2(descriptor, number, inheritable=True)
        report_to = fcntl.fcntl(control.fileno(), fcntl.F_DUPFD_CLOEXEC, 10)
        call("close_range", 3, 0xFFFFFFFF, 4)  # CLOSE_RANGE_CLOEXEC: the report socket still speaks until exec
        control = socket.socket(fileno=report_to)
        stage = "limits"
        os.umask(0o022)
        for kind, value in plan["rlimits"]:
            hard = resource.getrlimit(kind)[1]
            most = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (most, most))
        stage = "keyring"
        try:
            call("keyctl", 1, 0)
        except OSError as error:
            if error.errno != errno.ENOSYS:  # a kernel without key rings has nothing to share
                raise
        stage = "capabilities"
        drop_capabilities()
        stage = "landlock"
        restrict(plan["landlock"])
        stage = "seccomp"
        load_filter(plan)
        stage = "exec"
        if not request["argv"][0]:
            raise FileNotFoundError(errno.ENOENT, "no name", "")
        os.execvpe(request["argv"][0], request["argv"], plan["environment"])
    except StageError as error:
        wire.report(control, error)
    except OSError as error:
        wire.report(control, StageError(stage, error.errno or 0, str(error.filename or "")))
    except BaseException as error:
        wire.report(control, StageError(stage, 0, f"{type(error).__name__}: {error}"))
    os._exit(125)


def drop_capabilities():
    """Empty bounding, ambient, permitted, effective and inheritable sets, locked; then no_new_privs."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(CAPABILITIES_MAX):
        if libc.prctl(ctypes.c_int(PR_CAPBSET_DROP), *(ctypes.c_ulong(x) for x in (capability, 0, 0, 0))) != 0:
            if ctypes.get_errno() != errno.EINVAL or capability == 0:
                raise OSError(ctypes.get_errno(), "bounding set", f"capability {capability}")
            break
    prctl(PR_SET_SECUREBITS, SECURE_BITS_LOCKED)
    header, empty = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    call("capset", ctypes.c_char_p(header), ctypes.c_char_p(empty))
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def restrict(plan):
    """Load the Landlock ruleset. A rule whose path is gone is an error: the plan names what was built."""
    size = plan["size"]
    if not size:
        return
    attr = struct.pack("=QQQ", plan["handled_fs"], plan["handled_net"], plan["scoped"])[:size]
    ruleset = call("landlock_create_ruleset", ctypes.c_char_p(attr), size, 0)
    for path, access in plan["rules"]:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise StageError("landlock", error.errno, path) from None
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= FILE_ACCESS
        call("landlock_add_rule", ruleset, 1, ctypes.c_char_p(struct.pack("=Qi", access, place)), 0)
        os.close(place)
    call("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


def load_filter(plan):
    """Install the system call filter."""
    program = plan["seccomp"]
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    holder = ctypes.create_string_buffer(header, len(header))
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(holder))
