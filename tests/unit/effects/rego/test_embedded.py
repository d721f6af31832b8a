"""`effects/rego/embedded.py` on the real engine: verdicts, budgets, crashes, and builtins against OPA's results."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agent_os.core.decision import Verdict
from agent_os.core.facts import ExternalVerdict
from agent_os.effects.clock import SystemClock
from agent_os.effects.rego import RegoEngines, embedded
from agent_os.guards.rego import RegoLayer
from agent_os.guards.rego_modules import BUILTINS
from tests.unit.effects.rego.builtins import CASES, UNDEFINED

regorus = pytest.importorskip("regorus", reason="the extra [rego] is not installed")

SPIN = "count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a * b == -1]) > 0"
Make = Callable[..., RegoEngines]


def layer(body: str, **more: Any) -> RegoLayer:
    """Return a layer of one module, package `p`."""
    more.setdefault("timeout_s", 1.0)
    return RegoLayer("rego:p", "p", modules=(("p.rego", f"package p\nimport rego.v1\n{body}\n"),), **more)


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Return a function that makes engines; all are closed after the test."""
    made: list[RegoEngines] = []

    def one(*layers: RegoLayer) -> RegoEngines:
        made.append(RegoEngines(layers, SystemClock(), revision="r"))
        return made[-1]

    yield one
    for engines in made:
        await engines.aclose()


async def ask(engines: RegoEngines, **args: Any) -> ExternalVerdict:
    """Return the one verdict on a tool call."""
    (verdict,) = await engines.evaluate({"kind": "tool.call", "tool": "pay", "args": args}, "d")
    return verdict


def test_builtins_give_what_opa_documents() -> None:
    """Every builtin on the list has at least one case, and the engine agrees with all."""
    engine = regorus.Engine()
    source = "\n".join(f"r{number} := result if result := ({text})" for number, (text, _) in enumerate(CASES))
    engine.add_policy("a.rego", f"package a\nimport rego.v1\n{source}\n")
    wrong = []
    for number, (text, want) in enumerate(CASES):
        got = json.loads(engine.eval_rule_as_json(f"data.a.r{number}"))
        if got != want or type(got) is not type(want):
            wrong.append((text, want, got))
    assert wrong == []
    assert any(want == UNDEFINED for _, want in CASES)
    assert {found[1] for text, _ in CASES if (found := re.match(r"([a-z_0-9.]+)\(", text))} == BUILTINS


async def test_verdicts(make: Make) -> None:
    """Allow, ask and deny with ids and reasons, from input and data."""
    engines = make(
        layer(
            """
            default allow := false
            allow if input.tool == "pay"
            deny contains {"id": "limit", "reason": "too much"} if input.args.amount > 1000
            ask contains {"id": "big", "reason": "big"} if input.args.amount > 100
            deny contains {"id": "who"} if not input.args.to in data.suppliers
            """,
            data={"suppliers": ["a"]},
        )
    )
    assert (await ask(engines, amount=5, to="a")).verdict is Verdict.ALLOW
    asked = await ask(engines, amount=500, to="a")
    assert (asked.verdict, asked.rules, asked.reason) == (Verdict.ASK, ("rego:p/big",), "big")
    denied = await ask(engines, amount=5000, to="z")
    assert (denied.verdict, denied.rules) == (Verdict.DENY, ("rego:p/limit", "rego:p/who"))


async def test_layers_of_one_name_both_count(make: Make) -> None:
    """Two files may bring a layer of the same package: neither replaces the other."""
    engines = make(layer("deny if input.args.a"), layer("deny if input.args.b", number=1))
    assert [v.verdict for v in await engines.evaluate({"kind": "tool.call", "args": {"a": True}}, "d")] == [
        Verdict.DENY,
        Verdict.ALLOW,
    ]


async def test_only_kinds_of_the_layer_are_put_to_it(make: Make) -> None:
    """A layer for tool calls has no say about files."""
    engines = make(layer("allow := false", kinds=frozenset({"tool.call"})))
    assert await engines.evaluate({"kind": "fs.read", "path": "/a"}, "d") == ()


async def test_a_runaway_module_denies_and_the_next_question_is_answered(make: Make) -> None:
    """The worker is killed at its deadline and started again."""
    engines = make(layer(f"allow if input.args.quick\nallow if {SPIN}", timeout_s=0.1))
    late = await ask(engines)
    assert "longer than 100 ms" in late.error
    other = make(layer(f"default allow := false\nallow if input.args.quick\ndeny if {{ input.args.slow; {SPIN} }}"))
    started = asyncio.get_running_loop().time()
    assert (await ask(other, quick=True)).verdict is Verdict.ALLOW
    assert (await ask(other, quick=True, slow=True)).error
    assert (await ask(other, quick=True)).verdict is Verdict.ALLOW
    assert asyncio.get_running_loop().time() - started < 5


async def test_a_worker_that_dies_is_replaced(make: Make) -> None:
    """The action at hand is denied or answered by a new worker, the next one is answered."""
    engines = make(layer("allow := true"))
    assert (await ask(engines)).verdict is Verdict.ALLOW
    process = engines.embedded._process
    assert process is not None
    os.kill(process.pid, 9)
    await asyncio.sleep(0.1)
    assert (await ask(engines)).verdict is Verdict.ALLOW


async def test_memory_has_an_end(make: Make) -> None:
    """A module that eats memory ends its worker only."""
    body = 'allow if count(numbers.range(1, 400000000)) > 0\ndeny contains "x" if input.args.never'
    engines = make(layer(body, timeout_s=5.0))
    assert (await ask(engines)).error


