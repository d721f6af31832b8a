"""Laws of framing: any bytes are one request read one way, or are refused; what goes on is what was judged."""

from __future__ import annotations

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_os.core import canonical
from agent_os.core.principal import ANONYMOUS
from agent_os.effects.proxy import http1
from agent_os.effects.proxy.http1 import CHUNKED, HttpError
from agent_os.effects.proxy.request import plan_action, read_asked, sent_fields, sent_target
from agent_os.guards.egress import ChunkedBody, HostWatch
from agent_os.guards.egress.placeholders import BodyFiller, PlaceholderError, fill_body

RUNS = settings(max_examples=400, deadline=None)
HOST = "a.test"
TOKENS = st.sampled_from(
    [b"GET", b"POST", b"get", b" ", b"  ", b"\t", b"/", b"/a/../b", b"/%2e%2e/x", b"/a%2Fb", b"/a;x=1", b"*", b"?q=%41&q=b",
     b"http://a.test/x", b"http://evil.test/", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n",
     b"Host: a.test", b"Host: evil.test", b"host:a.test:80", b"Host : a.test", b"Content-Length: 3", b"Content-Length: 0",
     b"Content-Length: +3", b"Content-Length: 3, 3", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity",
     b"Connection: close", b"Connection: content-length", b"X: y", b" folded", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n",
     b"5;x=y", b"\x00", b"\xff", b"Upgrade: websocket"]
)  # fmt: skip
LOOSE = st.lists(TOKENS, max_size=24).map(b"".join)
LINE = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /a/./b?q=%41 HTTP/1.1", b"PUT http://a.test/x HTTP/1.1", b"GET /%7Ea HTTP/1.0"]
)
FIELD = st.sampled_from(
    [b"Host: a.test", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"X: y", b"Connection: x, close", b"Accept: a",
     b"Cookie: c", b"TE: trailers", b"Expect: 100-continue", b"Content-Type: text/plain", b"Alt-Svc: h3", b"X: z"]
)  # fmt: skip
TIDY = st.builds(
    lambda line, fields: b"\r\n".join([line, b"Host: a.test", *fields]) + b"\r\n\r\n", LINE, st.lists(FIELD, max_size=5)
)
BODIES = st.sampled_from(
    [b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nX: y\r\n\r\n", b"GET /evil HTTP/1.1\r\n"]
)
STREAMS = st.lists(st.one_of(LOOSE, st.tuples(TIDY, BODIES).map(b"".join)), max_size=4).map(b"".join)


@RUNS
@given(st.one_of(TIDY, LOOSE.map(lambda raw: raw + b"\r\n\r\n")))
def test_a_head_is_judged_and_sent_with_one_meaning(raw: bytes) -> None:
    """What is written upstream reads in h11 as the judged method, path and query, to the judged host, framed once."""
    try:
        head = http1.parse_request(raw)
        asked = read_asked(head, scheme="http", host=HOST, port=80, encoded_slash=False)
        action = plan_action(asked, head, ANONYMOUS, body=b"", size=0)
    except HttpError:
        return
    target = sent_target(action, action, asked)
    fields = [
        ("host", asked.authority),
        *sent_fields(action.headers, action.headers, head),
        *http1.framing(head.length),
    ]
    written = http1.write_head(f"{head.method} {target} HTTP/1.1", fields)
    assert written.count(b"\r\n\r\n") == 1
    oracle = h11.Connection(h11.SERVER)
    oracle.receive_data(written)
    event = oracle.next_event()
    assert isinstance(event, h11.Request)
    read = canonical.request_target(event.target.decode())
    assert (event.method.decode(), read.path) == (action.method, action.path)
    assert canonical.parse_query(read.query or "") == action.query
    names = [name for name, _ in event.headers]
    assert names.count(b"host") == 1
    assert dict(event.headers)[b"host"] == HOST.encode()
    framed = names.count(b"content-length") + names.count(b"transfer-encoding")
    assert framed == 1
    assert (b"transfer-encoding" in names) == (head.length == CHUNKED)


@RUNS
@given(STREAMS, st.integers(1, 40))
def test_a_passed_stream_goes_on_unchanged_and_only_to_its_host(raw: bytes, step: int) -> None:
    """Whole or cut, the same bytes go on, a prefix of what came; h11 finds no request in it for another host."""
    outs = []
    for size in (step, len(raw) or 1):
        watch, out = HostWatch(HOST, 80), b""
        try:
            for at in range(0, len(raw), size):
                out += watch.feed(raw[at : at + size])
        except HttpError:
            pass
        assert raw.startswith(out)
        outs.append(out)
    assert outs[0].startswith(outs[1])  # pieces can only let more of what was good go on before a refusal
    oracle = h11.Connection(h11.SERVER)
    oracle.receive_data(outs[0])
    while True:
        try:
            event = oracle.next_event()
        except h11.RemoteProtocolError:
            return
        if isinstance(event, h11.Request):
            host = dict(event.headers).get(b"host", HOST.encode())
            assert canonical.split_authority(host.decode("latin-1"))[0] == HOST
        if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
            if oracle.our_state is not h11.SEND_RESPONSE or oracle.their_state is not h11.DONE:
                return
            oracle.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            oracle.send(h11.EndOfMessage())
            if oracle.their_state is not h11.DONE or oracle.our_state is not h11.DONE:
                return
            oracle.start_next_cycle()


@RUNS
@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.binary(max_size=12), st.integers(1, 9))
def test_chunks_decode_to_what_was_put_in(pieces: list[bytes], after: bytes, step: int) -> None:
    """A chunked body comes out whole however it is cut, and what follows it is left."""
    raw = b"".join(http1.chunk(piece) for piece in pieces) + http1.chunk(b"") + after
    body, out, at = ChunkedBody(1000), b"", 0
    while not body.done:
        out += body.feed(raw[at : at + step])
        at += step
    assert out == b"".join(pieces)
    assert body.rest + raw[at:] == after


@RUNS
@given(
    st.lists(st.sampled_from([b"agentos-secret:K", b"agentos-", b"secret:", b"K", b"x-OPENSHELL-RESOLVE-ENV-K", b" ", b"%3A", b"\xff"]),
             max_size=12).map(b"".join),
    st.integers(1, 30),
)  # fmt: skip
def test_a_streamed_body_is_filled_like_a_whole_one(body: bytes, step: int) -> None:
    """Cut anywhere, the same placeholders are filled; nothing else changes."""
    values = {"K": "value!", "Kagentos": "1", "KK": "2"}
    try:
        whole = fill_body(body, "text/plain", values)
    except PlaceholderError:
        return
    filler, out = BodyFiller(values, "text/plain"), b""
    for at in range(0, max(len(body), 1), step):
        out += filler.fill(filler.ready(body[at : at + step], last=at + step >= len(body)))
    assert out == whole
