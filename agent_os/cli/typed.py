"""Answers of a person at the terminal: only what was typed after the question was shown counts. Terminal handling only.

Threat: an agent that asks so often that the answer to one ask, typed twice or too early, is taken as the answer to the next,
which nobody has read.
"""

from __future__ import annotations

import sys


def forget_typed_ahead() -> None:
    """Throw away what was typed before now; where stdin is no terminal nothing was typed."""
    import termios  # noqa: PLC0415 - only an answer needs it

    try:
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    except (termios.error, ValueError, OSError, AttributeError):  # a pipe, a closed or replaced stdin
        return
