"""Bodies that leave under the privacy section: rewritten in every spelling the wire has, or not sent at all."""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.e2e.network.test_policy import Session, opened
from tests.e2e.network.world import Client, response

WHO = "jane.roe@corp.example"
POLICY = """
version: 1
network_policies:
  erp:
    endpoints: [{{host: erp.test, port: {port}, local: true, protocol: rest, enforcement: enforce, access: full}}]
privacy: [{{find: [EMAIL_ADDRESS], to: any, do: pseudonymise}}, {{find: [IBAN_CODE], to: any, do: redact}}]
"""


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[Session]:
    """A session whose upstream answers `ok` and records."""
    async with opened(tmp_path, POLICY) as made:
        made.upstream.answer = response(b"ok")
        yield made


def bodies(session: Session) -> list[bytes]:
    """What the upstream got as bodies, one a request."""
    requests = session.upstream.text.split(b"POST ")[1:]
    return [request.split(b"\r\n\r\n", 1)[1] for request in requests]


async def post(session: Session, body: bytes, *fields: str) -> str:
    """Send a body with curl; the status."""
    path = session.folder / "body"
    path.write_bytes(body)
    headers = [part for field in fields for part in ("-H", field)]
    url = f"https://erp.test:{session.upstream.port}/x"
    return (await session.curl("-X", "POST", *headers, "--data-binary", f"@{path}", url))[2]


async def test_json_text_and_forms_leave_rewritten(session: Session) -> None:
    """The structure stays, escapes and percent-encoding hide nothing, lengths are right, clean bodies stay as they are."""
    escaped = WHO.replace("@", "\\u0040")
    assert await post(session, f'{{"to": "{escaped}", "n": 1}}'.encode(), "Content-Type: application/json") == "200"
    assert await post(session, f"write to {WHO}, please".encode(), "Content-Type: text/plain") == "200"
    form = f"a=1&to={WHO.replace('@', '%40')}&iban=DE89370400440532013000&z=x%26y"
    assert await post(session, form.encode(), "Content-Type: application/x-www-form-urlencoded") == "200"
    clean = b'{ "n" : 1.50 }'
    assert await post(session, clean, "Content-Type: application/json") == "200"
    sent = bodies(session)
    assert sent[-1] == clean
    assert set(json.loads(sent[0])) == {"to", "n"}
    assert sent[1].startswith(b"write to ")
    fields = parse_qs(sent[2].decode(), strict_parsing=True)
    assert (fields["a"], fields["z"]) == (["1"], ["x&y"])
    assert "DE89" not in fields["iban"][0]
    for body in sent:
        assert b"jane" not in body
        assert b"roe" not in body


async def test_a_packed_body_leaves_rewritten_and_unpacked(session: Session) -> None:
    """A gzip body is opened; what goes out says so, and is what was judged."""
    packed = gzip.compress(json.dumps({"to": WHO}).encode())
    assert await post(session, packed, "Content-Type: application/json", "Content-Encoding: gzip") == "200"
    (sent,) = bodies(session)
    assert "jane" not in json.loads(sent)["to"]
    assert b"content-encoding" not in session.upstream.text.lower()


@pytest.mark.parametrize("cut", [1, 7, 1000])
async def test_a_chunked_body_leaves_rewritten_however_it_is_cut(session: Session, cut: int) -> None:
    """An address that two chunks share is one address."""
    port = session.upstream.port
    client = await Client.to(("127.0.0.1", int(session.url.rsplit(":", 1)[1])))
    assert await client.connect(f"erp.test:{port}") == 200
    context = ssl.create_default_context(cafile=str(session.guard.parts.authority.certificate_path))
    await client.tls(context, "erp.test")
    body = json.dumps({"to": WHO}).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i : i + cut]), body[i : i + cut]) for i in range(0, len(body), cut))
    head = b"POST /x HTTP/1.1\r\nHost: erp.test:%d\r\nContent-Type: application/json\r\n" % port
    client.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert (await client.answer())[0] == 200
    client.close()
    (sent,) = bodies(session)
    assert set(json.loads(sent)) == {"to"}
    assert b"jane" not in sent


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"\xff\xfe" + WHO.encode("utf-16-le"), ["Content-Type: application/octet-stream"]),
        (gzip.compress(WHO.encode())[:-9], ["Content-Encoding: gzip", "Content-Type: text/plain"]),
        (WHO.encode(), ["Content-Encoding: br", "Content-Type: text/plain"]),
        (b'{"to": "' + WHO.encode() + b'"', ["Content-Type: application/json"]),
        (b'{"to": "x", "to": "' + WHO.encode() + b'"}', ["Content-Type: application/json"]),
        (gzip.compress(gzip.compress(WHO.encode())), ["Content-Encoding: gzip", "Content-Type: text/plain"]),
    ],
    ids=["no text", "broken gzip", "unknown coding", "broken json", "two readings", "packed twice"],
)
async def test_a_body_that_cannot_be_rewritten_is_not_sent(session: Session, body: bytes, fields: list[str]) -> None:
    """What nobody can read is denied; a readable body on the next connection passes."""
    assert await post(session, body, *fields) in ("400", "403", "415")
    assert session.upstream.text == b""
    assert await post(session, b"nothing to hide", "Content-Type: text/plain") == "200"
    assert bodies(session) == [b"nothing to hide"]


async def test_data_in_target_and_fields_leaves_rewritten_too(session: Session) -> None:
    """A query parameter and a header field are places like any other; the path keeps its meaning."""
    url = f"https://erp.test:{session.upstream.port}/x?to={WHO.replace('@', '%40')}&n=1"
    assert (await session.curl("-H", f"X-To: {WHO}", url))[2] == "200"
    assert b"jane" not in session.upstream.text
    assert b"n=1" in session.upstream.text