async def test_a_worker_that_keeps_dying_is_left_alone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """After STARTS_MAX starts within a minute everything is denied without starting another."""
    monkeypatch.setattr(embedded, "STARTS_MAX", 2)
    engines = make(layer(f"allow if {SPIN}", timeout_s=0.05))
    errors = [(await ask(engines)).error for _ in range(4)]
    assert "longer" in errors[0]
    assert "died too often" in errors[3]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("allow if http.send({}).status_code == 200", "http.send"),
        ("allow if deny\ndeny if allow", "recurse"),
        ("allow {", "refused"),
        ("alow if true", "neither allow"),
    ],
)
async def test_refused_modules_deny_everything_and_leave_other_layers_alone(make: Make, body: str, word: str) -> None:
    """One broken layer does not take the others along."""
    engines = make(layer(body), layer("allow := true", number=1))
    first, second = await engines.evaluate({"kind": "tool.call"}, "d")
    assert word in first.error
    assert second.verdict is Verdict.ALLOW
    (problem,) = await engines.check()
    assert problem.message


async def test_what_is_missing_denies(make: Make) -> None:
    """A module that was not read, a data set that is not there."""
    assert (await ask(make(layer("allow := true", missing="the module a.rego was not read")))).error


@pytest.mark.parametrize("args", [{"n": 2**53 + 1}, {"n": -(2**60)}, {"n": [[{"deep": 10**30}]]}])
async def test_integers_that_the_engine_would_round_deny(make: Make, args: dict[str, Any]) -> None:
    """9007199254740993 would be judged as ...992."""
    assert "round" in (await ask(make(layer("allow := true")), **args)).error


async def test_too_deep_nesting_denies(make: Make) -> None:
    """The engine's parser would refuse or overflow."""
    nested: Any = 1
    for _ in range(150):
        nested = [nested]
    assert "nested" in (await ask(make(layer("allow := true")), x=nested)).error


async def test_evaluation_errors_deny(make: Make) -> None:
    """Division by zero, conflicting values."""
    engines = make(
        layer("allow if 1 / input.args.n > 0"), layer("allow := input.args.a\nallow := input.args.b", number=1)
    )
    first, second = await engines.evaluate({"kind": "tool.call", "args": {"n": 0, "a": True, "b": False}}, "d")
    assert "divide by zero" in first.error
    assert second.error


async def test_questions_side_by_side_get_their_own_answers(make: Make) -> None:
    """Fifty at once through one worker."""
    engines = make(layer('deny contains {"id": sprintf("%d", [input.args.n])} if input.args.n % 2 == 1'))
    found = await asyncio.gather(*(ask(engines, n=n) for n in range(50)))
    for n, verdict in enumerate(found):
        assert verdict.verdict is (Verdict.DENY if n % 2 else Verdict.ALLOW)
        assert not n % 2 or verdict.rules == (f"rego:p/{n}",)


async def test_a_cancelled_question_leaves_no_answer_behind(make: Make) -> None:
    """The answer to a question nobody waits for is never read as the next one's."""
    engines = make(layer(f"default allow := false\nallow if input.args.quick\ndeny if {{ input.args.slow; {SPIN} }}"))
    assert (await ask(engines, quick=True)).verdict is Verdict.ALLOW
    task = asyncio.ensure_future(ask(engines, slow=True))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await ask(engines, quick=True)).verdict is Verdict.ALLOW


async def test_mapped_addresses_deny_where_ranges_are_compared(make: Make) -> None:
    """`net.cidr_contains` does not know `::ffff:10.0.0.1` for 10.0.0.1; OPA does."""
    body = 'deny contains "internal" if net.cidr_contains("10.0.0.0/8", input.args.ip)'
    engines = make(layer(body))
    assert (await ask(engines, ip="192.0.2.1")).verdict is Verdict.ALLOW
    assert (await ask(engines, ip="10.0.0.1")).verdict is Verdict.DENY
    assert (await ask(engines, ip="::FFFF:10.0.0.1")).error


async def test_the_worker_has_no_environment(make: Make) -> None:
    """What the process holds in its environment cannot leak into a module."""
    engines = make(layer("allow := true"))
    await ask(engines)
    process = engines.embedded._process
    assert process is not None
    with open(f"/proc/{process.pid}/environ", "rb") as handle:
        assert b"PATH" not in handle.read()


async def test_a_start_outlives_who_waits_for_it(make: Make) -> None:
    """Modules that load slowly load once, not anew for every question that gives up."""
    rules = "\n".join(f"deny contains {n} if input.args.n == {n}" for n in range(1500))
    engines = make(layer(f"allow := true\n{rules}"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(engines), 0.05)
    async with asyncio.timeout(20):
        while (await ask(engines)).verdict is not Verdict.ALLOW:
            await asyncio.sleep(0.05)
    assert len(engines.embedded._starts) == 1


async def test_closing_during_a_start_leaves_no_worker(make: Make) -> None:
    """The worker ends with its engines."""
    engines = make(layer("allow := true"))
    task = asyncio.ensure_future(ask(engines))
    await asyncio.sleep(0.03)
    await engines.aclose()
    assert engines.embedded._process is None
    await asyncio.gather(task, return_exceptions=True)
    assert "closed" in (await ask(engines)).error
    assert engines.embedded._process is None
