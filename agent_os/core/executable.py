"""The program behind a connection. Pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Executable:
    """The program behind a connection, or the lack of one.

    `path` is absolute; `ancestors` are the executables of its parent processes, nearest first; `digest` is
    `sha256:…` or empty; `script` is the file an interpreter runs, or empty.
    """

    path: str
    ancestors: tuple[str, ...] = ()
    digest: str = ""
    script: str = ""
