"""Plain requests in a passed tunnel: each names the judged host, however the stream is cut."""

from __future__ import annotations

import pytest

from agent_os.guards.egress import HostWatch, HttpError, speaks_http

GOOD = [
    b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: A.test.:80\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Host: a.test\r\nForwarded: for=1;host=a.test\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 46\r\n\r\nGET / HTTP/1.1\r\nHost: evil.test\r\nX: 12345678\r\n",
]
EVIL = {
    "another host": b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "another port": b"GET / HTTP/1.1\r\nHost: a.test:8080\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: evil.test\r\n\r\n",
    "an absolute target of another host": b"GET http://evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "another host beside Host": b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Host: evil.test\r\n\r\n",
    "another host, the standard's way": b"GET / HTTP/1.1\r\nHost: a.test\r\nForwarded: host=evil.test\r\n\r\n",
    "another host, without Host": b"GET / HTTP/1.0\r\nX-Host: evil.test\r\n\r\n",
    "user information": b"GET / HTTP/1.1\r\nHost: a.test@evil.test\r\n\r\n",
    "an empty line first": b"\r\nGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "a bare LF": b"GET / HTTP/1.1\nHost: evil.test\n\n",
    "two framings": b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a chunk extension": b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n",
    "an upgrade": b"GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    "a tunnel in the tunnel": b"CONNECT evil.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "an http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a head without end": b"GET / HTTP/1.1\r\nHost: a.test\r\n" + b"X: y\r\n" * 20_000,
}


def watched(stream: bytes, step: int) -> tuple[bytes, bool]:
    """What goes on of a stream that comes in pieces, and whether it was refused."""
    watch, out = HostWatch("a.test", 80), b""
    for at in range(0, len(stream), step):
        try:
            out += watch.feed(stream[at : at + step])
        except HttpError:
            return out, True
    return out, False


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_good_requests_pass_unchanged_however_they_are_cut(step: int) -> None:
    """Every byte comes out, in order; a request inside a body is a body."""
    stream = b"".join(GOOD) * 2
    watch = HostWatch("a.test", 80)
    out = b"".join(watch.feed(stream[at : at + step]) for at in range(0, len(stream), step))
    assert out == stream
    assert watch.requests == 2 * len(GOOD)


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("before", [b"", GOOD[1], GOOD[2]])
def test_nothing_of_a_foreign_request_goes_on(name: str, before: bytes) -> None:
    """What came before is passed; of the request itself no host, no target and no field leaves."""
    for step in (1, 4096):
        out, refused = watched(before + EVIL[name], step)
        assert refused
        assert b"evil" not in out
        assert before.startswith(out[: len(before)])


def test_a_repeated_head_is_judged_with_its_own_framing() -> None:
    """A head that is remembered still counts its body: the bytes after it are no request."""
    once = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n"
    watch = HostWatch("a.test", 80)
    assert watch.feed((once + b"abcd") * 3) == (once + b"abcd") * 3
    with pytest.raises(HttpError):
        watch.feed(once + b"abcdGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")


LINES = [
    b"GET / HTTP/1.1", b"GET /a?b=c HTTP/1.1", b"DELETE /x HTTP/1.1", b"GET / HTTP/1.0", b"OPTIONS * HTTP/1.1",
    b"GET http://a.test/ HTTP/1.1", b"GET http://evil.test/ HTTP/1.1", b"CONNECT evil.test:80 HTTP/1.1", b"CONNECT /x HTTP/1.1",
    b"PRI * HTTP/2.0", b"PRI / HTTP/1.1", b"GET  / HTTP/1.1", b"GET /\xff HTTP/1.1", b"GET /\tb HTTP/1.1", b"GET / HTTP/1.2", b"", b" ",
    b"GET /\x00 HTTP/1.1", b"GET /\rx HTTP/1.1", b"G(T / HTTP/1.1", b"GET x HTTP/1.1",
]  # fmt: skip
FIELDS = [
    b"Host: a.test\r\n\r\n", b"Host: evil.test\r\n\r\n", b"\r\n", b"Host: a.test\r\nUpgrade: x\r\n\r\n",
    b"Host: a.test\r\nContent-Length: 3\r\n\r\n", b"Host: a.test\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"Host: a.test\r\nX-Forwarded-Host: evil.test\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("first", range(len(FIELDS)))
def test_fields_that_repeat_under_another_request_line_are_judged_as_if_read_anew(first: int) -> None:
    """For every line before and after and all fields: what a watch that has seen the fields says is what a fresh one says."""
    bodies = {4: b"abc", 5: b"3\r\nabc\r\n0\r\n\r\n"}

    def told(watch: HostWatch, request: bytes) -> bytes | int:
        try:
            return watch.feed(request)
        except HttpError as error:
            return error.status

    for before in LINES:
        for after in LINES:
            for second, fields in enumerate(FIELDS):
                watch = HostWatch("a.test", 80)
                begun = before + b"\r\n" + FIELDS[first] + bodies.get(first, b"")
                if told(watch, begun) != begun:
                    continue  # it ended there
                request = after + b"\r\n" + fields + bodies.get(second, b"")
                assert told(watch, request) == told(HostWatch("a.test", 80), request), (before, after, fields)
                assert watch.again == b"" or second not in bodies


def test_what_may_be_repeated_unread_is_a_whole_head_without_a_body_and_nothing_else() -> None:
    """`again` is empty within a body or a head, so that equal bytes there are never taken for the request."""
    head, more = (
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 37\r\n\r\n",
    )
    watch = HostWatch("a.test", 80)
    assert (watch.again, watch.alike) == (b"", 0)
    watch.feed(head)
    watch.feed(head)
    assert (watch.again, watch.alike, watch.requests) == (head, 1, 2)
    watch.feed(head[:5])
    assert watch.again == b""
    watch.feed(head[5:])
    assert (watch.again, watch.alike) == (head, 2)
    assert watch.feed(more) == more
    assert (watch.again, watch.alike) == (b"", 0)
    assert watch.feed(head) == head  # a body
    assert watch.requests == 4
    assert watch.again == b""
    with pytest.raises(HttpError):
        watch.feed(b"!" + head)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (b"GET / HTTP/1.1\r\n", True),
        (b"\r\n\r\nGET / HTTP/1.1\r\n", True),
        (b"get\t/ http/1.1\n", True),
        (b"PRI * HTTP/2.0\r\n\r\n", True),
        (b"GeT  x  HTTP/1.1", True),
        (b"G", None),
        (b"GET /aaaa", None),
        (b"\r\n", None),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False),
        (b"EHLO me\r\n", False),
        (b"AMQP\0\0\x09\x01", False),
        (b"*1\r\n$4\r\nPING\r\n", False),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", False),
        (b"A" * 9000, False),
    ],
)
def test_request_lines_are_told_generously(start: bytes, told: bool | None) -> None:
    """What a lenient server reads as a request line is HTTP here; other protocols are not held up."""
    assert speaks_http(start) is told
