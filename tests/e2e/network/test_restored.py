"""Pseudonyms that went out come back as originals, also where an answer is packed, looked at, or both."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from pathlib import Path

import pytest

from tests.e2e.network.test_policy import Session, opened

POLICY = """
version: 1
network_policies:
  erp:
    endpoints:
      - {{host: erp.test, port: {port}, local: true, protocol: rest, enforcement: enforce, access: full CONTENT}}
privacy: [{{find: [EMAIL_ADDRESS], to: external, do: pseudonymise}}]
"""
FINDINGS = ", content: {{response_findings: [{{find: [IBAN_CODE], do: mask}}]}}"
MAIL, IBAN = "jane.roe@corp.example", "DE89370400440532013000"


def answering(session: Session, *, packed: bool, chunked: bool, kind: str) -> None:
    """Let the upstream send back what it got, and an account number, whatever coding was asked for."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
        body = await reader.readexactly(size)
        session.upstream.received.append(bytearray(head + body))
        said = json.dumps({"you said": json.loads(body), "pay": IBAN}).encode()
        said = said if kind == "application/json" else b"data: " + said + b"\n\n"
        said = gzip.compress(said) if packed else said
        coding = b"Content-Encoding: gzip\r\n" if packed else b""
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(said)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s%s\r\n\r\n" % (kind.encode(), coding, framing))
        if not chunked:
            writer.write(said)
        for at in range(0, len(said) if chunked else 0, 7):
            piece = said[at : at + 7]
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n" if chunked else b"")
        await writer.drain()

    session.upstream.answer = serve


@pytest.mark.parametrize("looked_at", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("chunked", "kind"), [(False, "application/json"), (True, "application/json"), (True, "text/event-stream")]
)
async def test_originals_come_back(tmp_path: Path, looked_at: bool, packed: bool, chunked: bool, kind: str) -> None:
    """The address goes out as a pseudonym and comes back as itself; what findings mask stays masked."""
    async with opened(tmp_path, POLICY.replace(" CONTENT", FINDINGS if looked_at else "")) as session:
        answering(session, packed=packed, chunked=chunked, kind=kind)
        body = json.dumps({"to": MAIL})
        url = f"https://erp.test:{session.upstream.port}/x"
        _, said, status = await session.curl("--compressed", "--json", body, url)
        assert status == "200", said
        sent = session.upstream.text.decode()
        assert MAIL not in sent
        assert "EMAIL_ADDRESS" in sent
        told = json.loads(said.removeprefix("data: "))
        assert told["you said"] == {"to": MAIL}
        assert told["pay"] == ("[REDACTED_IBAN_CODE]" if looked_at else IBAN)
