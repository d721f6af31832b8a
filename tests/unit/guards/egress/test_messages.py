"""Requests and messages as actions, placeholders, inference APIs."""

from __future__ import annotations

import base64

import pytest

from agent_os.guards.egress import (
    HttpError,
    PlaceholderError,
    check_upgrade,
    detect_inference,
    fill_header,
    fill_target,
    fill_text,
    has_placeholder,
    message_action,
    parse_request,
    redact_keys,
    request_action,
)


def head(text: str) -> bytes:
    """Return the bytes of a head written with plain line ends."""
    return text.replace("\n", "\r\n").encode() + b"\r\n\r\n"


def test_a_request_becomes_a_canonical_action() -> None:
    """Path and query are canonical, credentials stay out, the body is bound by its digest."""
    parsed = parse_request(
        head("POST /a/../b?x=1&x=%32 HTTP/1.1\nHost: API.test\nAuthorization: Bearer s\nAccept: */*")
    )
    action = request_action(parsed, host="api.test", port=443, body=b"{}")
    assert (action.path, action.query, action.method) == ("/b", {"x": ["1", "2"]}, "POST")
    assert action.body_digest.startswith("sha256:")
    assert "authorization" not in action.headers
    assert action.size == 2


@pytest.mark.parametrize("host", ["evil.test", "api.test:8443", "api.test@evil.test", ""])
def test_a_request_for_another_destination_is_refused(host: str) -> None:
    """Inside a tunnel to one host a request cannot name another one (domain fronting)."""
    field = f"Host: {host}" if host else "X: y"
    with pytest.raises(HttpError):
        request_action(parse_request(head(f"GET / HTTP/1.1\n{field}")), host="api.test", port=443)


def test_bodies_that_cannot_be_read_where_they_must_are_refused() -> None:
    """A compressed or multipart body says nothing to a check of its content; elsewhere it is not looked at."""
    for field in ("Content-Encoding: gzip", "Content-Type: multipart/form-data; boundary=x"):
        parsed = parse_request(head(f"POST /mcp HTTP/1.1\nHost: api.test\n{field}"))
        with pytest.raises(HttpError):
            request_action(parsed, host="api.test", port=443, body=b"x", inspection={"protocol": "mcp"})
        assert request_action(parsed, host="api.test", port=443, body=b"x").size == 1


def test_bodies_are_parsed_by_protocol() -> None:
    """JSON-RPC and GraphQL bodies become what rules judge; what cannot be read becomes an error."""
    parsed = parse_request(head("POST /rpc HTTP/1.1\nHost: api.test"))
    call = b'{"jsonrpc": "2.0", "id": 1, "method": "a.b"}'
    assert request_action(
        parsed, host="api.test", port=443, body=call, inspection={"protocol": "json-rpc"}
    ).jsonrpc == {
        "method": "a.b",
        "params": {},
    }
    broken = request_action(parsed, host="api.test", port=443, body=b"{", inspection={"protocol": "json-rpc"})
    assert broken.jsonrpc["error"]
    query = request_action(
        parsed, host="api.test", port=443, body=b'{"query": "{ a }"}', inspection={"protocol": "graphql"}
    )
    assert query.graphql["operations"][0]["fields"] == ["a"]


