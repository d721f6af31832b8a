"""HTTP/1.1 heads and chunked bodies: one reading, or an error."""

from __future__ import annotations

import h11
import pytest

from agent_os.guards.egress import ChunkedBody, HttpError, parse_request, parse_response, split_head

GOOD = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /x?y=1 HTTP/1.1\r\nHost: a:8080\r\nContent-Length: 5\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET http://a/x HTTP/1.1\r\nHost: A:80\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Two: a\tb\r\n\r\n",
]


@pytest.mark.parametrize("raw", GOOD)
def test_ordinary_requests_are_read(raw: bytes) -> None:
    """The benign twins of the attacks below."""
    parts = split_head(raw + b"rest")
    assert parts is not None
    assert parts[1] == b"rest"
    assert parse_request(parts[0]).target


BAD = {
    "a length twice": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 42\r\nContent-Length: 42\r\n\r\n",
    "no version": b"GET /\r\nHost: a\r\n\r\n",
    "HTTP/2 line": b"GET / HTTP/2\r\nHost: a\r\n\r\n",
    "tab in the line": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "leading space": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "CL and TE": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "TE and CL": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 50\r\n\r\n",
    "length list": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n",
    "signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
    "hex length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n",
    "huge length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "gzip coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    "two codings": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "almost chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunkedx\r\n\r\n",
    "vertical tab": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
    "TE in 1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "bad name": b"GET / HTTP/1.1\r\nX@Y: a\r\nHost: a\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "bare CR": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "other authority": b"GET http://evil/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "other port": b"GET http://a:81/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "user in target": b"GET http://a@evil/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "relative target": b"GET x HTTP/1.1\r\nHost: a\r\n\r\n",
    "raw UTF-8 target": "GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "method with brackets": b"G(ET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD)
def test_requests_with_two_readings_are_refused(name: str) -> None:
    """Smuggling, folding, odd lengths and codings, and targets that name another host."""
    with pytest.raises(HttpError):
        parse_request(BAD[name])


def test_what_passes_here_reads_the_same_in_h11() -> None:
    """An independent parser agrees on method, target and fields of what is accepted."""
    for raw in GOOD:
        if b"chunked" in raw or b"HTTP/1.0" in raw:
            continue
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(raw)
        event = connection.next_event()
        head = parse_request(raw)
        assert isinstance(event, h11.Request)
        assert (event.method.decode(), event.target.decode()) == (head.method, head.target)
        assert [(k.decode(), v.decode()) for k, v in event.headers] == list(head.fields)


def test_heads_are_bounded_and_incomplete_ones_wait() -> None:
    """More bytes are asked for until the head ends; a head that never ends is refused."""
    assert split_head(b"GET / HTTP/1.1\r\nHost: a\r\n") is None
    with pytest.raises(HttpError) as error:
        split_head(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
    assert error.value.status == 431
    with pytest.raises(HttpError):
        split_head(b"GET / HTTP/1.1\nHost: a\n\n")
    with pytest.raises(HttpError):
        parse_request(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n")


def test_responses_have_one_framing_too() -> None:
    """HEAD, 204 and 304 have no body; a response without length lasts until the end; smuggling is refused."""
    assert parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n").length == 3
    assert parse_response(b"HTTP/1.1 200 OK\r\n\r\n").until_close
    assert parse_response(b"HTTP/1.1 204 No Content\r\n\r\n").length is None
    assert not parse_response(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n").until_close
    assert parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", method="HEAD").length is None
    for raw in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
    ):
        with pytest.raises(HttpError):
            parse_response(raw)


def _decode(raw: bytes, step: int, limit: int = 1000) -> tuple[bytes, bytes]:
    body, out = ChunkedBody(limit), b""
    for index in range(0, len(raw), step):
        out += body.feed(raw[index : index + step])
        if body.done:
            return out, body.rest + raw[index + step :]
    raise AssertionError("the body has no end")


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_chunked_bodies_decode_however_they_are_cut(step: int) -> None:
    """The same bytes come out for any cut of the stream, and what follows is left alone."""
    raw = b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nGET /next"
    assert _decode(raw, step) == (b"hello0123456789", b"GET /next")


@pytest.mark.parametrize(
    "raw",
    [
        b"5;ext=1\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"3E9\r\n",
        b"0\r\nbad trailer\r\n\r\n",
        b"5\r\nhel\nlo\r\n",
    ],
)
def test_malformed_chunking_is_refused(raw: bytes) -> None:
    """Extensions, signs, bare line feeds, missing ends and bodies over the limit raise HttpError."""
    with pytest.raises(HttpError):
        ChunkedBody(1000).feed(raw + b"0\r\n\r\n")
