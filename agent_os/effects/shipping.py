"""Sending the audit off this machine: spans to an OpenTelemetry collector, events to an HTTP endpoint, and how far it got.

Stands beside the audit and never in an action's way: it reads what is durable already. Threat: a position that is kept before
the records behind it have arrived (they would never be sent), and a collector's answer that is believed without its status.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from agent_os.audit.spans import Span
from agent_os.core.errors import EffectError, MissingPartError

SEND_SECONDS: Final = 10.0
POSITION_BYTES_MAX: Final = 64 << 20


class SpanDestination:
    """An OpenTelemetry collector that takes OTLP over HTTP. Raises MissingPartError without the extra `otel`."""

    def __init__(self, url: str, version: str) -> None:
        """`url` is the collector's (`http://host:4318`); headers come from `OTEL_EXPORTER_OTLP_HEADERS`."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        except ImportError:
            raise MissingPartError("the OpenTelemetry exporter", "otel") from None
        endpoint = url if url.rstrip("/").endswith("/v1/traces") else f"{url.rstrip('/')}/v1/traces"
        self._exporter: Any = OTLPSpanExporter(endpoint=endpoint, timeout=SEND_SECONDS)
        self._resource = Resource.create({"service.name": "agent-os", "service.version": version})

    def send(self, spans: Sequence[Span]) -> None:
        """Send a batch. Raises EffectError where the collector did not take it."""
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415

        if self._exporter.export([self._readable(span) for span in spans]) is not SpanExportResult.SUCCESS:
            raise EffectError("the collector did not take the spans")

    def _readable(self, span: Span) -> Any:
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags  # noqa: PLC0415
        from opentelemetry.trace.status import Status, StatusCode  # noqa: PLC0415

        trace, own = int.from_bytes(span.trace, "big"), int.from_bytes(span.id, "big")
        return ReadableSpan(
            span.name,
            SpanContext(trace, own, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)),
            resource=self._resource,
            attributes=span.attributes,
            kind=SpanKind.CLIENT if span.outward else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.OK),
            start_time=span.start,
            end_time=span.end,
        )

    def close(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()


class LineDestination:
    """An HTTP endpoint that takes one JSON document a line (a log collector's or SIEM's input)."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        import httpx  # noqa: PLC0415

        self._url = url
        self._client = httpx.Client(timeout=SEND_SECONDS, headers=dict(headers), follow_redirects=False)

    def send(self, lines: Sequence[str]) -> None:
        """Send a batch. Raises EffectError where the endpoint did not take it."""
        import httpx  # noqa: PLC0415

        body = "".join(lines).encode()
        try:
            answer = self._client.post(self._url, content=body, headers={"content-type": "application/x-ndjson"})
        except httpx.HTTPError as error:
            raise EffectError(f"the endpoint did not take the records: {type(error).__name__}") from None
        if not answer.is_success:
            raise EffectError(f"the endpoint did not take the records: HTTP status {answer.status_code}")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Destination(Protocol):
    """Where batches go; `send` returns only when they have arrived."""

    def send(self, batch: Any) -> None:
        """Send a batch, or raise EffectError."""

    def close(self) -> None:
        """Close the connection."""


class Position:
    """How far one destination has got, in a file that is replaced whole: segments' offsets, and intents without an outcome."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[dict[str, int], dict[str, Mapping[str, Any]]] | None:
        """Return what was kept, or None before the first time. Raises EffectError for a file that is not one of ours."""
        if not self._path.exists():
            return None
        try:
            with open(self._path, "rb") as file:
                said = json.loads(file.read(POSITION_BYTES_MAX))
            return {str(name): int(at) for name, at in said["read"].items()}, dict(said["open"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise EffectError(f"{self._path}: cannot be read; remove it to send everything again") from None

    def keep(self, read: Mapping[str, int], waiting: Mapping[str, Mapping[str, Any]]) -> None:
        """Put a new position in place of the old one. Raises EffectError: the old one stays, what came since is sent again."""
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump({"read": dict(read), "open": dict(waiting)}, file)
                file.flush()
                os.fdatasync(file.fileno())
            os.replace(fresh, self._path)
        except OSError as error:
            raise EffectError(f"how far was sent cannot be kept: {error.strerror}: {self._path}") from None