def test_websocket_handshakes_and_messages() -> None:
    """Only a well-formed upgrade opens a WebSocket; each text message is an action of its own."""
    fields = "Host: a.test\nUpgrade: websocket\nConnection: keep-alive, Upgrade\nSec-WebSocket-Version: 13"
    good = parse_request(head(f"GET /ws HTTP/1.1\n{fields}\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
    assert check_upgrade(good)
    assert not check_upgrade(parse_request(head("GET /ws HTTP/1.1\nHost: a.test")))
    for bad in (f"POST /ws HTTP/1.1\n{fields}", f"GET /ws HTTP/1.1\n{fields}", "GET / HTTP/1.1\nHost: a\nUpgrade: h2c"):
        with pytest.raises(HttpError):
            check_upgrade(parse_request(head(bad)))
    opened = request_action(good, host="a.test", port=443)
    message = message_action(opened, "hello")
    assert message is not None
    assert (message.method, message.path, message.size) == ("WEBSOCKET_TEXT", "/ws", 5)
    assert message.digest != opened.digest
    query = message_action(opened, '{"type": "subscribe", "payload": {"query": "subscription { m }"}}', graphql=True)
    assert query is not None
    assert query.graphql["operations"][0]["operation_type"] == "subscription"
    assert message_action(opened, '{"type": "connection_init"}', graphql=True) is None
    hidden = message_action(opened, "not graphql", graphql=True)
    assert hidden is not None
    assert hidden.graphql["error"]


VALUES = {"KEY": "s3cret", "PATHY": "a/b", "DOTS": "../x", "LINE": "a\r\nX: y", "SPACE": "a b&c"}


def test_placeholders_are_filled_where_they_fit() -> None:
    """Headers, Basic credentials, path segments and parameters; nothing else changes."""
    assert fill_header("x-key: openshell:resolve:env:KEY", VALUES) == "x-key: s3cret"
    assert fill_header("Authorization: Bearer agentos-secret:KEY", VALUES) == "Authorization: Bearer s3cret"
    assert fill_header("x: xoxb-OPENSHELL-RESOLVE-ENV-KEY", VALUES) == "x: s3cret"
    basic = base64.b64encode(b"u:openshell:resolve:env:KEY").decode()
    assert (
        fill_header(f"Authorization: Basic {basic}", VALUES)
        == "Authorization: Basic " + base64.b64encode(b"u:s3cret").decode()
    )
    assert fill_target("/botopenshell:resolve:env:KEY/send?a=1", VALUES) == "/bots3cret/send?a=1"
    assert fill_target("/x?k=openshell:resolve:env:SPACE&b=2", VALUES) == "/x?k=a%20b%26c&b=2"
    assert fill_target("/x/openshell%3Aresolve%3Aenv%3AKEY", VALUES) == "/x/s3cret"
    assert fill_text('{"k": "agentos-secret:KEY"}', VALUES) == '{"k": "s3cret"}'
    for untouched in ("Authorization: Basic dTpw", "x: plain"):
        assert fill_header(untouched, VALUES) == untouched
    assert not has_placeholder("/x?y=z")


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (fill_header, "x: openshell:resolve:env:UNKNOWN"),
        (fill_header, "x: openshell:resolve:env:LINE"),
        (fill_header, "x: openshell:resolve:env:"),
        (fill_header, "x: openshell:resolve:env:1BAD"),
        (fill_target, "/a/openshell:resolve:env:PATHY"),
        (fill_target, "/a/openshell:resolve:env:DOTS/b"),
        (fill_target, "/a?openshell:resolve:env:KEY=1"),
        (fill_target, "/a?k=openshell:resolve:env:UNKNOWN"),
        (fill_text, "agentos-secret:UNKNOWN"),
    ],
)
def test_placeholders_that_do_not_fit_fail_the_request(where: object, text: str) -> None:
    """An unknown name, a line break in a header, a slash in a path: never sent, and the value is never named."""
    assert callable(where)
    with pytest.raises(PlaceholderError) as error:
        where(text, VALUES)
    assert not any(value in str(error.value) for value in VALUES.values())


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/chat/completions", "openai_chat_completions"),
        ("post", "/v1/messages?x=1", "anthropic_messages"),
        ("GET", "/v1/models/x/y", "model_discovery"),
        ("POST", "/model/m/invoke", "aws_bedrock_invoke"),
        ("POST", "/model/m/invoke-with-response-stream", "aws_bedrock_invoke_stream"),
        ("POST", "/model/a/b/invoke", None),
        ("POST", "/model//invoke", None),
        ("GET", "/v1/chat/completions", None),
        ("POST", "/v1/files", None),
    ],
)
def test_inference_apis_are_detected(method: str, path: str, expected: str | None) -> None:
    """Known model APIs by method and path, nothing else."""
    found = detect_inference(method, path)
    assert (found.protocol if found else None) == expected


def test_keys_are_redacted_as_the_reference_does() -> None:
    """Long `sk-` keys are replaced, short ones and other secrets are not its business."""
    assert redact_keys("a sk-ABCDEFGHIJKLMNOP b") == "a [REDACTED] b"
    assert redact_keys("sk-short password") == "sk-short password"
