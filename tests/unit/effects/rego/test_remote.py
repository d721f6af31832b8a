"""`effects/rego/remote.py` against a server on loopback that speaks OPA's REST API; no OPA binary is at hand here."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.decision import Verdict
from agent_os.core.errors import EffectError
from agent_os.core.facts import ExternalVerdict
from agent_os.effects.clock import SystemClock
from agent_os.effects.rego import RegoEngines
from agent_os.effects.rego.remote import FAILURES_MAX
from agent_os.guards.rego import RegoLayer
from tests.unit.effects.servers import Seen, certificate, http_server

pytest.importorskip("opa_client", reason="opa-python-client is not installed")

Answered = tuple[int, dict[str, str], bytes]
JSON = {"content-type": "application/json"}
ACTION = {"kind": "tool.call", "tool": "pay", "args": {"amount": 5}}
Make = Callable[..., RegoEngines]


async def secret(name: str) -> str:
    """Return the value of the one secret there is."""
    if name != "opa_token":
        raise EffectError(f"the secret {name} is not set")
    return "t0ken"


def layer(port: int, **more: Any) -> RegoLayer:
    """Return a layer that asks the server of a test."""
    made = RegoLayer("rego:opa", "", opa=f"http://127.0.0.1:{port}", decision="agentos/decision", timeout_s=2.0)
    return replace(made, **more)


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Return a function that makes engines; all are closed after the test."""
    made: list[RegoEngines] = []

    def one(*layers: RegoLayer) -> RegoEngines:
        made.append(RegoEngines(layers, SystemClock(), revision="r", secret=secret))
        return made[-1]

    yield one
    for engines in made:
        await engines.aclose()


async def ask(engines: RegoEngines, digest: str = "d") -> ExternalVerdict:
    """Return the one verdict on the action."""
    (verdict,) = await engines.evaluate(ACTION, digest)
    return verdict


def result(value: Any) -> Callable[[Seen], Answered]:
    """Return a server's answer in OPA's form."""
    return lambda _: (200, JSON, json.dumps({"result": value}).encode())


async def test_the_question_is_the_action_and_the_answer_a_verdict(make: Make) -> None:
    """POST /v1/data/<decision> with `{"input": …}`, and the bearer token."""
    with http_server(result({"allow": True, "ask": [{"id": "big", "reason": "big"}]})) as server:
        verdict = await ask(make(layer(server.port, token="opa_token")))
    assert (verdict.verdict, verdict.rules) == (Verdict.ASK, ("rego:opa/big",))
    (seen,) = server.seen
    assert (seen.method, seen.target) == ("POST", "/v1/data/agentos/decision")
    assert json.loads(seen.body) == {"input": ACTION}
    assert seen.headers["authorization"] == "Bearer t0ken"


@pytest.mark.parametrize(("value", "verdict"), [(True, Verdict.ALLOW), (False, Verdict.DENY)])
async def test_a_decision_may_be_one_rule(make: Make, value: bool, verdict: Verdict) -> None:
    """`agentos/allow` answers with a boolean."""
    with http_server(result(value)) as server:
        assert (await ask(make(layer(server.port)))).verdict is verdict


@pytest.mark.parametrize(
    "answered",
    [
        (200, JSON, b"{}"),
        (200, JSON, b'{"result": null}'),
        (200, JSON, b'{"result": {}}'),
        (200, JSON, b'{"result": {"allow": "yes"}}'),
        (200, JSON, b"true"),
        (200, JSON, b"[]"),
        (200, JSON, b""),
        (200, JSON, b'{"result": true'),
        (200, {"content-type": "text/html"}, b"<html>allow</html>"),
        (201, JSON, b'{"result": true}'),
        (204, JSON, b'{"result": true}'),
        (401, JSON, b'{"result": true}'),
        (404, JSON, b'{"result": true}'),
        (500, JSON, b'{"result": true}'),
        (200, JSON, b'{"result": true, "x": "' + b"y" * (1 << 20) + b'"}'),
    ],
)
async def test_what_is_no_decision_denies(make: Make, answered: Answered) -> None:
    """An answer without a result, of another status, of another form, too long: a failure."""
    with http_server(lambda _: answered) as server:
        verdict = await ask(make(layer(server.port)))
    assert verdict.error
    assert verdict.verdict is not Verdict.ALLOW


