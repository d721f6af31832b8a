"""Aligned columns for people: plain text to a pipe, colours and cut lines on a terminal. Output only.

Fast enough for tens of thousands of rows. Threat: text that an agent wrote and that drives the terminal; every cell is made
harmless here, so that no verb forgets it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

import typer

from agent_os.cli.approvals_show import printable

Cell = str | tuple[str, str]
"""A text, or a text with the name of its colour."""
GAP = "  "


def columns(header: Sequence[str], rows: Sequence[Sequence[Cell]], *, width: int | None = None) -> list[str]:
    """Return a heading and a line for each row; columns that are empty everywhere are left out.

    `width` cuts lines to so many characters (default: the terminal's, none where stdout is no terminal).
    """
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    plain = [[_harmless(cell if isinstance(cell, str) else cell[0]) for cell in row] for row in rows]
    kept = [place for place in range(len(header)) if any(row[place] for row in plain)]
    widths = {place: max(len(header[place]), *(len(row[place]) for row in plain)) for place in kept}
    sizes, colours = [widths[place] for place in kept], coloured()
    lines = [_line([(header[place], "bright_black") for place in kept], sizes, width, colours)]
    for row, texts in zip(rows, plain, strict=True):
        cells = [(texts[place], "" if isinstance(row[place], str) else row[place][1]) for place in kept]
        lines.append(_line(cells, sizes, width, colours))
    return lines


def echo_columns(header: Sequence[str], rows: Sequence[Sequence[Cell]], empty: str) -> None:
    """Print rows under a heading, or what is said where there are none."""
    for line in columns(header, rows) if rows else [empty]:
        typer.echo(line)


def coloured() -> bool:
    """Return whether what is printed goes to a terminal that wants colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _harmless(text: str) -> str:
    return text if text.isascii() and text.isprintable() else printable(text)


def _line(cells: Sequence[tuple[str, str]], widths: Sequence[int], width: int, colours: bool) -> str:
    shown: list[str] = []
    left = width or sys.maxsize
    for place, ((text, colour), size) in enumerate(zip(cells, widths, strict=True)):
        last = place == len(cells) - 1
        padded = text if last else f"{text:<{size}}"
        if len(padded) > left:
            padded = padded[: max(0, left - 1)] + ("…" if left > 0 else "")
        left -= len(padded) + len(GAP)
        shown.append(typer.style(padded, fg=colour) if colour and colours else padded)
        if left <= 0:
            break
    return GAP.join(shown).rstrip() if not colours else GAP.join(shown)
