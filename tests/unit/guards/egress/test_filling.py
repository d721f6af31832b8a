"""Placeholders where they fit, inference APIs, keys."""

from __future__ import annotations

import base64

import pytest

from agent_os.guards.egress import (
    PlaceholderError,
    detect_inference,
    fill_header,
    fill_target,
    fill_text,
    redact_keys,
)

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
