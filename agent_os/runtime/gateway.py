"""The model gateway of a session: every call goes through the monitor, whoever asks and in whatever protocol.

Aims a call at a provider the policy names, performs it, tries again or elsewhere (each try an action of its own), never
at a less trusted destination than the first. Reservations, clamps, routes, redaction and the audit are the monitor's.
Threats: a failover that carries a prompt further out than the policy's first choice; a retry that spends without a
reservation; an answer whose pictures and links call home.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from agent_os.core.action import Action, ModelCall
from agent_os.core.errors import ActionError, DeniedError, EffectError
from agent_os.core.guards import PrivacyRouter
from agent_os.core.ports import Admission, Outcome, Pending
from agent_os.effects.models.client import BASES, Endpoint, Key, Providers, RefusedError, UnavailableError
from agent_os.effects.secret_store import SecretStores, Source
from agent_os.guards.models.neutral import Answer, Delta, Gathering, Request, Usage
from agent_os.guards.models.openai import parse_embeddings
from agent_os.guards.privacy.stream import PieceRestorer
from agent_os.monitor import Monitor
from agent_os.policy import Policy
from agent_os.policy.globs import compile_any
from agent_os.policy.privacy import provider_place
from agent_os.runtime.inspection import Inspecting
from agent_os.runtime.sources import secret_stores

BACKOFF_SECONDS: Final = 0.25
BACKOFF_SECONDS_MAX: Final = 20.0
TRIES_MAX: Final = 12
ANSWERS_KEPT_MAX: Final = 256
NOTHING: Final = {"tokens": 0.0, "usd": 0.0}
"""What a call used that no provider took."""
_TRUST: Final = {"local": 2, "private": 1, "external": 0}


@dataclass(frozen=True, slots=True)
class _Aim:
    """Where a call may go, best first, under the names the policy gives."""

    model: str
    providers: tuple[str, ...]


class ModelGateway:
    """Calls models for a session. `link_allowed` tells to which hosts links and pictures in answers may point."""

    def __init__(
        self, monitor: Monitor, providers: Providers, *, link_allowed: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._monitor, self._providers = monitor, providers
        self._inspection = Inspecting(lambda: monitor.policy, link_allowed)
        self._answers: OrderedDict[str, Answer] = OrderedDict()

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
            answer = await self._providers.answer(call)
            self._keep(call, answer)
            kept.append(answer)
            shown = self._inspection.stream()
            shown.whole(answer.text)
            shown.whole(answer.reasoning, "reasoning")
            usage = answer.usage.believed(call.messages).amounts(self._price(call))
            return Outcome(answer.to_json(), usage={**usage, **_flagged(len(shown.kinds))})

        last: EffectError = EffectError("no provider serves this model")
        tries = deque(self._tries(action, aim))
        while tries:
            number, aimed = tries.popleft()
            try:
                done = await self._monitor.perform(aimed, body=_settled(body))
            except DeniedError as error:
                if not self._downgraded(tries, aimed, error):
                    raise
                continue
            except UnavailableError as error:
                last = error
                await self._pause(number, error)
                continue
            if isinstance(done, Pending):
                raise _waits(done)
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
        tries = deque(self._tries(action, aim))
        while tries:
            number, aimed = tries.popleft()
            try:
                admission = await self._monitor.admit(aimed)
            except DeniedError as error:
                if not self._downgraded(tries, aimed, error):
                    raise
                continue
            flow = self._flow(admission)
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

    async def _flow(self, admission: Admission) -> AsyncIterator[Delta]:
        """Yield one admitted call's pieces, restored and defanged, and settle it however it ends."""
        final, whole = _call(admission.action), Gathering()
        failure = "broken-off"
        restorer, shown = _Restorer(self._monitor.session.privacy), self._inspection.stream()
        try:
            async for delta in self._providers.stream(final):
                whole.add(delta)
                for restored in restorer.feed(delta):
                    for piece in shown.feed(restored):
                        yield piece
            failure = ""
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
        usage = answer.usage.believed(final.messages).amounts(self._price(final))
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

        for _, aimed in self._tries(action, aim):
            done = await self._monitor.perform(aimed, body=_settled(run))
            if isinstance(done, Pending):
                raise _waits(done)
            if done.ok:
                return kept[-1]
            raise EffectError(done.detail or done.error)
        raise EffectError("no provider serves this model")

    def models(self) -> list[tuple[str, str]]:
        """Return (model, provider) of every model the policy names exactly, and its aliases."""
        found: dict[str, str] = {}
        for section, _layer, _unit in self._monitor.policy.sections("models"):
            for name, provider in section.providers.items():
                for model in [*provider.models, *([provider.model] if provider.model else [])]:
                    if not any(char in model for char in "*?["):
                        found.setdefault(model, name)
            for alias, wanted in section.aliases.items():
                found.setdefault(alias, wanted.partition("/")[0])
        return sorted(found.items())

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

    # ---- aiming -----------------------------------------------------------------------------------------------------

    def _asked(self, request: Request, purpose: str) -> tuple[ModelCall, _Aim]:
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

    def _tries(self, action: ModelCall, aim: _Aim) -> list[tuple[int, ModelCall]]:
        """Return the tries of a call: the first provider with its retries, then others no less trusted."""
        tries: list[ModelCall] = []
        first = self._trust(aim.providers[0]) if aim.providers else 0
        for name in aim.providers or ("",):
            if self._trust(name) < first:
                continue
            retries = self._spec(name).retries if name else 0
            tries.extend([action.rewritten(provider=name)] * (1 + retries))  # type: ignore[list-item]
        return list(enumerate(tries[:TRIES_MAX]))

    def _downgraded(self, tries: deque[tuple[int, ModelCall]], aimed: ModelCall, error: DeniedError) -> bool:
        """Replace the tries by cheaper providers where only budgets that say `downgrade` denied; False if none is left.

        Cheaper is a lower price; never less trusted; each is judged, and may be denied, like the first.
        """
        rules = {
            f"budgets[{index}]"
            for section, _layer, _unit in self._monitor.policy.sections("budgets")
            for index, budget in enumerate(section)
            if budget.on_exceeded == "downgrade"
        }
        reserved = [item for item in error.decision.obligations if item.kind == "reserve"]
        lost = error.decision.rules == ("runtime.budget",) and bool(reserved)
        if lost:
            if any(item.params.get("on_exceeded") != "downgrade" for item in reserved):
                return False
        elif not error.decision.rules or not all(rule.rpartition("/")[2] in rules for rule in error.decision.rules):
            return False
        tries.clear()
        tries.extend((0, call) for call in self._cheaper(aimed))
        return bool(tries)

    def _cheaper(self, aimed: ModelCall) -> list[ModelCall]:
        """Return this call at cheaper providers, the dearest of them first."""
        price, trust = sum(self._price(aimed)[:2]), self._trust(aimed.provider)
        found: list[tuple[float, ModelCall]] = []
        for name, endpoint in self._providers.endpoints.items():
            spec = self._spec(name)
            model = spec.model or next((each for each in spec.models if not any(char in each for char in "*?[")), None)
            if model and sum(endpoint.price[:2]) < price and self._trust(name) >= trust:
                found.append((sum(endpoint.price[:2]), replace(aimed, provider=name, model=model)))
        return [call for _, call in sorted(found, key=lambda each: each[0], reverse=True)][:TRIES_MAX]

    def _trust(self, name: str) -> int:
        return _TRUST[provider_place(self._spec(name))] if name else 0

    def _spec(self, name: str) -> Any:
        for section, _layer, _unit in self._monitor.policy.sections("models"):
            if name in section.providers:
                return section.providers[name]
        raise EffectError(f"no provider {name!r} is configured")

    def _price(self, action: ModelCall) -> tuple[float, ...]:
        endpoint = self._providers.endpoints.get(action.provider)
        return endpoint.price if endpoint is not None else (0.0, 0.0)

    async def _pause(self, number: int, error: EffectError) -> None:
        after = error.after if isinstance(error, UnavailableError) else 0.0
        await asyncio.sleep(min(max(after, BACKOFF_SECONDS * 2 ** min(number, 6)), BACKOFF_SECONDS_MAX))


