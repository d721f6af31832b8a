"""Event streams: the data of finished events, however the bytes are cut, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_os.adapters.mcp import sse
from agent_os.adapters.mcp.sse import EventStream
from agent_os.core.errors import EffectError


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\r\n\r\n", [b"a"]),
        (b"data: a\r\rdata: b\r\rx", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": comment\nid: 1\nretry: 5\nevent: message\ndata: a\n\n", [b"a"]),
        (b"event: ping\ndata: a\n\ndata: b\n\n", [b"b"]),
        (b"data\n\n", [b""]),
        (b"\n\n\n", []),
        (b"data: unfinished\n", []),
    ],
)
def test_events(stream: bytes, expected: list[bytes]) -> None:
    """Fields, comments, foreign event types and every line end are read as the standard says."""
    assert EventStream().feed(stream) == expected


@given(st.lists(st.sampled_from([b"data: x", b"\n", b"\r", b"\r\n", b"event: message", b": c", b"data:", b"y"]), max_size=30),
       st.integers(1, 7))  # fmt: skip
def test_any_cut_gives_the_same_events(parts: list[bytes], size: int) -> None:
    """The answer does not depend on how the bytes arrive."""
    stream = b"".join(parts) + b"z"  # a byte after the last line end: a CR there is not half of anything
    whole = EventStream().feed(stream)
    pieces, cut = EventStream(), []
    for at in range(0, len(stream), size):
        cut += pieces.feed(stream[at : at + size])
    assert cut == whole


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, or one event of many lines, past the bound ends the stream."""
    monkeypatch.setattr(sse, "EVENT_BYTES_MAX", 100)
    with pytest.raises(EffectError):
        EventStream().feed(b"data: " + b"x" * 200)
    stream = EventStream()
    stream.feed(b"data: xxxx\n" * 20)
    with pytest.raises(EffectError):
        stream.feed(b"data: " + b"x" * 30 + b"\n")
