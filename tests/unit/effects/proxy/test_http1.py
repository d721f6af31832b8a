"""HTTP/1.1 heads against h11: whatever is taken here, h11 takes and reads the same way."""

from __future__ import annotations

import random

import h11
import pytest

from agent_os.core.principal import ANONYMOUS
from agent_os.effects.proxy.http1 import CHUNKED, HttpError, parse_request, parse_response
from agent_os.effects.proxy.request import plan_action, read_asked

LINES = [
    b"Host: a.test", b"Content-Length: 5", b"Content-Length: 05", b"Transfer-Encoding: chunked", b"X: y", b"X:\ty ",
    b"Connection: close", b"Connection: X, keep-alive", b"Expect: 100-continue", b"Accept: a, b", b"Accept: c",
    b"X : y", b" folded", b"X: a\rb", b"X: a\nb", b": empty", b"Content-Length: 5, 5", b"Transfer-Encoding: gzip",
    b"Cookie: \xff", b"X:", b"Upgrade: websocket", b"Content-Length: -1", b"Content-Length: 1e3", b"X: \x00",
]  # fmt: skip
STARTS = [b"GET / HTTP/1.1", b"POST /a?b=c HTTP/1.1", b"GET / HTTP/1.0", b"get /x HTTP/1.1", b"G@T / HTTP/1.1"]


def test_h11_reads_the_same_requests() -> None:
    """Random heads: what this reader takes, h11 takes with the same method, target, fields and framing."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    taken = 0
    for _ in range(6000):
        lines = [chance.choice(STARTS), b"Host: a.test", *chance.choices(LINES, k=chance.randrange(0, 4))]
        raw = b"\r\n".join(lines) + b"\r\n\r\n"
        try:
            head = parse_request(raw)
        except HttpError:
            continue
        taken += 1
        oracle = h11.Connection(h11.SERVER)
        oracle.receive_data(raw)
        event = oracle.next_event()
        assert isinstance(event, h11.Request), f"seed {seed}: {raw!r}"
        assert (event.method.decode(), event.target.decode()) == (head.method, head.target), f"seed {seed}: {raw!r}"
        theirs = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
        ours = [(name, value) for name, value in head.fields]
        assert theirs == ours, f"seed {seed}: {raw!r}"
        framed = oracle.next_event()
        if head.length == 0:
            assert isinstance(framed, h11.EndOfMessage) or framed in (h11.NEED_DATA, h11.PAUSED), (
                f"seed {seed}: {raw!r}"
            )
    assert taken > 300


@pytest.mark.parametrize(
    ("raw", "method", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", 5),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", 0),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET", 0),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", CHUNKED),
        (b"HTTP/1.1 200 OK\r\n\r\n", "GET", -2),
    ],
)
def test_response_framing(raw: bytes, method: str, length: int) -> None:
    """RFC 9112, 6.3: which body follows a response."""
    assert parse_response(raw, method).length == length


@pytest.mark.parametrize(
    ("target", "path"),
    [("/a/../b", "/b"), ("/a//b", "/a/b"), ("/%61", "/a"), ("/a;v=1/b", "/a/b"), ("/./x", "/x")],
)
def test_what_is_judged_is_what_is_sent(target: str, path: str) -> None:
    """The canonical path stands in the action and in the request that goes out."""
    head = parse_request(f"GET {target}?q=%41 HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
    asked = read_asked(head, scheme="https", host="a.test", port=443, encoded_slash=False)
    action = plan_action(asked, head, ANONYMOUS, body=b"", size=0)
    assert action.path == path
    assert asked.target == f"{path}?q=%41"
    assert action.query == {"q": ["A"]}


def test_credentials_stay_out_of_actions() -> None:
    """Authorization and cookies are sent, and never stand in what is recorded or shown to an approver."""
    head = parse_request(b"GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer x\r\nCookie: y\r\nX-A: z\r\n\r\n")
    asked = read_asked(head, scheme="https", host="a.test", port=443, encoded_slash=False)
    assert plan_action(asked, head, ANONYMOUS, body=b"", size=0).headers == {"x-a": "z"}
