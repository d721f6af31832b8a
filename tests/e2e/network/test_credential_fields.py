"""Data that leaves as a credential: fields that enter no action are looked at for what the privacy section keeps in."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus

from tests.e2e.network.test_policy import Session, opened
from tests.e2e.network.test_rewrites import post
from tests.e2e.network.world import response

IBAN, WHO = "DE89370400440532013000", "jane.roe@corp.example"
POLICY = """
version: 1
network_policies:
  erp:
    endpoints: [{{host: erp.test, port: {port}, local: true, protocol: rest, enforcement: enforce, access: full}}]
privacy: [{{find: [EMAIL_ADDRESS], to: any, do: pseudonymise}}, {{find: [IBAN_CODE, SECRET], to: any, do: deny}}]
secrets:
  ERP_KEY: {{from: env, destinations: [erp.test]}}
"""


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[Session]:
    async with opened(tmp_path, POLICY) as made:
        made.upstream.answer = response(b"ok")
        yield made


def basic(text: str) -> str:
    return "Authorization: Basic " + base64.b64encode(text.encode()).decode()


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
FIELDS = {
    "an account number as a cookie": (f"Cookie: a={IBAN}", 403),
    "percent-encoded": (f"Cookie: a=%44%45{IBAN[2:]}", 403),
    "as a bearer token": (f"Authorization: Bearer {IBAN}", 403),
    "without a scheme": (f"Authorization: {IBAN}", 403),
    "as a password": (basic(f"user:{IBAN}"), 403),
    "as a user beside a placeholder": (basic(f"{IBAN}:agentos-secret:ERP_KEY"), 403),
    "beside a placeholder": (f"Cookie: k=agentos-secret:ERP_KEY; a={IBAN}", 403),
    "as an api key": (f"X-Api-Key: {IBAN}", 403),
    "an address that bodies leave without": (f"Cookie: who={WHO}", 403),
    "a session": ("Cookie: sid=8f14e45fceea167a5a36dedd4bea2543; _ga=GA1.2.1234567890.1612345678", 200),
    "a token": (f"Authorization: Bearer {JWT}", 200),
    "a placeholder": ("Authorization: Bearer agentos-secret:ERP_KEY", 200),
    "an account with its placeholder": (basic(f"{WHO}:agentos-secret:ERP_KEY"), 200),
    "a key": ("X-Api-Key: agentos-secret:ERP_KEY", 200),
}


@pytest.mark.parametrize("name", FIELDS)
async def test_credential_fields_carry_credentials(session: Session, name: str) -> None:
    """ATTACK and twin: personal data in them is denied with the rule that keeps it in, credentials and accounts pass."""
    field, status = FIELDS[name]
    said = await session.curl("-H", field, f"https://erp.test:{session.upstream.port}/x")
    assert said[2] == str(status), said
    assert (session.upstream.connections == 0) == (status == 403)
    assert IBAN.encode() not in session.upstream.text
    if status == 403:
        assert "which is for a credential" in said[1], said[1]
        assert IBAN not in said[1]


async def test_the_upgrade_of_a_websocket_too(tmp_path: Path) -> None:
    """ATTACK and twin: a cookie of an upgrade."""

    async def handler(connection: ServerConnection) -> None:
        await connection.send("open")

    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        text = POLICY.replace("port: {port}", f"port: {port}").replace("protocol: rest", "protocol: websocket")
        async with opened(tmp_path, text) as made:
            url = f"ws://erp.test:{port}/ws"
            with pytest.raises(InvalidStatus):
                await connect(url, proxy=made.url, additional_headers={"Cookie": f"a={IBAN}"})
            async with connect(url, proxy=made.url, additional_headers={"Cookie": "sid=1"}) as client:
                assert await client.recv() == "open"


CHARSETS = {
    "utf-7": (("+AGo-" + WHO[1:]).encode(), "text/plain; charset=utf-7", 403),
    "utf-16": (IBAN.encode("utf-16-le"), 'text/plain; charset="UTF-16LE"', 403),
    "utf-16 that nobody states": (IBAN.encode("utf-16-le"), "text/plain", 403),
    "another alphabet": ("note".encode("cp037"), "text/plain; charset=cp037", 403),
    "two charsets": (b"note", "text/plain; charset=utf-8; charset=utf-7", 403),
    "json in utf-7": (b'{"a": "+AGo-"}', "application/json; charset=utf-7", 400),
    "utf-8": (b"note", "text/plain; charset=utf-8", 200),
    "latin 1, plain letters": (b"note", "text/plain; charset=ISO-8859-1", 200),
    "latin 1, others": ("Münze".encode("latin-1"), "text/plain; charset=ISO-8859-1", 403),
    "json": (b'{"a": "b"}', "application/json;charset=UTF-8", 200),
}


@pytest.mark.parametrize("name", CHARSETS)
async def test_a_charset_that_reads_the_bytes_otherwise(session: Session, name: str) -> None:
    """ATTACK and twin: what a server would read otherwise than the judge is no text, and denied where text must be read."""
    body, kind, status = CHARSETS[name]
    assert await post(session, body, f"Content-Type: {kind}") == str(status)
    assert (session.upstream.connections > 0) == (status == 200)
