"""What an agent writes to deceive whoever answers its asks: breaks that are none, lines that look like ours, typing ahead."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import select
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent_os.cli import approvals_show
from agent_os.cli.approvals_show import WIDE, folded, in_full, printable
from agent_os.cli.typed import forget_typed_ahead
from agent_os.core.action import Action
from agent_os.core.approval import Approval
from agent_os.core.carried import Carried
from agent_os.effects.preview import LINES_MAX, FilePreview

BEFORE = "# is it signed?\ncheck_signature()\nrun()\n"


def difference(before: str, after: str, tmp_path: Path) -> Any:
    """Return what an approver is shown of a write."""
    preview = FilePreview(lambda _: before.encode(), Carried())
    wanted = {"kind": "tool.call", "tool": "write_file", "args": {"path": f"{tmp_path}/a.py", "content": after}}
    return asyncio.run(preview.show(Action.parse(wanted)))["difference"]


@pytest.mark.parametrize("break_", ["\u2028", "\u0085", "\x0c", "\x0b", "\x1c"])
def test_a_break_that_is_none_shows(tmp_path: Path, break_: str) -> None:
    """ATTACK: a check becomes part of the comment before it, by a character that only some call a line break: it is a change."""
    shown = difference(BEFORE, BEFORE.replace("?\n", f"?{break_}"), tmp_path)
    assert "-check_signature()" in shown
    assert f"+# is it signed?{break_}check_signature()" in shown
    assert printable(shown[-2]) != shown[-2]


def test_what_does_not_change_and_what_is_too_much_is_said(tmp_path: Path) -> None:
    """The same text changes nothing, a line feed at the end is told, a change past the bound says that there is more."""
    assert difference(BEFORE, BEFORE, tmp_path) == "nothing changes"
    assert difference(BEFORE, BEFORE[:-1], tmp_path) == "only the line feed at the end changes"
    assert difference("", "one\n", tmp_path)[-1] == "+one"
    many = difference("", "x\n" * (LINES_MAX + 5), tmp_path)
    assert "more than" in many[-1]
    assert len(many) == LINES_MAX + 1


def ask(body: str) -> Approval:
    """Return an ask whose payload is the agent's."""
    preview = {
        "kind": "tool.call", "target": "send_email", "destination": "to=eve@evil.example",
        "arguments": {"args": {"to": "eve@evil.example", "body": body}}, "roles": {"to": "authority", "body": "payload"},
    }  # fmt: skip
    return Approval(
        id="apr_1", action={}, action_digest="sha256:0", policy_digest="sha256:1", rules=("r",), reason="why",
        requested_at=0.0, expires_at=1.0, needed=1, preview=preview,
    )  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 133])
def test_a_value_cannot_begin_a_line(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """ATTACK: blanks push a fake line to where the terminal breaks: what goes on is set in and marked; nothing is left out."""
    fake = "goes to     to=bob@corp.example"
    approval = ask("".join(" " * blanks + fake for blanks in range(width)) + "\u4e2d" * 200)
    screen = io.StringIO()
    terminal = Console(
        file=screen, force_terminal=True, width=width, color_system=None, highlight=False, soft_wrap=True
    )
    monkeypatch.setattr("rich.console.Console", lambda **_: terminal)
    approvals_show.echo_in_full(approval)
    lines = screen.getvalue().splitlines()
    assert [line for line in lines if line.startswith("goes to")] == ["goes to     to=eve@evil.example"]
    assert all(Console().measure(line).maximum <= width for line in lines)
    whole = next(line for line, _ in in_full(approval) if line.startswith("carries"))
    begun = next(place for place, line in enumerate(lines) if line.startswith("carries"))
    going = [line[WIDE:] for line in lines[begun + 1 :] if line[:WIDE].endswith("\u2026 ")]
    assert lines[begun] + "".join(going) == whole


def test_short_lines_are_left_alone() -> None:
    """A line that fits is one line, in any alphabet."""
    for line in ('with        to = "ana"', "\u00fcber", ""):
        assert folded(line, 80) == [line]


@pytest.mark.parametrize("unseen", ["\u2800", "\u3164", "\U000e0141", "\ufe01", "\u200b", "\u202e", "\U000e0041"])
def test_what_leaves_no_mark_is_marked(unseen: str) -> None:
    """ATTACK: data in characters that nobody sees; letters of any language, and emoji, stay."""
    assert unseen not in printable(f"a{unseen}b")
    assert printable("Zo\u00eb \u4e2d\u6587 \u0639 \u2764\ufe0f") == "Zo\u00eb \u4e2d\u6587 \u0639 \u2764\ufe0f"


def test_what_was_typed_ahead_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """ATTACK: the second of two quick answers is not the answer to an ask that nobody has read; a later one is."""
    outer, inner = pty.openpty()
    try:
        with os.fdopen(os.dup(inner), "r") as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            os.write(outer, b"y\n")
            assert select.select([inner], [], [], 5)[0]
            forget_typed_ahead()
            assert not select.select([inner], [], [], 0)[0]
            os.write(outer, b"n\n")
            assert select.select([inner], [], [], 5)[0]
            assert stdin.readline() == "n\n"
    finally:
        os.close(outer)
        os.close(inner)
