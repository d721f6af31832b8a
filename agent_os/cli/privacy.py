"""`agentos privacy`: find, redact and restore personal data and secrets on stdin or in a directory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def _root() -> None:
    """Find, redact and restore personal data and secrets."""


def _documents(lines: bool) -> Iterator[str]:
    data = sys.stdin.buffer
    if lines:
        for line in data:
            yield line.decode("utf-8", "replace").rstrip("\r\n")
    else:
        yield data.read().decode("utf-8", "replace")


@app.command()
def scan(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a document.")] = False,
    lines: Annotated[bool, typer.Option("--lines", help="Every line of the input is a document.")] = False,
    minimum: Annotated[float, typer.Option("--min-score", help="Report findings at least this sure.")] = 0.0,
) -> None:
    """Print what is found in the text on stdin; offsets are characters of the text as given."""
    from agent_os.runtime.privacy import local_detector  # noqa: PLC0415

    detector = local_detector()
    out = sys.stdout
    for number, text in enumerate(_documents(lines), 1):
        found = [item for item in detector.scan_text(text) if item.score >= minimum]
        if as_json:
            rows = [
                {"type": item.type, "start": item.start, "end": item.end, "score": item.score, "by": item.by}
                for item in found
            ]
            out.write(json.dumps({"findings": rows}, separators=(",", ":")) + "\n")
            if lines:
                out.flush()
        else:
            for item in found:
                place = f"{number}:" if lines else ""
                out.write(f"{place}{item.start}-{item.end}\t{item.type}\t{item.score:.2f}\t{item.by}\n")


__all__ = ["app", "scan"]
