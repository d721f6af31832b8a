"""What is done when the supervisor has died: the stand-ins of protected names are taken out of the workspace again.

`effects/sandbox/holds.py` writes the lists (a line each: inode, path) and takes them away itself in every orderly end. Here
only what is still exactly what was put there is removed, and nothing while a sandbox runs or another run holds the list.
"""

import contextlib
import errno
import fcntl
import os
import stat

from agent_os.effects.sandbox.launcher.kernel import RESOLVE_BENEATH, openat2

LIST_BYTES_MAX = 65536
STAND_IN_BYTES_MAX = 2


def take_away(kept):
    """`kept`: pairs of descriptors, a locked list and its workspace. Waits until every sandbox of this launcher is gone."""
    if not kept:
        return
    while True:
        try:
            os.wait()
        except InterruptedError:
            continue
        except ChildProcessError:
            break
    for listed, workspace in kept:
        with contextlib.suppress(OSError):  # held by another run, which will do it
            fcntl.flock(listed, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for line in reversed(os.pread(listed, LIST_BYTES_MAX, 0).splitlines()):
                inode, _, path = line.partition(b" ")
                with contextlib.suppress(OSError, ValueError):
                    remove(workspace, int(inode), path)
            os.ftruncate(listed, 0)


def remove(workspace, inode, path):
    """Remove an empty folder or file of ours; what has become the person's own stays."""
    folder, _, name = path.rpartition(b"/")
    parent = openat2(workspace, folder or b".", os.O_RDONLY | os.O_DIRECTORY, RESOLVE_BENEATH)
    try:
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if info.st_ino != inode:
            raise OSError(errno.ESTALE, "another file")
        if stat.S_ISDIR(info.st_mode):
            os.rmdir(name, dir_fd=parent)
        elif stat.S_ISREG(info.st_mode) and info.st_size <= STAND_IN_BYTES_MAX:
            os.unlink(name, dir_fd=parent)
    finally:
        os.close(parent)
