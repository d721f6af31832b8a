"""Names of unix sockets that may lie under a path of any length: the kernel takes 107 bytes (unix(7)).

A state directory deep below a home or a build folder would otherwise leave the guard without its control socket.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """Give a name of `path` that fits, to bind or connect to, while the context lasts: through its folder, held open."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
