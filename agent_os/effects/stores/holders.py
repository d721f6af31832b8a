"""Which processes hold something in `state.db` (reservations, claimed keys), and whether they still live.

A holder is a process of this machine: pid, its start time and the boot. Threat: a pid reused after a crash or a
restart of the machine that passes for the dead holder.
"""

from __future__ import annotations

import os
import secrets
import time
from typing import Any, Final

ANCESTORS_MAX: Final = 256
COMMAND_BYTES_MAX: Final = 4_096
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS holder(
  id TEXT PRIMARY KEY, pid INTEGER NOT NULL, started TEXT NOT NULL, boot TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID
"""


def boot() -> str:
    """Return the id of this boot of this machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def started(pid: int) -> str:
    """Return when a process started (ticks since boot), or an empty string when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def register(connection: Any) -> str:
    """Enter this process and return its holder id."""
    holder = "hld_" + secrets.token_hex(8)
    pid = os.getpid()
    connection.execute("INSERT INTO holder VALUES(?,?,?,?,?)", (holder, pid, started(pid), boot(), time.time()))
    return holder


def gone(connection: Any) -> list[str]:
    """Return the ids of holders whose process has ended."""
    here = boot()
    rows = connection.execute("SELECT id, pid, started, boot FROM holder").fetchall()
    return [holder for holder, pid, start, booted in rows if booted != here or started(pid) != start]


def alive(connection: Any, holder: str) -> bool:
    """Return whether a holder's process still runs."""
    row = connection.execute("SELECT pid, started, boot FROM holder WHERE id=?", (holder,)).fetchone()
    return row is not None and row[2] == boot() and started(row[0]) == row[1]


def pids(connection: Any) -> set[int]:
    """Return the pids of the live holders."""
    here = boot()
    rows = connection.execute("SELECT pid, started, boot FROM holder").fetchall()
    return {pid for pid, start, booted in rows if booted == here and started(pid) == start}


def command(pid: int) -> str:
    """Return what a process of this machine was started as, short; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(COMMAND_BYTES_MAX).decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    if words[1:3] == ["-m", "agent_os"]:
        words = ["agentos", *words[3:]]
    return " ".join(os.path.basename(word) if place == 0 else word for place, word in enumerate(words) if word)[:60]


def leave(connection: Any, holder: str) -> None:
    """Remove a holder at its orderly end."""
    connection.execute("DELETE FROM holder WHERE id=?", (holder,))


class Holders:
    """The holders of one machine, whose kernel says who lives; `stores/shared.py` has those of several."""

    def gone(self, connection: Any) -> list[str]:
        """Return the ids of holders that have ended."""
        return gone(connection)

    def leave(self, connection: Any, holder: str) -> None:
        """Remove a holder."""
        leave(connection, holder)


def ancestors(pid: int | None = None) -> list[int]:
    """Return the pids above a process (default: this one), nearest first."""
    above: list[int] = []
    current = os.getpid() if pid is None else pid
    while current > 1 and len(above) < ANCESTORS_MAX:
        try:
            with open(f"/proc/{current}/stat", encoding="ascii", errors="replace") as file:
                current = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
        above.append(current)
    return above
