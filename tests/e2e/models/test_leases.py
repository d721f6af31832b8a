"""Agents leased to two tenants: who may call what until when, what each may spend, and a statement that adds up with the audit."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from agent_os.cli.budget import app
from agent_os.core.budget import millionths
from agent_os.runtime.metering import usage_rows
from agent_os.runtime.serving.callers import digest, load_callers
from tests.e2e.models.providers import Asked, Reply, openai_reply, provider
from tests.e2e.models.serving import records, serving

POLICY = """
version: 1
models:
  providers:
    large: {{kind: vllm, base_url: "{url}/v1", models: ["big"], retries: 0, tier: high}}
    small: {{kind: vllm, base_url: "{url}/v1", models: ["tiny"], retries: 0, tier: medium}}
  tiers: {{medium: 3, high: 6000}}
  routes:
    - {{when: {{model: [big], who: {{tenant: bolt}}}}, deny: true, reason: the lease is for the small model}}
    - {{use: [large, small]}}
  max_tokens: 100
budgets:
  - {{name: lease-acme, per: tenant, window: month, zone: Europe/Berlin, who: {{tenant: acme}}, usd: 3, warn_at: 0.8}}
  - {{name: lease-bolt, per: agent, window: month, who: {{tenant: bolt, agent: clerk}}, tokens: 100000}}
"""
CALLERS = "".join(
    f'[[token]]\nsha256 = "{digest(token)}"\nuser = "{tenant}"\ntenant = "{tenant}"\nagent = "{agent}"\nexpires = {until}\n'
    for token, tenant, agent, until in (
        ("acme-clerk", "acme", "clerk", "2099-01-01"),
        ("acme-scout", "acme", "scout", "2099-01-01"),
        ("bolt-clerk", "bolt", "clerk", "2099-01-01"),
        ("bolt-over", "bolt", "clerk", "2020-01-01"),
    )
)


def ask(url: str, token: str, model: str) -> httpx.Response:
    """Call a model with a lease's token."""
    body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "x" * 40}]}
    return httpx.post(url + "/v1/chat/completions", json=body, headers={"x-api-key": token}, timeout=60)


def test_two_tenants_lease_agents_and_are_billed_to_the_cent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty calls at once stop exactly at the lease's budget, and one record warns at four fifths of it; another tenant is not held by it; the statement of each tenant
    is the sum of the audit's outcomes, the meter's and the budget's, to the millionth of a dollar.
    """
    (tmp_path / "callers.toml").write_text(CALLERS)
    with provider(lambda asked: openai_reply("w" * 80, asked)) as near:
        text, callers = POLICY.format(url=near.url), load_callers(tmp_path / "callers.toml")
        with serving(tmp_path, text, callers=callers) as served, ThreadPoolExecutor(8) as pool:
            url = served.url
            assert ask(url, "bolt-over", "tiny").status_code == 401, "that lease has ended"
            assert ask(url, "bolt-clerk", "big").status_code == 403, "that model is not leased"
            tokens = ["acme-clerk", "acme-scout"] * 20
            codes = list(pool.map(lambda token: ask(url, token, "big").status_code, tokens))
            assert set(codes) == {200, 403}, "the budget was spent while forty asked"
            assert ask(url, "acme-clerk", "big").status_code == 403
            assert [ask(url, "bolt-clerk", "tiny").status_code for _ in range(3)] == [200] * 3
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    month = datetime.now(UTC)
    period = [f"--from={month:%Y-%m}-01", f"--until={month.year + 1}-12-31"]
    found = json.loads(CliRunner().invoke(app, ["statement", *period, "--json"]).stdout)
    outcomes = {record["ref"]: record for record in records(tmp_path, "outcome")}
    by_tenant = {"acme": Decimal(0), "bolt": Decimal(0)}
    for intent in records(tmp_path, "intent"):
        if intent["action"]["kind"] == "model.call":
            by_tenant[intent["tenant"]] += Decimal(millionths(outcomes[intent["ref"]]["usage"]["usd"])).scaleb(-6)
    assert 0 < by_tenant["acme"] <= 3, "never more than was leased"
    (warned,) = records(tmp_path, "budget.warned")
    assert (warned["budget"], warned["for"], warned["tenant"]) == ("lease-acme", "tenant=acme", "acme")
    assert 2.4 <= warned["used"] <= 3 == warned["limit"]
    for tenant, usd in by_tenant.items():
        of_one = json.loads(CliRunner().invoke(app, ["statement", *period, "--tenant", tenant, "--json"]).stdout)
        assert Decimal(of_one["total"]["usd"]) == usd == sum(Decimal(line["usd"]) for line in of_one["lines"])
        assert of_one["meter"] == {"calls": of_one["total"]["calls"], "usd": of_one["total"]["usd"], "agrees": True}
        metered = usage_rows("tenant", "total", where={"tenant": tenant})
        assert Decimal(str(metered[0]["usd"])) == usd
    assert {(line["tenant"], line["agent"], line["model"], line["tier"]) for line in found["lines"]} == {
        ("acme", "clerk", "big", "high"), ("acme", "scout", "big", "high"), ("bolt", "clerk", "tiny", "medium"),
    }  # fmt: skip
    assert sum(line["calls"] for line in found["lines"] if line["tenant"] == "acme") == codes.count(200)
    assert [log["verified"] for log in found["audit"]] == [True]
    accounts = json.loads(CliRunner().invoke(app, ["show", "lease-acme", "--json"]).stdout)
    assert [(row["for"], round(row["used"] * 1e6)) for row in accounts] == [
        ("tenant=acme", int(by_tenant["acme"] * 10**6))
    ]


def test_a_statement_over_an_edited_audit_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A price that was changed in the log is an error that names the log; untouched, the same statement is none."""
    (tmp_path / "callers.toml").write_text(CALLERS)
    with provider(lambda asked: openai_reply("w" * 80, asked)) as near:
        callers = load_callers(tmp_path / "callers.toml")
        with serving(tmp_path, POLICY.format(url=near.url), callers=callers) as served:
            assert ask(served.url, "acme-clerk", "big").status_code == 200
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    words = ["statement", "--from=2020-01-01", "--until=2099-01-01"]
    assert CliRunner().invoke(app, words).exit_code == 0
    (log,) = [
        path for path in (tmp_path / "state" / "audit" / "agentos").glob("*.jsonl") if "checkpoint" not in path.name
    ]
    log.write_text(log.read_text().replace('"usd":0.', '"usd":0.0', 1))
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "proves nothing" in done.output