def aim_of(policy: Policy, wanted: str) -> _Aim:
    """Return where a model name may lead under a policy: aliases and `provider/model` resolved, providers in order."""
    providers: list[str] = []
    model = wanted
    for section, _layer, _unit in policy.sections("models"):
        model = section.aliases.get(model, model)
    named, slash, rest = model.partition("/")
    for section, _layer, _unit in policy.sections("models"):
        if slash and named in section.providers:
            return _Aim(rest, (named,))
        for name, provider in section.providers.items():
            if name not in providers and (model == name or _serves(provider, model)):
                providers.append(name)
                if model == name and provider.model:
                    return _Aim(provider.model, (name,))
    return _Aim(model, tuple(providers))


def _serves(provider: Any, model: str) -> bool:
    patterns = provider.models or ([provider.model] if provider.model else [])
    return bool(patterns) and compile_any(patterns, crossing=True)(model)


def endpoints_of(policy: Policy) -> dict[str, Endpoint]:
    """Return the endpoints of a policy's providers; those that only an application can hand in are left out."""
    found: dict[str, Endpoint] = {}
    for section, _layer, _unit in policy.sections("models"):
        for name, provider in section.providers.items():
            if name in found or provider.kind in ("langchain", "scripted"):
                continue
            if provider.base_url is None and provider.kind not in BASES and provider.kind != "local":
                continue  # a call of it fails and says that no such provider is configured
            tier = section.tiers.get(provider.tier, 0.0) if provider.tier else 0.0
            found[name] = Endpoint.of(
                name,
                provider.kind,
                provider.base_url,
                secret=provider.secret or "",
                timeout_s=provider.timeout,
                headers=dict(provider.headers),
                price=price_of(provider.price) if provider.price else (tier, tier),
            )
    return found


def price_of(stated: Any) -> tuple[float, float, float, float]:
    """Return in, out, cached and reasoning of a policy's `price`; what it leaves out costs as in and out."""
    cached = stated.input if stated.cached is None else stated.cached
    return stated.input, stated.output, cached, stated.output if stated.reasoning is None else stated.reasoning


def key_source(policy: Policy, vault: Any) -> Key:
    """Return where keys come from: the policy's `secrets` section, else the vault, else the environment.

    A secret that the policy or the vault binds to destinations is given to no other host.
    """
    named = secret_stores(policy, vault=vault, environment=os.environ)

    async def key(name: str, host: str, port: int) -> str | None:
        places: list[Any] = [
            section[name].destinations for section, _, _ in policy.sections("secrets") if name in section
        ]
        if any(not compile_any(globs, crossing=True)(host) for globs in places):
            raise RefusedError(f"secrets.{name}.destinations does not name {host}")
        secret = await named.get(name)
        if secret is None and vault is not None:
            secret = await SecretStores({name: Source("vault", name)}, vault=vault, environment={}).get(name)
        if secret is None:
            return os.environ.get(name) if not places else None
        if secret.destinations and not {host, f"{host}:{port}"} & set(secret.destinations):
            raise RefusedError(f"the secret {name!r} is bound to other destinations than {host}")
        return secret.value

    return key


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
