"""Webhooks on a served gateway: signed, fresh, once; what they start runs as its owner and trusts nothing of them."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.schedule import parse_schedule
from agent_os.effects.durable.schedules import Schedules
from agent_os.runtime.serving.start import Serving
from agent_os.runtime.serving.webhooks import TOLERANCE_SECONDS, signature
from agent_os.runtime.tasks.opening import open_ledger
from tests.e2e.models.serving import records, serving

SECRET = b"0123456789abcdef0123456789abcdef"
POLICY = """
version: 1
secrets:
  webhook.orders: {from: env, key: TEST_ORDERS_HOOK}
  webhook.acme-orders: {from: env, key: TEST_ORDERS_HOOK, who: {tenant: acme}}
  webhook.weak: {from: env, key: TEST_WEAK_HOOK}
models: {providers: {openai: {kind: openai, base_url: "http://127.0.0.1:1/v1", models: [m]}}}
"""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    """A gateway with one hook, and a schedule that waits for it."""
    monkeypatch.setenv("TEST_ORDERS_HOOK", "whsec_" + base64.b64encode(SECRET).decode())
    monkeypatch.setenv("TEST_WEAK_HOOK", "short")
    with serving(tmp_path, POLICY) as opened:
        ledger_of(opened, lambda ledger: Schedules(ledger).add(parse_schedule(SCHEDULE)))
        yield opened


SCHEDULE = {
    "name": "on-order", "program": "actions", "input": {"actions": []}, "overlap": "queue", "workspace": "/tmp",
    "when": {"event": {"webhook": "orders"}}, "owner": {"user": "ana"},
}  # fmt: skip


def ledger_of(served: Serving, work: Any) -> Any:
    """Run `await work(ledger)` on the state of the served session."""
    state = served.session.state
    ledger = open_ledger(state.path, state.keys, {})

    async def run() -> Any:
        return await work(ledger)

    try:
        return asyncio.run(run())
    finally:
        ledger.storage.close()


def call(
    served: Serving, name: str = "orders", body: bytes = b'{"order": 7}', *, event: str = "evt_1", moment: float = 0.0,
    key: bytes = SECRET, headers: dict[str, str] | None = None,
) -> tuple[int, Any]:  # fmt: skip
    """Call a hook as its sender does; `headers` replace what it would say."""
    at = int(moment or time.time())
    said = {
        "Content-Type": "application/json", "webhook-id": event, "webhook-timestamp": str(at),
        "webhook-signature": signature(key, event, at, body), **(headers or {}),
    }  # fmt: skip
    request = urllib.request.Request(f"{served.url}/v1/hooks/{name}", body, said)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def tasks(served: Serving) -> list[Any]:
    """Return the runs that were started."""
    return list(ledger_of(served, lambda ledger: ledger.list()))


def test_a_signed_call_starts_a_run_once(served: Serving, tmp_path: Path) -> None:
    """The run is its schedule's, the payload stands in its input; the same id again starts nothing more."""
    status, said = call(served)
    assert status == 202
    again, repeated = call(served)
    assert (again, repeated["runs"]) == (202, said["runs"])
    (task,) = tasks(served)
    assert (task.id, task.schedule, task.principal.user) == (said["runs"][0], "on-order", "ana")
    assert task.input["event"] == {"event": "webhook", "payload": {"order": 7}}
    assert call(served, event="evt_2")[0] == 202
    assert len(tasks(served)) == 2
    assert [record["id"] for record in records(tmp_path, "event.received")] == ["evt_1", "evt_1", "evt_2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"key": b"x" * 32},
        {"late_by": TOLERANCE_SECONDS + 60},
        {"late_by": -TOLERANCE_SECONDS - 60},
        {"headers": {"webhook-id": "evt_other"}},
        {"headers": {"webhook-timestamp": "1"}},
        {"headers": {"webhook-timestamp": "now"}},
        {"headers": {"webhook-signature": ""}},
        {"headers": {"webhook-signature": "v1,AAAA"}},
        {"headers": {"webhook-id": ""}},
    ],
    ids=lambda changes: json.dumps({name: str(value)[:12] for name, value in changes.items()}),
)
def test_what_is_not_signed_now_starts_nothing(served: Serving, changes: dict[str, Any]) -> None:
    """Another key, an old or future call, another id or time than was signed, no signature: 401, and no run."""
    if "late_by" in changes:
        changes = {"moment": time.time() - changes["late_by"]}
    assert call(served, **changes)[0] == 401
    assert tasks(served) == []


def test_a_changed_body_starts_nothing(served: Serving) -> None:
    """The signature is of the body that came."""
    at = int(time.time())
    good = signature(SECRET, "evt_1", at, b'{"order": 7}')
    assert call(served, body=b'{"order": 8}', moment=at, headers={"webhook-signature": good})[0] == 401
    assert call(served, moment=at, headers={"webhook-signature": f"v1,AAAA {good}"})[0] == 202


@pytest.mark.parametrize(("name", "status"), [("unknown", 404), ("..%2forders", 404), ("", 404), ("weak", 503)])
def test_hooks_that_are_not_there(served: Serving, name: str, status: int) -> None:
    """A hook that the policy does not name does not exist; one with a secret that can be guessed does not work."""
    assert call(served, name)[0] == status
    assert tasks(served) == []


def test_a_web_page_and_a_large_body(served: Serving) -> None:
    """A call with an Origin is refused, and so is one that is too large."""
    assert call(served, headers={"Origin": "https://evil.example"})[0] == 403
    assert call(served, body=b"x" * (256 * 1024 + 1))[0] == 413


def test_nobody_waits(served: Serving) -> None:
    """A hook without a schedule says so."""
    ledger_of(served, lambda ledger: Schedules(ledger).remove("on-order"))
    assert call(served)[0] == 404


def test_a_hook_is_one_tenant_s(served: Serving) -> None:
    """A hook starts the schedules of the tenant its secret is for (without one: of `default`), and tells nothing of another's that
    wait for the same name.
    """
    for tenant, hook in (("acme", "orders"), ("acme", "acme-orders"), ("bolt", "acme-orders"), ("bolt", "orders")):
        data = {
            **SCHEDULE,
            "name": hook,
            "when": {"event": {"webhook": hook}},
            "owner": {"tenant": tenant, "user": "bo"},
        }
        ledger_of(served, lambda ledger, data=data: Schedules(ledger).add(parse_schedule(data)))
    assert call(served, "orders")[0] == call(served, "acme-orders")[0] == 202
    assert sorted((task.principal.tenant, task.schedule) for task in tasks(served)) == [
        ("acme", "acme//acme-orders"),
        ("default", "on-order"),
    ]
    ledger_of(served, lambda ledger: Schedules(ledger).remove("acme//acme-orders"))
    status, said = call(served, "acme-orders", event="evt_2")
    assert (status, said["error"]["message"]) == (404, "webhook: no schedule waits for 'acme-orders'")
