"""The model gateway of a session: every call goes through the monitor, whoever asks and in whatever protocol.

Aims a call at a provider the policy names, performs it, tries again or elsewhere (each try an action of its own), never
at a less trusted destination than the first. Reservations, clamps, routes, redaction and the audit are the monitor's.
Threats: a failover that carries a prompt further out than the policy's first choice; a retry that spends without a
reservation; an answer whose pictures and links call home.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from agent_os.core.action import Action, ModelCall
from agent_os.core.errors import ActionError, DeniedError, EffectError, StoppedError
from agent_os.core.guards import PrivacyRouter
from agent_os.core.ports import CANCELLED, Admission, Outcome, Pending
from agent_os.effects.models.client import NOTHING, Providers, RefusedError, UnavailableError
from agent_os.guards.models.neutral import Answer, Delta, Gathering, Request, Usage
from agent_os.guards.models.openai import parse_embeddings
from agent_os.guards.models.signed import SignedReasoning
from agent_os.guards.privacy.stream import PieceRestorer
from agent_os.monitor import Monitor
from agent_os.monitor.stopping import unless_halted
from agent_os.runtime.inspection import Inspecting
from agent_os.runtime.model_routes import Aim, Routes, aim_of

BACKOFF_SECONDS: Final = 0.25
BACKOFF_SECONDS_MAX: Final = 20.0
ANSWERS_KEPT_MAX: Final = 256


class ModelGateway:
    """Calls models for a session. `link_allowed` tells to which hosts links and pictures in answers may point."""

    def __init__(
        self, monitor: Monitor, providers: Providers, *, link_allowed: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._monitor, self._providers = monitor, providers
        self._inspection = Inspecting(lambda: monitor.policy, link_allowed)
        self._routes = Routes(lambda: monitor.policy, lambda: providers.endpoints)
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._signed = SignedReasoning()

    async def complete(self, request: Request, *, purpose: str = "gateway") -> Answer:
        """Return the answer to a request. Raises DeniedError, ActionError, EffectError."""
        action, aim = self._asked(request, purpose)
        kept: list[Answer] = []

        async def body(final: Action) -> Outcome:
            call = _call(final)
            held = self._answers.get(call.digest) if self._caches() else None
            if held is not None:
                self._answers.move_to_end(call.digest)
                kept.append(held)
                return Outcome(held.to_json(), usage=NOTHING)
            answer = await self._providers.answer(self._signed.sendable(action, call))
            self._signed.learn(answer.reasoning, answer.signature)
            self._keep(call, answer)
            kept.append(answer)
            shown = self._inspection.stream()
            shown.whole(answer.text)
            shown.whole(answer.reasoning, "reasoning")
            usage = answer.usage.believed(call.messages).amounts()
            return Outcome(answer.to_json(), usage={**usage, **_flagged(len(shown.kinds))})

        last: EffectError = EffectError("no provider serves this model")
        tries = deque(self._routes.tries(action, aim))
        while tries:
            number, aimed = tries.popleft()
            try:
                done = await self._monitor.perform(aimed, body=_settled(body))
            except DeniedError as error:
                if not self._routes.downgraded(tries, aimed, error):
                    raise
                continue
            except UnavailableError as error:
                last = error
                await self._pause(number, error)
                continue
            if isinstance(done, Pending):
                raise _waits(done)
            stop = self._monitor.halted() if not done.ok else None
            if stop is not None:
                raise DeniedError(stop)
            if not done.ok:
                if done.error == "unavailable":
                    last = UnavailableError(done.detail)
                    await self._pause(number, last)
                    continue
                raise EffectError(done.detail or done.error)
            return self._inspected(kept[-1].restored(done.value))
        raise last

    async def stream(self, request: Request, *, purpose: str = "gateway") -> AsyncIterator[Delta]:
        """Yield the pieces of an answer as they come. Raises as `complete`; once pieces came, nothing is tried again."""
        action, aim = self._asked(request, purpose)
        last: EffectError = EffectError("no provider serves this model")
        tries = deque(self._routes.tries(action, aim))
        while tries:
            number, aimed = tries.popleft()
            try:
                admission = await self._monitor.admit(aimed)
            except DeniedError as error:
                if not self._routes.downgraded(tries, aimed, error):
                    raise
                continue
            flow = self._flow(admission, action)
            started = False
            try:
                async for delta in flow:
                    started = True
                    yield delta
                return
            except UnavailableError as error:
                if started:
                    raise
                last = error
            finally:
                await flow.aclose()  # type: ignore[attr-defined]
            await self._pause(number, last)
        raise last

    async def _flow(self, admission: Admission, asked: ModelCall) -> AsyncIterator[Delta]:
        """Yield one admitted call's pieces, restored and defanged, and settle it however it ends."""
        final, whole = _call(admission.action), Gathering()
        failure = "broken-off"
        restorer, shown = _Restorer(self._monitor.session.privacy), self._inspection.stream()
        try:
            pieces = self._providers.stream(self._signed.sendable(asked, final))
            async for delta in unless_halted(pieces, self._monitor.halted):
                whole.add(delta)
                for restored in restorer.feed(delta):
                    for piece in shown.feed(restored):
                        yield piece
            failure = ""
            self._signed.learn(*whole.reasoned)
            for restored in restorer.finish():
                for piece in shown.feed(restored):
                    yield piece
            for piece in shown.finish():
                yield piece
        except UnavailableError:
            failure = "unavailable"
            raise
        except RefusedError:
            failure = "refused"
            raise
        except StoppedError:
            failure = CANCELLED
            raise
        finally:
            settling = self._monitor.settle(admission, self._outcome(whole, failure, final, len(shown.kinds)))
            await asyncio.shield(asyncio.ensure_future(settling))

    def _inspected(self, answer: Answer) -> Answer:
        shown = self._inspection.stream()
        text, reasoning = shown.whole(answer.text), shown.whole(answer.reasoning, "reasoning")
        return replace(answer, text=text, reasoning=reasoning, flags=tuple(sorted(shown.kinds)))

    def _outcome(self, whole: Gathering, failure: str, final: ModelCall, flagged: int) -> Outcome:
        try:
            answer = whole.answer()
        except ActionError:
            return Outcome(error="malformed", detail="the answer holds a tool call that is no JSON")
        usage = answer.usage.believed(final.messages).amounts() if whole.finished else {}  # a report comes at the end
        if failure in ("unavailable", "refused"):
            return Outcome(error=failure, usage=NOTHING)
        return Outcome(answer.to_json(), error=failure, usage={**usage, **_flagged(flagged)})

    async def embeddings(self, model: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return embeddings of a text or a list of texts. Raises as `complete`."""
        request, more = parse_embeddings(model, body)
        action, aim = self._asked(request, "embeddings")
        kept: list[Mapping[str, Any]] = []

        async def run(final: Action) -> Outcome:
            call = _call(final)
            sent = [str(message["content"]) for message in call.messages]
            kept.append(await self._providers.embeddings(call, {"model": call.model, "input": sent, **more}))
            usage = kept[-1].get("usage")
            tokens = Usage.of(usage.get("prompt_tokens") if isinstance(usage, Mapping) else None, 0)
            used = tokens.believed(call.messages).input
            return Outcome(None, usage={"tokens": float(used)} if used >= 0 else {})

        for _, aimed in self._routes.tries(action, aim):
            done = await self._monitor.perform(aimed, body=_settled(run))
            if isinstance(done, Pending):
                raise _waits(done)
            if done.ok:
                return kept[-1]
            raise EffectError(done.detail or done.error)
        raise EffectError("no provider serves this model")

    def models(self) -> list[tuple[str, str]]:
        """Return (model, provider) of every model the policy names exactly, and its aliases."""
        return self._routes.models()

    # ---- answers kept -----------------------------------------------------------------------------------------------

    def _caches(self) -> bool:
        """Whether every file of the policy that has models says `cache: true`."""
        sections = [section for section, _layer, _unit in self._monitor.policy.sections("models")]
        return bool(sections) and all(section.cache for section in sections)

    def _keep(self, call: ModelCall, answer: Answer) -> None:
        """Keep an answer under its action's digest.

        The digest holds principal, provider, model and the whole request as it was sent, so an answer is only ever given
        to whoever asked exactly this in this session; the call is judged and recorded each time.
        """
        if not self._caches() or answer.finish not in ("stop", "tool"):
            return
        self._answers[call.digest] = answer
        while len(self._answers) > ANSWERS_KEPT_MAX:
            self._answers.popitem(last=False)

    def _asked(self, request: Request, purpose: str) -> tuple[ModelCall, Aim]:
        aim = aim_of(self._monitor.policy, request.model)
        action = ModelCall(
            model=aim.model,
            provider=aim.providers[0] if aim.providers else "",
            messages=request.neutral(),
            tools=tuple(tool.name for tool in request.tools),
            input_tokens=request.estimate(),
            max_tokens=request.max_tokens,
            purpose=purpose,
            principal=self._monitor.principal,
        )
        return action, aim

    async def _pause(self, number: int, error: EffectError) -> None:
        after = error.after if isinstance(error, UnavailableError) else 0.0
        await asyncio.sleep(min(max(after, BACKOFF_SECONDS * 2 ** min(number, 6)), BACKOFF_SECONDS_MAX))


def _flagged(count: int) -> dict[str, float]:
    """Return what the audit says of an answer in which secrets were found."""
    return {"answer_secrets": float(count)} if count else {}


class _Restorer:
    """Puts originals back into the pieces of a streamed answer as they come; passes them on where there is no router."""

    def __init__(self, privacy: PrivacyRouter | None) -> None:
        self._pieces = PieceRestorer(privacy) if privacy is not None else None
        self._text = ""

    def feed(self, delta: Delta) -> list[Delta]:
        """Return what may be shown after this piece."""
        pieces = self._pieces
        if pieces is None:
            return [delta]
        if delta.kind == "finish":
            return [*self.finish(), delta]
        if delta.kind not in ("text", "reasoning", "tool"):
            return [delta]
        out: list[Delta] = []
        if self._text and self._text != delta.kind:  # a text block ends where another block begins
            held = pieces.end((self._text, 0))
            out += [Delta(self._text, held)] if held else []
        self._text = "" if delta.kind == "tool" else delta.kind
        index = delta.index if delta.kind == "tool" else 0
        shown = pieces.feed((delta.kind, index), delta.text, json=delta.kind == "tool")
        if shown or not delta.text or delta.id or delta.name:
            out.append(replace(delta, text=shown))
        return out

    def finish(self) -> list[Delta]:
        """Return what was held back; the stream ends."""
        held = self._pieces.finish() if self._pieces is not None else []
        return [Delta(channel[0], text, channel[1]) for channel, text in held if isinstance(channel, tuple)]


def _settled(body: Callable[[Action], Any]) -> Callable[[Action], Any]:
    """Return a body whose unavailability is an outcome: nothing was used, so nothing stays reserved."""

    async def run(final: Action) -> Outcome:
        try:
            done: Outcome = await body(final)
            return done
        except UnavailableError as error:
            return Outcome(error="unavailable", detail=str(error), usage=NOTHING)
        except RefusedError as error:
            return Outcome(error="refused", detail=str(error), usage=NOTHING)

    return run


def _call(action: Action) -> ModelCall:
    if not isinstance(action, ModelCall):
        raise EffectError("the action is no model call")
    return action


def _waits(pending: Pending) -> DeniedError:
    return DeniedError(
        replace(pending.decision, reason=f"waits for approval {pending.approval_id}: {pending.decision.reason}")
    )
