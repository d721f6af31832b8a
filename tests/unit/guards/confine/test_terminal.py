"""What reaches a person's terminal: text and colours do, orders to the terminal do not."""

from __future__ import annotations

import pytest

from agent_os.guards.confine.terminal import SEQUENCE_BYTES_MAX, TerminalFilter


def shown(data: bytes, *, interactive: bool = True) -> bytes:
    return TerminalFilter(interactive=interactive).feed(data)


@pytest.mark.parametrize(
    "harmless",
    [
        b"plain text\r\n\t",
        "grüße 日本語 🎉".encode(),
        b"\x1b[1;31mred\x1b[0m",
        b"\x1b[2J\x1b[H\x1b[10;20H",
        b"\x1b[?1049h\x1b[?25l\x1b[?2004h",
        b"\x1b]0;title\x07",
        b"\x1b]8;;https://example.com/\x1b\\link\x1b]8;;\x1b\\",
        b"\x1b(B\x1b=\x1b7\x1b8\x1bM",
        b"\x1b[6n",
        b"\x1b[38;2;1;2;3m",
    ],
)
def test_harmless_sequences_pass_unchanged(harmless: bytes) -> None:
    """Full-screen programs keep their colours, cursor moves, modes, titles and links."""
    assert shown(harmless) == harmless


@pytest.mark.parametrize(
    "attack",
    [
        b"\x1b]52;c;ZXZpbA==\x07",  # sets the clipboard
        b"\x1b]52;c;ZXZpbA==\x1b\\",
        b"\x1b[21t",  # types the title back
        b'\x1bP$q"p\x1b\\',  # DECRQSS
        b"\x1bP+q544e\x1b\\",  # XTGETTCAP
        b"\x1b_Gf=32;AAAA\x1b\\",  # APC: image protocol reading files
        b"\x1b^private\x1b\\",
        b"\x1b[5i",  # prints
        b"\x1b]1337;File=name=eA==:AAAA\x07",
        b"\x1b]10;?\x07",
        b"\x1b]9;notice\x07",
        b"\x1b]8;;file:///etc/passwd\x1b\\",
        b"\x9b21t",
        b"\xc2\x9b21t",
        b"\x1b[>q",
        b"\x1b[1;1$x",
    ],
)
def test_orders_to_the_terminal_are_left_out(attack: bytes) -> None:
    """Clipboard, answer-back, printing, file transfer and C1 spellings do not reach the terminal."""
    out = shown(b"a" + attack + b"b")
    assert attack not in out
    assert b"\x1b" not in out
    assert b"\x9b" not in out
    assert out.startswith(b"a")
    assert out.endswith(b"b")


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_sequence_cut_between_two_reads_is_one_sequence(cut: int) -> None:
    """An attack split over two chunks is left out; a character split over two chunks is kept."""
    sequence = b"\x1b]52;c;QQ==\x07ok"
    filtered = TerminalFilter(interactive=True)
    assert filtered.feed(sequence[:cut]) + filtered.feed(sequence[cut:]) == b"ok"
    text = "日本語です".encode()
    filtered = TerminalFilter(interactive=True)
    assert filtered.feed(text[:cut]) + filtered.feed(text[cut:]) == text


def test_an_endless_sequence_does_not_grow_without_bound() -> None:
    """An unfinished sequence longer than the bound is given up and nothing waits for its end."""
    filtered = TerminalFilter(interactive=True)
    filtered.feed(b"\x1b]52;" + b"A" * (SEQUENCE_BYTES_MAX + 10))
    assert filtered.feed(b"after").endswith(b"after")


def test_reports_are_answered_to_interactive_programs_only() -> None:
    """A pipeline's output cannot make the terminal answer into the shell that reads next."""
    assert shown(b"\x1b[6n", interactive=False) == b""
    assert shown(b"\x1b[c", interactive=False) == b""
