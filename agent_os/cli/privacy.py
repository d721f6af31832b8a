"""`agentos privacy`: find, redact and restore personal data and secrets on stdin, or scan a directory.

Prints places and entity names, never the values found, except in the rewritten text that was asked for. The found types are
Presidio's entity names and `SECRET_<KIND>`; offsets count characters of the text as given.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from agent_os.core.facts import Finding

app = typer.Typer(no_args_is_help=True, add_completion=False)
STREAM_BYTES = 65_536

Lines = Annotated[bool, typer.Option("--lines", help="Every line of the input is a document.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a document.")]
Only = Annotated[list[str] | None, typer.Option("--only", help="Only these entities (globs, SECRET for all secrets).")]
Minimum = Annotated[float, typer.Option("--min-score", min=0, max=1, help="Only findings at least this sure.")]
Ner = Annotated[bool | None, typer.Option("--ner/--no-ner", help="Demand or leave out the language model for names.")]
Name = Annotated[str, typer.Option("--session", help="Name of the pseudonyms in the vault, for `restore`.")]


@app.callback()
def _root() -> None:
    """Find, redact and restore personal data and secrets."""


@app.command()
def scan(
    paths: Annotated[list[str] | None, typer.Argument(help="Files or directories; absent: stdin.")] = None,
    as_json: Json = False,
    lines: Lines = False,
    minimum: Minimum = 0.0,
    only: Only = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each was found.")] = False,
    as_sarif: Annotated[bool, typer.Option("--sarif", help="Print one SARIF 2.1.0 log (with paths).")] = False,
    ner: Ner = None,
) -> None:
    """Print what is found in the text on stdin, or in files; offsets are characters of the text as given."""
    detector = _detector(ner)
    _known(detector, only)
    if paths or as_sarif:
        _scan_files(detector, paths or ["."], as_json, as_sarif, minimum, only, explain)
        return
    out = sys.stdout
    for number, text in enumerate(_documents(lines), 1):
        found = _wanted(detector.scan_text(text), minimum, only)
        if as_json:
            out.write(
                json.dumps({"findings": [_row(item, text, explain, found) for item in found]}, separators=(",", ":"))
                + "\n"
            )
            if lines:
                out.flush()
        else:
            for item in found:
                out.write(_line(f"{number}:" if lines else "", item, text, explain, found))


@app.command()
def redact(
    lines: Lines = False,
    as_json: Json = False,
    minimum: Minimum = 0.35,
    only: Only = None,
    session: Name = "",
    realistic: Annotated[
        bool, typer.Option("--realistic", help="Stand-ins that look real; restoring them is best effort.")
    ] = False,
    ner: Ner = None,
) -> None:
    """Print the text on stdin with findings cut out; with --session behind pseudonyms that `restore` puts back."""
    from agent_os.guards.privacy.pseudonyms import PseudonymBook  # noqa: PLC0415
    from agent_os.guards.privacy.rewrite import pseudonymise  # noqa: PLC0415
    from agent_os.guards.privacy.rewrite import redact as cut  # noqa: PLC0415
    from agent_os.runtime.privacy import KeptBook  # noqa: PLC0415

    detector = _detector(ner)
    _known(detector, only)
    kept = KeptBook(session, realistic=realistic) if session else None
    try:
        for text in _documents(lines, "surrogateescape"):  # what is not replaced comes out byte for byte
            found = _wanted(detector.scan_text(text), minimum, only)
            if kept is not None:
                result = pseudonymise(text, found, kept.book)
                kept.save()  # before the text leaves: what is out can always be put back
            else:
                result = cut(text, found, PseudonymBook(b"\0" * 32))
            if as_json:
                sys.stdout.write(json.dumps({"text": result, "replaced": len(found)}) + "\n")
            else:
                _write(result + ("\n" if lines else ""))
    finally:
        if kept is not None:
            kept.close()


@app.command()
def restore(session: Name = "") -> None:
    """Copy stdin to stdout as it arrives, with the pseudonyms of a session replaced by the originals."""
    from agent_os.guards.privacy.restore import ByteRestorer  # noqa: PLC0415
    from agent_os.runtime.privacy import KeptBook  # noqa: PLC0415

    if not session:
        raise typer.BadParameter("say which pseudonyms: --session NAME", param_hint="--session")
    chunk = sys.stdin.buffer.read1(STREAM_BYTES)  # type: ignore[union-attr]
    kept = KeptBook(
        session, create=False
    )  # after the first bytes: in a pipe, `redact` has stored its pseudonyms by then
    try:
        restorer, out = ByteRestorer(kept.book), sys.stdout.buffer
        while chunk:
            out.write(restorer.feed(chunk))
            out.flush()
            chunk = sys.stdin.buffer.read1(STREAM_BYTES)  # type: ignore[union-attr]
        out.write(restorer.finish())
        out.flush()
    finally:
        kept.close()


@app.command()
def forget(session: Name = "") -> None:
    """Destroy the pseudonyms of a session: nothing can be restored any more."""
    from agent_os.runtime.privacy import KeptBook  # noqa: PLC0415

    if not session:
        raise typer.BadParameter("say which pseudonyms: --session NAME", param_hint="--session")
    kept = KeptBook(session, create=False)
    try:
        kept.forget()
    finally:
        kept.close()


def _known(detector: Any, only: list[str] | None) -> None:
    """Refuse names of entities that nothing could ever find. Raises BadParameter with the nearest one."""
    import difflib  # noqa: PLC0415

    names = {*detector.entities, "SECRET", "UNREADABLE"}
    for name in only or []:
        if name not in names and not any(char in name for char in "*?["):
            near = difflib.get_close_matches(name.upper(), names, 1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise typer.BadParameter(f"no entity is called {name!r}{hint}", param_hint="--only")


def _detector(ner: bool | None) -> Any:
    from agent_os.runtime.privacy import local_detector, names_are_reduced  # noqa: PLC0415

    if ner is None and names_are_reduced():
        sys.stderr.write(
            "agentos: no language model is installed: PERSON and LOCATION come from lists and context only "
            "(pip install 'agent-os-runtime[ner]')\n"
        )
    return local_detector(ner=ner)


def _documents(lines: bool, errors: str = "replace") -> Iterator[str]:
    data = sys.stdin.buffer
    if lines:
        for line in data:
            yield line.decode("utf-8", errors).rstrip("\r\n")
    else:
        yield data.read().decode("utf-8", errors)


def _wanted(found: Sequence[Finding], minimum: float, only: list[str] | None) -> list[Finding]:
    from agent_os.guards.privacy.rewrite import finds  # noqa: PLC0415

    return [item for item in found if item.score >= minimum and (not only or finds(only, item.type))]


def _row(item: Finding, text: str, explain: bool, found: Sequence[Finding]) -> dict[str, Any]:
    row: dict[str, Any] = {"type": item.type, "start": item.start, "end": item.end, "score": item.score, "by": item.by}
    if explain:
        from agent_os.guards.privacy.report import explanation  # noqa: PLC0415

        row["why"] = explanation(text, item, found)
    return row


def _line(prefix: str, item: Finding, text: str, explain: bool, found: Sequence[Finding]) -> str:
    line = f"{prefix}{item.start}-{item.end}\t{item.type}\t{item.score:.2f}\t{item.by}"
    if explain:
        from agent_os.guards.privacy.report import explanation  # noqa: PLC0415

        why = explanation(text, item, found)
        line += f"\t{why['how']}; before it: {' '.join(why['words_before'])}"
    return line + "\n"


def _scan_files(
    detector: Any,
    paths: list[str],
    as_json: bool,
    as_sarif: bool,
    minimum: float,
    only: list[str] | None,
    explain: bool,
) -> None:
    from agent_os import __version__  # noqa: PLC0415
    from agent_os.guards.privacy.report import line_and_column, line_starts, sarif  # noqa: PLC0415
    from agent_os.runtime.privacy import files_to_scan  # noqa: PLC0415

    results: list[tuple[str, str, list[Finding]]] = []
    progress, failed = sys.stderr.isatty(), False
    for count, file in enumerate(files_to_scan(paths), 1):
        if progress and count % 50 == 0:
            sys.stderr.write(f"\r{count} files\x1b[K")
        if file.skipped:
            sys.stderr.write(f"agentos: {file.path}: not scanned: {file.skipped}\n")
            failed = failed or file.path in paths
            continue
        found = _wanted(detector.scan_text(file.text), minimum, only)
        if as_sarif:
            results.append((file.path, file.text if found else "", found))
        elif as_json:
            rows = [_row(item, file.text, explain, found) for item in found]
            sys.stdout.write(json.dumps({"path": file.path, "findings": rows}, separators=(",", ":")) + "\n")
        else:
            starts = line_starts(file.text)
            for item in found:
                line, column = line_and_column(starts, item.start)
                sys.stdout.write(_line(f"{file.path}:{line}:{column}\t", item, file.text, explain, found))
    if progress:
        sys.stderr.write("\r\x1b[K")
    if as_sarif:
        sys.stdout.write(json.dumps(sarif(results, __version__), indent=1) + "\n")
    if failed:  # something that was asked for by name
        raise typer.Exit(1)


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()
