"""Requests on one client connection: each parsed, judged and admitted before its first byte goes upstream.

One exchange at a time: a pipelined request waits unread until the one before is done. Heads are written anew from
parsed values in both directions; bodies stream with back-pressure, or are read whole first where policy must see
them. What goes wrong before the response head is told to the client as a problem; after it, the connection is cut, so
that nobody takes a part for the whole. Threats: smuggling in either direction, a request that is judged and another
that is sent, early or poisoned responses.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from agent_os.core.action import NetRequest
from agent_os.core.decision import Decision
from agent_os.core.errors import ActionError, DeniedError, EffectError
from agent_os.core.ports import Admission, Outcome
from agent_os.effects.proxy import answers, http1
from agent_os.effects.proxy.content import (
    Content,
    ContentError,
    decode,
    read_whole,
    run_request_stages,
    run_stages,
    wanted,
)
from agent_os.effects.proxy.destination import Destination
from agent_os.effects.proxy.fill import Resolved, resolve_secrets
from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.http1 import CHUNKED, Body, Head, HttpError
from agent_os.effects.proxy.inference import serve_inference, serves_inference
from agent_os.effects.proxy.local import serve_local
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.request import (
    Asked,
    plan_action,
    read_absolute,
    read_asked,
    sent_body,
    sent_fields,
    sent_target,
)
from agent_os.effects.proxy.response import forward_response, inspect_response, last_words, read_response_head
from agent_os.effects.proxy.route import Account, Route, admit, denied, route_meter, settle_request
from agent_os.effects.proxy.sending import acceptable, upload, without_keys
from agent_os.effects.proxy.stream import Stream, StreamClosedError
from agent_os.effects.proxy.upstream import UpstreamError
from agent_os.guards.egress.placeholders import PlaceholderError, fill_body, fill_fields, fill_target

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


async def serve_requests(
    parts: Parts, flow: Flow, *, scheme: str, route: Route | None, first: bytes | None = None, local_only: bool = False
) -> None:
    """Serve requests until either side ends. `route` None: a forward proxy, each request names its destination.

    `local_only`: everything is a question to `policy.local`.
    """
    await Requests(parts, flow, scheme, route, local_only=local_only).serve(first)


class _DoneError(Exception):
    """An answer was given; the connection ends after it."""


class Requests:
    """The exchanges of one client connection."""

    def __init__(self, parts: Parts, flow: Flow, scheme: str, route: Route | None, *, local_only: bool) -> None:
        self._local_only = local_only
        self.parts, self.flow, self._scheme = parts, flow, scheme
        self._client = flow.client
        self.there = Destination(parts, flow, scheme, route)

    async def serve(self, first: bytes | None) -> None:
        """Serve until an end."""
        try:
            while True:
                raw = first if first is not None else await self._head()
                first = None
                if raw is None or not await self._one(raw) or self.parts.draining:
                    return
        except HttpError as error:
            self._answer_error(error)
        except _DoneError:
            return
        finally:
            await self.there.leave()

    async def _head(self) -> bytes | None:
        limits, clock, flow = self.parts.limits, self.parts.clock, self.flow
        if not self._client.buffer:
            flow.deadline, flow.on_deadline = clock.monotonic() + limits.keep_alive_seconds, "no further request"
            flow.resting = True
            try:
                if self.parts.draining or not await self._client.more():
                    return None
            finally:
                flow.resting = False
        flow.deadline, flow.on_deadline = clock.monotonic() + limits.head_seconds, "request head too slow"
        return await http1.read_head(self._client, limits.head_bytes)

    def _answer_error(self, error: HttpError) -> None:
        self.parts.flows.note("refused", self.flow, reason=str(error), status=error.status)
        self.flow.reason = str(error)
        self._client.write(answers.problem(error.status, "refused by the egress guard", str(error)))

    # ---- one request ------------------------------------------------------------------------------------------------

    async def _one(self, raw: bytes) -> bool:
        """Serve one request; return whether the connection goes on."""
        parts, flow = self.parts, self.flow
        head = http1.parse_request(raw)
        flow.deadline, flow.idle_limit = 0.0, parts.limits.idle_seconds
        flow.requests += 1
        parts.flows.counts["requests"] += 1
        if self._local_only:
            return await serve_local(parts, flow, head)
        fixed = self.there.fixed
        host, port = (fixed.host, fixed.port) if fixed is not None else read_absolute(head)
        if host == answers.POLICY_HOST and fixed is None:
            return await serve_local(parts, flow, head)
        try:
            route = await self.there.route_to(host, port)
        except DeniedError as error:
            return self._deny(error.decision, head, host, port)
        except EffectError as error:
            self._client.write(answers.problem(502, "upstream unreachable", str(error)))
            return False
        if serves_inference(parts, host):
            return await serve_inference(parts, flow, head)
        asked = read_asked(head, scheme=self._scheme, host=host, port=port, encoded_slash=route.treatment.encoded_slash)
        flow.last = f"{head.method} {asked.path}"[:200]
        return await self._judged(head, asked, route)

    def _deny(self, decision: Decision, head: Head, host: str, port: int, *, body_done: bool = False) -> bool:
        keep = head.keep_alive and (body_done or head.length == 0)
        agent, bare = head.get("user-agent"), head.method == "HEAD"
        answer = answers.denial(decision, host=host, port=port, close=not keep, head_only=bare, agent=agent)
        self._client.write(answer)
        return keep

    async def _judged(self, head: Head, asked: Asked, route: Route) -> bool:
        if head.has("upgrade") and head.get("upgrade").lower() == "websocket":
            from agent_os.effects.proxy.websocket import serve_websocket  # noqa: PLC0415 - wsproto only where needed

            return await serve_websocket(self, head, asked, route)
        try:
            return await self._exchange(head, asked, route)
        finally:
            self.there.release()

    async def _exchange(self, head: Head, asked: Asked, route: Route) -> bool:
        parts, flow, treatment = self.parts, self.flow, route.treatment
        body = Body(self._client, head.length)
        whole: bytes | None = b"" if head.length == 0 else None
        content_type = head.get("content-type")
        try:
            self._check_size(head, route)
            if whole is None and (treatment.body or wanted(parts.stages, "request", asked.host, treatment)):
                most = treatment.body_bytes or parts.limits.body_inspect_bytes
                self.there.hold(min(head.length, most) if head.length > 0 else most)
                self._continue(head)
                whole = await read_whole(body, most, parts.limits)
            plain = decode(whole, head.get("content-encoding"), parts.limits) if whole else whole
            if plain and treatment.redact_keys:
                head, whole, plain = without_keys(head, whole or b"", plain)
            action = plan_action(asked, head, flow.principal, body=plain, size=max(head.length, len(whole or b"")))
            await run_request_stages(parts.stages, action, head.fields, parts.limits)
            if plain:
                content = Content("request", asked.host, asked.port, content_type, plain, treatment, action)
                await run_stages(parts.stages, content, parts.limits)
            admission = await self.admit(action, route, f"{head.method} {asked.host}", asked.url)
        except ContentError as error:
            decision = parts.refusal(error.rule, error.reason)
            denied(parts, flow, decision, f"{head.method} {asked.host}", method=head.method, url=asked.url)
            return self._deny(decision, head, asked.host, asked.port, body_done=body.done)
        except DeniedError as error:
            return self._deny(error.decision, head, asked.host, asked.port, body_done=body.done)
        return await self._admitted(head, asked, route, action, admission, body, whole, plain)

    async def admit(self, action: NetRequest, route: Route, what: str, url: str) -> Admission | None:
        """Admit a request; in observe mode a denial is noted and None returned. Raises DeniedError."""
        try:
            return await admit(self.parts, self.flow, action, route.stated)
        except DeniedError as error:
            denied(self.parts, self.flow, error.decision, what, method=action.method, url=url)
            if self.parts.observe:
                self.parts.flows.observed(action, self.flow.peer, route.addresses)
                return None
            raise
        except ActionError as error:
            raise HttpError(str(error)) from None

    def _check_size(self, head: Head, route: Route) -> None:
        limit = route.treatment.request_bytes or self.parts.limits.request_bytes
        if limit and head.length > limit:
            raise ContentError("content.size", "the request body is larger than allowed", 413)
        meter = route_meter(self.parts, self.flow.principal, route)
        if meter is not None and not meter.left:
            raise ContentError("egress.bytes", "the byte budget of this destination is spent", 429)

    def _continue(self, head: Head) -> None:
        if head.get("expect").lower() == "100-continue":
            self._client.write(_CONTINUE)

    async def _admitted(
        self, head: Head, asked: Asked, route: Route, action: NetRequest, admission: Admission | None,
        body: Body, whole: bytes | None, plain: bytes | None,
    ) -> bool:  # fmt: skip
        parts, flow = self.parts, self.flow
        outcome = Outcome(error="broken-off")
        began = Account.of(parts, flow)
        try:
            outcome, keep = await self._carried_out(head, asked, route, action, admission, body, whole, plain)
            return keep
        finally:
            await settle_request(parts, flow, admission, outcome, began, method=head.method, url=asked.url)

    async def _carried_out(
        self, head: Head, asked: Asked, route: Route, action: NetRequest, admission: Admission | None,
        body: Body, whole: bytes | None, plain: bytes | None,
    ) -> tuple[Outcome, bool]:  # fmt: skip
        """Send the admitted request and bring the response back. Tells the client of whatever goes wrong before."""
        parts, client = self.parts, self._client
        final = admission.action if admission is not None else action
        if not isinstance(final, NetRequest) or (final.host, final.port) != (action.host, action.port):
            client.write(answers.problem(502, "rewrite not possible", "a rewrite changed the destination"))
            return Outcome(error="rewrite"), False
        fields = sent_fields(final.headers, action.headers, head)
        target = sent_target(final, action, asked)
        coding = head.get("content-encoding")
        if whole and final.body != action.body:
            whole = sent_body(final, action, plain or b"")
            fields = [(name, value) for name, value in fields if name != "content-encoding"]
            coding = ""
        try:
            secrets = await resolve_secrets(
                parts,
                self.flow,
                route,
                target,
                fields,
                plain if whole else whole,
                scheme=asked.scheme,
                packed=bool(coding),
            )
            target, fields = fill_target(target, secrets.values), fill_fields(fields, secrets.values)
            if whole and secrets.values and not coding:
                whole = fill_body(whole, head.get("content-type"), secrets.values)
        except DeniedError as error:
            keep = self._deny(error.decision, head, asked.host, asked.port, body_done=body.done)
            return Outcome(error="denied", detail="secret"), keep
        except PlaceholderError as error:
            decision = parts.refusal(f"secrets.{error.name}".rstrip("."), str(error))
            denied(parts, self.flow, decision, "secret")
            return Outcome(error="denied"), self._deny(decision, head, asked.host, asked.port, body_done=body.done)
        fields = acceptable(fields, secrets, parts, route)
        try:
            upstream = await self.there.upstream(route)
        except UpstreamError as error:
            client.write(answers.problem(502, "upstream unreachable", str(error), reason=error.reason))
            return Outcome(error=error.reason, detail=str(error)), False
        length = len(whole) if whole is not None else head.length
        rechunk = whole is None and head.length > 0 and secrets.body_possible
        announced = (
            http1.framing(CHUNKED if rechunk else length) if length or head.method not in ("GET", "HEAD") else []
        )
        start = f"{head.method} {target} HTTP/1.1"
        upstream.write(http1.write_head(start, [("host", asked.authority), *fields, *announced]) + (whole or b""))
        if whole is not None:
            return await self._answer(head, route, upstream, secrets)
        self._continue(head)
        return await self._stream_both(head, route, upstream, body, secrets, rechunk or length == CHUNKED)

    async def _stream_both(
        self, head: Head, route: Route, upstream: Stream, body: Body, secrets: Resolved, chunked: bool
    ) -> tuple[Outcome, bool]:
        """Upload while the response may already come; a response that ends first ends the upload."""
        sending = asyncio.ensure_future(
            upload(self.parts, self.flow, head, route, upstream, body, secrets, chunked=chunked)
        )
        answer = asyncio.ensure_future(self._answer(head, route, upstream, secrets))
        said = self._client.sent
        try:
            await asyncio.wait({sending, answer}, return_when=asyncio.FIRST_COMPLETED)
            error = sending.exception() if sending.done() else None
            if error is not None and not answer.done() and not upstream.lost:  # a server that is gone may have answered
                answer.cancel()
                upstream.abort()
                if self._client.sent != said:  # an answer has begun: nothing of ours may stand in the middle of it
                    self._client.break_off()
                    return Outcome(error="broken-off", detail=str(error)), False
                if isinstance(error, DeniedError):
                    self._deny(error.decision, head, route.host, route.port)
                    return Outcome(error="denied"), False
                if isinstance(error, HttpError):
                    raise error
                return Outcome(error="broken-off", detail=str(error)), False
            outcome, keep = await answer
            if error is not None or not sending.done():
                self.there.drop()
                return outcome, False
            return outcome, keep
        finally:
            for task in (sending, answer):
                if not task.done():
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    # ---- the response -----------------------------------------------------------------------------------------------

    async def _answer(self, head: Head, route: Route, upstream: Stream, secrets: Resolved) -> tuple[Outcome, bool]:
        parts, client, flow = self.parts, self._client, self.flow
        try:
            response = await read_response_head(upstream, head.method, parts.limits)
            if response.status == 101:
                raise HttpError("the upstream switched protocols unasked", 502)
            if upstream.meter is not None and response.length > upstream.meter.left + len(upstream.buffer):
                raise ContentError(
                    "egress.bytes", "the answer is larger than what this destination's byte budget has left"
                )
            body = Body(upstream, response.length)
            checked = await inspect_response(parts, head, route, response, body, secrets, self.there.hold)
        except (HttpError, StreamClosedError) as error:
            self.there.drop()
            status = error.status if isinstance(error, HttpError) else 502
            client.write(answers.problem(status, "bad response from upstream", upstream.tls_failure or str(error)))
            return Outcome(error="bad-response", detail=str(error)), False
        except ContentError as error:
            self.there.drop()
            decision = parts.refusal(error.rule, error.reason)
            denied(parts, self.flow, decision, "response")
            return Outcome(error="denied", detail=error.rule), self._deny(
                decision, head, route.host, route.port, body_done=True
            )
        keep = head.keep_alive and head.minor == 1
        try:
            await forward_response(parts, client, head, response, body, checked, keep, secrets, route)
        except (HttpError, StreamClosedError, ContentError) as error:
            self.there.drop()
            if isinstance(error, ContentError):
                denied(parts, flow, parts.refusal(error.rule, error.reason), "response")
                client.write(last_words(response, head, error))
                client.break_off()
            else:
                client.abort()
            return Outcome({"status": response.status}, error="broken-off", detail=str(error)), False
        finally:
            if checked.passing is not None:
                await checked.passing.close()
        if not response.keep_alive or upstream.buffer:
            self.there.drop()
        return Outcome({"status": response.status}), keep
