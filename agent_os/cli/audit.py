"""`agentos audit`: tail, show, verify, export, ship, checkpoint. Reads only; needs neither a policy nor a running agent."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from agent_os.runtime.audit import AuditReader

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Read, verify and export the audit.")
POLL_SECONDS: Final = 0.3
JSON = typer.Option(False, "--json", help="Print JSON.")
WRITER = typer.Option(None, "--writer", help="Only this writer's log.")
ROOT = typer.Option(None, "--root", help="Another directory with an audit (a second sink, a copy), same keys.")


def _open(root: Path | None) -> AuditReader:
    from agent_os.runtime.audit import open_audit  # noqa: PLC0415

    return open_audit(root)


def _line(record: Mapping[str, Any]) -> str:
    from agent_os.audit.export import moment, target  # noqa: PLC0415

    action = record.get("action")
    kind = action.get("kind", "") if isinstance(action, Mapping) else ""
    parts = [moment(record) or "-", f"{record.get('writer')}:{record.get('seq')}", str(record.get("type"))]
    parts += [part for part in (kind, target(record)) if part]
    if record.get("type") == "outcome":
        parts.append("ok" if record.get("ok") else f"failed: {record.get('error', '?')}")
    if record.get("rules"):
        parts.append("by " + " ".join(record["rules"]))
    elif record.get("type") == "denied" and record.get("reason"):
        parts.append(str(record["reason"]))
    if record.get("ref"):
        parts.append(str(record["ref"]))
    return "  ".join(_printable(part) for part in parts)


def _printable(text: str) -> str:
    """Return text without control characters, so that nothing recorded can drive the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _print(record: Mapping[str, Any], as_json: bool) -> None:
    from agent_os.core.canonical import json_bytes  # noqa: PLC0415

    typer.echo(json_bytes(record).decode() if as_json else _line(record))


@app.command()
def tail(
    count: int = typer.Option(20, "-n", "--lines", min=0, help="How many records."),
    follow: bool = typer.Option(False, "-f", "--follow", help="Go on as records are written."),
    writer: str | None = WRITER,
    root: Path | None = ROOT,
    as_json: bool = JSON,
) -> None:
    """Print the last records."""
    reader = _open(root)
    follower = reader.follow(writer) if follow else None
    for record in reader.tail(count, writer):
        _print(record, as_json)
    while follower is not None:
        time.sleep(POLL_SECONDS)
        for record in follower.poll():
            _print(record, as_json)
        sys.stdout.flush()


@app.command()
def show(
    reference: str = typer.Argument(help="A reference (act_…), a session, or writer:seq."),
    root: Path | None = ROOT,
    as_json: bool = JSON,
) -> None:
    """Print every record of one action or session in full."""
    import json  # noqa: PLC0415

    from agent_os.audit.view import Overview  # noqa: PLC0415

    overview, found = Overview(), []
    for record in _open(root).records():
        overview.add(record)
        place = f"{record.get('writer')}:{record.get('seq')}"
        if reference in (record.get("ref"), record.get("session"), record.get("approval"), place):
            found.append(record)
    if not found:
        typer.echo(f"agentos: no record of {reference!r}", err=True)
        raise typer.Exit(1)
    for record in found:
        if as_json:
            _print(record, True)
        else:
            typer.echo(json.dumps(record, indent=2, sort_keys=True))
    states = {
        ref: overview.actions[ref].state for ref in (str(each.get("ref")) for each in found) if ref in overview.actions
    }
    for ref, state in states.items():
        if not as_json and state != "finished":
            typer.echo(f"{ref}: {state}: no outcome is recorded", err=True)


@app.command()
def verify(
    writer: str | None = WRITER,
    against: list[Path] = typer.Option([], "--against", help="A file with checkpoints kept elsewhere."),
    root: Path | None = ROOT,
    state: list[Path] = typer.Option(
        [],
        "--state",
        help="The state directory of another machine: verified with its own keys, and together with this one.",
    ),
    as_json: bool = JSON,
) -> None:
    """Check every log; exit 1 and name the first record that was edited, dropped, moved, inserted or cut off.

    With `--state` the logs of several machines: each chain by itself, and that no approval was used twice over all of them.
    """
    from agent_os.core.canonical import json_bytes  # noqa: PLC0415

    readers = [("", _open(root)), *((str(each), _of_machine(each)) for each in state)]
    found = [
        (where, reader.report(name, against))
        for where, reader in readers
        for name in ([writer] if writer is not None else reader.writers())
    ]
    reports = [report for _, report in found]
    twice = _together(readers) if state else []
    if as_json:
        whole = {
            "ok": bool(reports) and all(each.ok for each in reports) and not twice,
            "writers": [{**each.to_json(), **({"state": where} if where else {})} for where, each in found],
            **({"together": twice} if state else {}),
        }
        typer.echo(json_bytes(whole).decode())
    for where, report in () if as_json else found:
        head = (
            f"{where + '/' if where else ''}{report.writer}: {report.records} records ({report.first} to {report.last})"
        )
        if report.ok:
            tail_note = f", {report.unanchored} after the last checkpoint" if report.unanchored else ""
            typer.echo(f"{head}: verified, checkpoint at {report.anchored}{tail_note}")
        else:
            typer.echo(f"{head}: NOT VERIFIED")
        for fault in report.faults:
            typer.echo(f"  first bad: {fault}")
        for note in report.notes:
            typer.echo(f"  note: {note}")
    if state and not as_json:
        for said in twice:
            typer.echo(f"together: NOT VERIFIED: {said}")
        if not twice:
            typer.echo(f"together: {len(readers)} machines, every approval was used once")
    if not reports:
        typer.echo("agentos: there is no log to verify", err=True)
    if not reports or twice or not all(report.ok for report in reports):
        raise typer.Exit(1)


