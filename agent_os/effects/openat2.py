"""The `openat2` system call (Linux 5.6), which Python does not wrap. No policy here.

Threat: between the check of a path and its use, someone swaps a directory for a symbolic link. With RESOLVE_BENEATH,
RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS the kernel itself refuses to leave the root or to follow a link, in one
atomic step (openat2(2), Documentation/filesystems/path-lookup.rst). Where the call is missing, everything that needs
it fails: there is no fallback.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from typing import Final

from agent_os.core.errors import EnforcementError

RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
AT_FDCWD: Final = -100
RETRIES_MAX: Final = 32
"""EAGAIN says that a rename raced with the lookup; after so many the lookup fails."""
_SYS_OPENAT2: Final = 437
"""The same number on every architecture (numbers were unified before Linux 5.6)."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def openat2(directory: int, path: str, flags: int, *, resolve: int, mode: int = 0) -> int:
    """Open `path` relative to a directory descriptor and return a new descriptor (always close-on-exec).

    Raises OSError as `open` does (ELOOP for a link, EXDEV for leaving the root), EnforcementError where the kernel
    or a sandbox does not offer the call.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    name = os.fsencode(path)
    for _ in range(RETRIES_MAX):
        descriptor = _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(directory),
            ctypes.c_char_p(name),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if descriptor >= 0:
            return int(descriptor)
        code = ctypes.get_errno()
        if code == errno.ENOSYS:
            raise EnforcementError(["openat2"], f"needs Linux 5.6 or later, this is {platform.release()}")
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), path)


def require_openat2() -> None:
    """Raise EnforcementError unless `openat2` works in this process."""
    try:
        os.close(openat2(AT_FDCWD, "/", os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_NO_MAGICLINKS))
    except OSError as error:
        raise EnforcementError(["openat2"], f"the call fails with {errno.errorcode.get(error.errno or 0)}") from None
