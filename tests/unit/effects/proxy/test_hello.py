"""ClientHello reading: what real clients send, cut anywhere; malformed and hiding ones."""

from __future__ import annotations

import random
import ssl

import pytest

from agent_os.effects.proxy.hello import HelloError, looks_like_tls, parse_client_hello


def hello(name: str | None = "a.test", protocols: list[str] | None = None) -> bytes:
    """The first flight of the ssl module."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    if protocols:
        context.set_alpn_protocols(protocols)
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def test_names_and_protocols_are_read() -> None:
    """The server name and ALPN of a real hello; a hello without a name has none."""
    read = parse_client_hello(hello(protocols=["h2", "http/1.1"]))
    assert read is not None
    assert (read.server_name, read.alpn, read.encrypted) == ("a.test", ("h2", "http/1.1"), False)
    nameless = parse_client_hello(hello(None))
    assert nameless is not None
    assert nameless.server_name == ""


def test_a_hello_cut_anywhere_waits_for_more() -> None:
    """Every proper prefix needs more bytes; bytes after it do not matter."""
    whole = hello()
    assert all(parse_client_hello(whole[:size]) is None for size in range(len(whole)))
    assert parse_client_hello(whole + b"more") == parse_client_hello(whole)


def test_a_hello_in_several_records_is_put_together() -> None:
    """A handshake message may be fragmented over records (RFC 8446, 5.1)."""
    whole = hello()
    body = whole[5:]
    cut = b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in (body[:7], body[7:60], body[60:]))
    assert parse_client_hello(cut) == parse_client_hello(whole)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
        b"\x16\x02\x00\x00\x05\x01\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x17\x03\x03\x00\x05\x01\x00\x00\x01\x00",
    ],
)
def test_what_is_no_hello_is_refused(raw: bytes) -> None:
    """Other records, versions, lengths and messages raise."""
    with pytest.raises(HelloError):
        parse_client_hello(raw)


def test_damaged_hellos_never_crash() -> None:
    """Random damage yields a value, a wait or HelloError, nothing else."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    whole = hello()
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            parse_client_hello(damaged)
        except HelloError:
            continue
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}")


def test_the_first_byte_tells_tls() -> None:
    """A handshake record starts with 22; HTTP does not."""
    assert looks_like_tls(hello())
    assert not looks_like_tls(b"GET / HTTP/1.1")
    assert not looks_like_tls(b"")