def _of_machine(state: Path) -> AuditReader:
    """Return the audit of another machine's state directory, read with the keys that lie in it."""
    import os  # noqa: PLC0415

    from agent_os.runtime.audit import open_audit  # noqa: PLC0415

    return open_audit(environment={**os.environ, "AGENTOS_STATE": str(state.resolve())})


def _together(readers: list[tuple[str, AuditReader]]) -> list[str]:
    from agent_os.audit.together import Together  # noqa: PLC0415

    together = Together()
    for where, reader in readers:
        for record in reader.records():
            together.add(where or "here", record)
    return together.faults()


@app.command()
def export(
    form: str = typer.Option("jsonl", "--format", help="jsonl, trace, ocsf or csv."),
    output: Path | None = typer.Option(None, "-o", "--output", help="A file instead of standard output."),
    since: str | None = typer.Option(None, help="From this time on (ISO 8601, UTC unless it says otherwise)."),
    until: str | None = typer.Option(None, help="Before this time."),
    writer: str | None = WRITER,
    root: Path | None = ROOT,
) -> None:
    """Write the records out. Traces hold arguments and results if the policy has them stored encrypted."""
    from agent_os import __version__  # noqa: PLC0415
    from agent_os.audit import export as formats  # noqa: PLC0415

    reader = _open(root)
    start, end = moment_option(since, "--since"), moment_option(until, "--until")
    records = (record for record in reader.records(writer) if _within(record, start, end))
    lines: Iterator[str]
    if form == "jsonl":
        lines = formats.jsonl(records)
    elif form == "csv":
        lines = formats.as_csv(records)
    elif form == "ocsf":
        lines = formats.ocsf(records, __version__)
    elif form == "trace":
        store = reader.payloads()
        look_up: Callable[[str], Mapping[str, Any] | None] = store.look_up if store is not None else lambda _: None
        lines = formats.traces(records, look_up)
    else:
        raise typer.BadParameter(f"one of {', '.join(formats.FORMATS)}", param_hint="--format")
    with writing(output) as write:
        for line in lines:
            write(line)


@contextlib.contextmanager
def writing(output: Path | None) -> Iterator[Callable[[str], Any]]:
    """Yield what writes to standard output, or to a file for its owner alone: what is exported may be private."""
    if output is None:
        yield sys.stdout.write
        return
    private = partial(os.open, mode=0o600)
    with open(output, "w", encoding="utf-8", newline="", opener=private) as file:
        yield file.write


@app.command()
def checkpoint(writer: str | None = WRITER, root: Path | None = ROOT) -> None:
    """Print the latest signed checkpoints, one a line, to be kept elsewhere (see `verify --against`)."""
    reader = _open(root)
    for name in [writer] if writer is not None else reader.writers():
        latest = reader.latest(name)
        if latest is not None:
            sys.stdout.write(latest.line().decode())


@app.command()
def ship(
    url: str = typer.Argument(help="Where to: an OpenTelemetry collector, or an endpoint that takes JSON lines."),
    form: str = typer.Option("otlp", "--format", help="otlp (spans), ocsf or jsonl."),
    once: bool = typer.Option(False, "--once", help="Send what is there and end."),
    from_now: bool = typer.Option(False, "--from-now", help="The first time: leave out what was written before."),
) -> None:
    """Send the audit on as it grows: names, rules, usage; never a prompt, an argument or a result.

    Goes on where it had arrived. Headers: `OTEL_EXPORTER_OTLP_HEADERS`, or `AGENTOS_SHIP_HEADERS` for ocsf and jsonl.
    """
    import logging  # noqa: PLC0415

    from agent_os.runtime.shipping import Shipper  # noqa: PLC0415

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what failed is said below, once
    shipper, records, sent = Shipper(url, form, from_now=from_now), 0, 0
    try:
        for step in shipper.drain() if once else shipper.run(lambda said: typer.echo(f"agentos: {said}", err=True)):
            records, sent = records + step.records, sent + step.sent
    except KeyboardInterrupt:
        pass
    finally:
        shipper.close()
    typer.echo(f"{records} records, {sent} {'spans' if form == 'otlp' else 'events'} sent to {url}")


def moment_option(text: str | None, option: str) -> float | None:
    """Return the time that an option gives, in seconds since the epoch. Raises BadParameter."""
    from datetime import UTC, datetime  # noqa: PLC0415

    if text is None:
        return None
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("a time such as 2026-11-21 or 2026-11-21T10:00", param_hint=option) from None
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()


def _within(record: Mapping[str, Any], start: float | None, end: float | None) -> bool:
    if start is None and end is None:
        return True
    moment = record.get("time")
    if not isinstance(moment, (int, float)):
        return False
    return (start is None or moment >= start) and (end is None or moment < end)