async def test_redirects_are_not_followed(make: Make) -> None:
    """Another server, however willing, is not the one that is trusted."""
    with http_server(result(True)) as other:
        location = {"location": f"http://127.0.0.1:{other.port}/v1/data/agentos/decision"}
        with http_server(lambda _: (307, location, b"")) as server:
            verdict = await ask(make(layer(server.port)))
    assert "307" in verdict.error
    assert other.seen == []


async def test_a_slow_server_denies_at_the_deadline(make: Make) -> None:
    """The deadline holds for the whole exchange."""

    def slow(_: Seen) -> Answered:
        time.sleep(1.0)
        return 200, JSON, b'{"result": true}'

    with http_server(slow) as server:
        started = time.monotonic()
        verdict = await ask(make(layer(server.port, timeout_s=0.15)))
        assert time.monotonic() - started < 0.8
    assert "longer than 150 ms" in verdict.error


async def test_a_server_that_is_not_there_denies_and_is_left_alone_after_a_while(make: Make) -> None:
    """After FAILURES_MAX failures in a row nothing is sent for a while, and everything is denied."""
    with http_server(lambda _: (500, JSON, b"")) as server:
        engines = make(layer(server.port))
        errors = [(await ask(engines)).error for _ in range(FAILURES_MAX + 3)]
    assert len(server.seen) == FAILURES_MAX
    assert "left alone" in errors[-1]
    assert all(errors)
    assert (await ask(make(layer(1)))).error


async def test_answers_are_reused_for_the_same_action_only(make: Make) -> None:
    """With `cache`; never for another digest, never a failure."""
    with http_server(result(True)) as server:
        engines = make(layer(server.port, cache_s=60.0))
        for digest in ("a", "a", "b"):
            assert (await ask(engines, digest)).verdict is Verdict.ALLOW
        assert len(server.seen) == 2
        engines = make(layer(server.port))
        await ask(engines, "a")
        await ask(engines, "a")
        assert len(server.seen) == 4
    with http_server(lambda _: (200, JSON, b"{}")) as server:
        engines = make(layer(server.port, cache_s=60.0))
        await ask(engines, "a")
        await ask(engines, "a")
        assert len(server.seen) == 2


async def test_a_token_that_is_not_there_denies(make: Make) -> None:
    """Without its secret the server is not asked at all."""
    with http_server(result(True)) as server:
        verdict = await ask(make(layer(server.port, token="other")))
    assert verdict.error
    assert server.seen == []


async def test_tls_is_verified(make: Make, tmp_path: Path) -> None:
    """A certificate that the layer's CA does not vouch for is no server."""
    context, _ = certificate(tmp_path, "localhost")
    with http_server(result(True), tls=context) as server:
        url = f"https://localhost:{server.port}"
        trusted = layer(server.port, opa=url, ca=str(tmp_path / "localhost.pem"))
        assert (await ask(make(trusted))).verdict is Verdict.ALLOW
        assert (await ask(make(layer(server.port, opa=url)))).error
        assert (await ask(make(replace(trusted, opa=f"https://127.0.0.1:{server.port}")))).error


async def test_health(make: Make) -> None:
    """`doctor` asks /health."""
    with http_server(lambda seen: (200 if seen.target == "/health" else 500, JSON, b"{}")) as server:
        (remote,) = make(layer(server.port)).remote.values()
        assert await remote.healthy() == ""
    (remote,) = make(layer(1)).remote.values()
    assert await remote.healthy()


async def test_servers_and_modules_are_asked_side_by_side(make: Make) -> None:
    """Each layer gives its own verdict; the server's failure does not hide the module's."""
    pytest.importorskip("regorus")
    own = RegoLayer("rego:p", "p", modules=(("p.rego", "package p\ndeny := true\n"),), timeout_s=1.0, number=1)
    with http_server(result(True)) as server:
        engines = make(layer(server.port), own)
        first, second = await engines.evaluate(ACTION, "d")
    assert (first.verdict, second.verdict) == (Verdict.ALLOW, Verdict.DENY)
