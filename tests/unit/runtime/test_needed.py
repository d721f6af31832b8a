"""What a policy needs of this machine: each part tried, each missing one with the line that mends it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_os import Policy
from agent_os.runtime.needed import Need, needed

POLICY = """
version: 1
models:
  providers:
    far: {kind: openai, base_url: "https://models.corp.example/v1", models: ["*"], secret: FAR_KEY}
    here: {kind: local, model: no-such-model}
privacy: [{find: [IBAN_CODE], to: external, do: pseudonymise}]
rego: [{opa: "http://127.0.0.1:9", package: finance}]
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the state of each test apart, with no key in the environment."""
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("FAR_KEY", raising=False)


def by_part(policy: str) -> dict[str, Need]:
    """Return the needs of a policy by the first words of their part."""
    return {f"{need.section} {need.part}": need for need in needed(Policy.parse(policy))}


def test_every_missing_part_says_what_mends_it() -> None:
    """A key that is not set, weights that are not here and a server that does not answer are missing, each with its fix."""
    found = by_part(POLICY)
    assert found["models key FAR_KEY of far"].fix == "agentos secret set FAR_KEY --to models.corp.example"
    assert found["models local model no-such-model of here"].fix == "agentos models pull no-such-model"
    assert "does not answer" in found["rego rego:finance"].fix
    assert found["privacy detector"].state == "here"


def test_a_key_that_is_set_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benign twin: the value itself is never shown."""
    monkeypatch.setenv("FAR_KEY", "sk-not-to-be-shown")
    need = by_part(POLICY)["models key FAR_KEY of far"]
    assert need.state == "here"
    assert "not-to-be-shown" not in json.dumps(need.to_json())


def test_a_key_bound_elsewhere_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that the policy binds to another host is no key for this one, and the reason names the binding."""
    monkeypatch.setenv("FAR_KEY", "sk-not-to-be-shown")
    need = by_part(POLICY + "secrets: {FAR_KEY: {destinations: [other.corp.example]}}\n")["models key FAR_KEY of far"]
    assert need.state == "missing"
    assert "secrets.FAR_KEY.destinations" in need.fix


def test_a_policy_of_its_own_parts_needs_nothing() -> None:
    """Rules that the base install carries out are no needs."""
    assert needed(Policy.parse("version: 1\ntools: {look: {allow: true}}\n")) == []


def test_schedules_need_cron_expressions_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy with schedules has what it needs where croniter is; without it, cron is missing with its install line."""
    policy = "version: 1\nschedules: {allow: [{name: nightly}]}\n"
    assert by_part(policy)["schedules cron expressions"].state == "here"
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "croniter" else real(name, *more)
    )
    assert "[durable]" in by_part(policy)["schedules cron expressions"].fix


def test_doctor_ends_with_5_when_something_is_missing(tmp_path: Path) -> None:
    """`agentos doctor --policy` prints the needs and exits 5, whatever else the machine can do."""
    (tmp_path / "p.yaml").write_text(POLICY)
    done = subprocess.run(
        [sys.executable, "-m", "agent_os", "doctor", "--policy", str(tmp_path / "p.yaml"), "--json"],
        capture_output=True, text=True, timeout=120, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert any(need["state"] == "missing" for need in json.loads(done.stdout)["needs"])