REPORTS: list[Any] = [
    None, {"prompt_tokens": -5, "completion_tokens": -5}, {"prompt_tokens": 10**18, "completion_tokens": 1},
    {"prompt_tokens": "12", "completion_tokens": "2"}, {"prompt_tokens": 0, "completion_tokens": 0},
    {"prompt_tokens": 11, "completion_tokens": 3}, "cut",
]  # fmt: skip
CHEAP = """
version: 1
models:
  providers: {{near: {{kind: vllm, base_url: "{url}/v1", models: ["big"], retries: 0, price: {{input: 0.03, output: 0.05}}}}}}
budgets: [{{name: lease, per: tenant, window: month, tokens: 1000000, usd: 3}}]
"""


def test_what_a_provider_does_not_report_is_billed_as_the_budget_was_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No report, an absurd one, or a stream that its reader leaves half way costs what was reserved, in the budget and on the bill
    to the millionth; a believed report costs what it says.
    """
    (tmp_path / "callers.toml").write_text(CALLERS)
    reports = iter(REPORTS)

    def answer(asked: Asked) -> Reply:
        report = next(reports)
        reply = openai_reply("word " * 8, asked)
        if report == "cut":
            assert reply.chunks is not None
            return Reply(chunks=reply.chunks[:3] * 400, pause=0.01)
        reply.body = {**reply.body, "usage": report} if report is not None else {"choices": reply.body["choices"]}
        return reply

    with provider(answer) as near:
        callers = load_callers(tmp_path / "callers.toml")
        with serving(tmp_path, CHEAP.format(url=near.url), callers=callers) as served:
            for report in REPORTS:
                body = {"model": "big", "max_tokens": 50, "messages": [{"role": "user", "content": "x" * 40}]}
                head = {"x-api-key": "acme-clerk"}
                if report != "cut":
                    assert httpx.post(served.url + "/v1/chat/completions", json=body, headers=head).status_code == 200
                    continue
                url = served.url + "/v1/chat/completions"
                with httpx.stream("POST", url, json={**body, "stream": True}, headers=head) as reading:
                    next(reading.iter_bytes())
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    period = ["--from=2020-01-01", "--until=2099-01-01"]
    bill = json.loads(CliRunner().invoke(app, ["statement", *period, "--tenant", "acme", "--json"]).stdout)
    account = {row["unit"]: row for row in json.loads(CliRunner().invoke(app, ["show", "lease", "--json"]).stdout)}
    usages = [record["usage"] for record in records(tmp_path, "outcome")]
    assert [bool(usage.get("estimated")) for usage in usages] == [True] * 5 + [False, True]
    assert usages[5]["tokens"] == 14
    assert usages[0]["output_tokens"] == 50
    spent = Decimal(sum(millionths(usage["usd"]) for usage in usages)).scaleb(-6)
    assert Decimal(bill["total"]["usd"]) == spent == Decimal(str(account["usd"]["used"])) > 0
    assert bill["total"]["input"] + bill["total"]["output"] == account["tokens"]["used"]
    assert bill["unreported"] == 6
