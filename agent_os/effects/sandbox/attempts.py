"""Whether anything inside a sandbox without a network tried to use one. Reads one file of the kernel, writes nothing.

A program in an empty network sees a name that does not resolve or an address without a route, and says so in its own words;
nobody is asked and nothing is recorded, because nothing of ours is on the way. The kernel counts these attempts for each
network name space. The launcher opens the file before the program starts, which keeps its counters readable after its end. It is
for the person at the command line: nothing is decided by it.
"""

from __future__ import annotations

import os
from typing import Final

COUNTERS_BYTES_MAX: Final = 16384
_TRIED: Final = frozenset({("Ip", "OutNoRoutes"), ("Udp", "NoPorts")})
"""No route to an address, and a question to a name server that is not there."""


class Attempts:
    """The counters of one sandbox's network. `close` after reading; both are safe to call at any time."""

    def __init__(self, counters: int) -> None:
        """Take the open `/proc/<pid>/net/snmp` of a process inside."""
        self._file = counters

    def any(self) -> bool:
        """Return whether something inside asked for a name or an address; False when it cannot be told."""
        if self._file < 0:
            return False
        try:
            text = os.pread(self._file, COUNTERS_BYTES_MAX, 0).decode("ascii", "replace")
        except OSError:
            return False
        return tried(text)

    def close(self) -> None:
        """Let go of the counters."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def tried(text: str) -> bool:
    """Return whether counters in the form of `/proc/net/snmp` (a line of names, a line of numbers) show an attempt."""
    names: list[str] = []
    for line in text.splitlines():
        protocol, _, rest = line.partition(":")
        fields = rest.split()
        if fields and not fields[0].lstrip("-").isdecimal():
            names = fields
            continue
        for name, number in zip(names, fields, strict=False):
            if (protocol, name) in _TRIED and number != "0":
                return True
    return False
