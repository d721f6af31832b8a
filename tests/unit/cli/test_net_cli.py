"""What `agentos net top` shows of a guard's table."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from agent_os.cli.net import DENIED_SHOWN_MAX, _view


def row(**changed: Any) -> dict[str, Any]:
    """A row of the live table as the guard writes it."""
    return {
        "type": "flow", "agent": "run", "program": "/usr/bin/curl", "host": "a.test", "port": 443, "address": "192.0.2.1",
        "mode": "pass tls", "verdict": "allow", "rules": ["net.a"], "requests": 0, "denied": 0, "bytes_up": 10,
        "bytes_down": 5 * 1024 * 1024, "seconds": 61.4, "last": "", "reason": "", **changed,
    }  # fmt: skip


def shown(*tables: dict[str, Any]) -> str:
    """The view as plain text."""
    console = Console(width=200, file=io.StringIO())
    console.print(_view(list(tables)))
    return console.file.getvalue()  # type: ignore[attr-defined]


def guard(pid: int, live: list[dict[str, Any]], recent: list[dict[str, Any]], denied: int = 0) -> dict[str, Any]:
    """One guard's table."""
    counts = {"flows": len(live), "requests": 3, "denied": denied, "alerts": 0}
    return {"pid": pid, "live": live, "recent": recent, "counts": counts}


def test_the_busiest_connection_of_all_guards_stands_first() -> None:
    """Rows of several guards are one table by bytes, sizes for people, and the counts are summed."""
    text = shown(guard(7, [row(host="small.test", bytes_down=3)], []), guard(8, [row(host="big.test")], [], denied=2))
    lines = text.splitlines()
    assert "big.test:443" in lines[1]
    assert "5.0 MiB" in lines[1]
    assert "61 s" in lines[1]
    assert "small.test:443" in lines[2]
    assert "13 B" not in text
    assert "2 connections, 6 requests, 2 denied, 0 alerts" in text


def test_denials_are_listed_by_cause_with_their_reason() -> None:
    """The same denial twice is one line with its count; what was allowed is not listed; the list is bounded."""
    denial = row(
        verdict="deny", host="evil.test", rules=[], reason="endpoint evil.test:443 is not allowed by any policy"
    )
    many = [row(verdict="deny", host=f"h{number}.test", rules=["r"], reason="no") for number in range(30)]
    text = shown(guard(7, [], [row(host="fine.test"), *many, denial, denial], denied=32))
    (line,) = [line for line in text.splitlines() if "evil.test" in line]
    assert line.split()[-1] == "2"
    assert "is not allowed by any policy" in line
    assert "fine.test" not in text
    assert len([line for line in text.splitlines() if ".test:443" in line]) == DENIED_SHOWN_MAX


def test_names_from_programs_cannot_steer_the_terminal() -> None:
    """Control characters and markup in a path or request are shown as text."""
    text = shown(guard(7, [row(program="/tmp/\x1b[2Jx", last="GET /[bold]y")], []))
    assert "\x1b" not in text
    assert "?[2Jx" in text
    assert "[bold]y" in text


def test_no_guard_is_said() -> None:
    """An empty machine is a sentence, not an empty table."""
    assert shown().strip() == "no guard is running"
