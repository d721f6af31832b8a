"""Observe, learn, run: what a program did under `observe` becomes rules that let it do that and no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.network.test_published_policies import ROOT, unshared

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not unshared() or shutil.which("curl") is None, reason="no network namespace of our own here"),
]
WORK = [
    "GET https://api.shop.example/items/1",
    "GET https://api.shop.example/items/22",
    "GET https://api.shop.example/items/333",
    "GET https://api.shop.example/about",
    "POST https://api.shop.example/orders",
    "GET https://cdn.shop.example/logo.png",
]
MORE = {
    "GET https://api.shop.example/items/4444": 200,
    "GET https://api.shop.example/items/1/owner": 403,
    "DELETE https://api.shop.example/items/1": 403,
    "GET https://api.shop.example/admin": 403,
    "POST https://cdn.shop.example/logo.png": 403,
    "GET https://cdn.shop.example/other.png": 403,
    "GET https://evil.example/": 403,
}


def through(policy: Path, folder: Path, requests: list[str], *more: str) -> list[int]:
    """Put requests through a guard under a policy file; the statuses curl saw."""
    folder.mkdir()
    argv = ["unshare", "-rn", sys.executable, "-m", "tests.e2e.network.public", str(policy), str(folder), *more]
    done = subprocess.run(
        argv, input="\n".join(requests), capture_output=True, text=True, timeout=100, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line)[0] for line in done.stdout.splitlines()]


def agentos(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent_os", *argv], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_what_was_observed_can_be_run_without_editing(tmp_path: Path) -> None:
    """The learnt file checks, lets the same work through, with ids left open, and nothing beside it."""
    policy, learnt = tmp_path / "policy.yaml", tmp_path / "learnt.yaml"
    policy.write_text("version: 1\nfilesystem_policy: {include_workdir: true}\n")
    assert through(policy, tmp_path / "before", WORK[:1]) == [403]
    assert through(policy, tmp_path / "observed", WORK, "observe") == [200] * len(WORK)
    actions = tmp_path / "observed" / "state" / "flows" / "observed.jsonl"
    done = agentos("policy", "learn", str(policy), "--actions", str(actions), "--whole", "-o", str(learnt))
    assert done.returncode == 0, done.stderr
    assert agentos("policy", "check", str(learnt)).returncode == 0
    assert through(learnt, tmp_path / "same", WORK) == [200] * len(WORK)
    assert through(learnt, tmp_path / "more", list(MORE)) == list(MORE.values())


def test_what_is_learnt_is_narrow(tmp_path: Path) -> None:
    """Exact hosts, the program that asked, methods and paths; no rule that passes every byte beside them."""
    policy, learnt = tmp_path / "policy.yaml", tmp_path / "learnt.yaml"
    policy.write_text("version: 1\n")
    through(policy, tmp_path / "observed", WORK, "observe")
    actions = tmp_path / "observed" / "state" / "flows" / "observed.jsonl"
    agentos("policy", "learn", str(policy), "--actions", str(actions), "-o", str(learnt))
    blocks = yaml.safe_load(learnt.read_text())["network_policies"].values()
    endpoints = [endpoint for block in blocks for endpoint in block["endpoints"]]
    assert {endpoint["host"] for endpoint in endpoints} == {"api.shop.example", "cdn.shop.example"}
    assert all(endpoint["protocol"] == "rest" and endpoint["enforcement"] == "enforce" for endpoint in endpoints)
    assert all(len(block["binaries"]) == 1 for block in blocks)
    rules = sorted(
        (rule["allow"]["method"], rule["allow"]["path"]) for endpoint in endpoints for rule in endpoint["rules"]
    )
    assert rules == [("GET", "/about"), ("GET", "/items/*"), ("GET", "/logo.png"), ("POST", "/orders")]


def test_a_standing_denial_is_not_learnt_away(tmp_path: Path) -> None:
    """What a rule of the policy forbids stays forbidden, however often it was observed; the rest is learnt."""
    policy, learnt = tmp_path / "policy.yaml", tmp_path / "learnt.yaml"
    policy.write_text(
        "version: 1\nnetwork_policies:\n  shop:\n    endpoints:\n"
        "      - {host: api.shop.example, port: 443, protocol: rest, enforcement: enforce,"
        ' rules: [{allow: {method: GET, path: /about}}], deny_rules: [{method: POST, path: "/**"}]}\n'
    )
    through(policy, tmp_path / "observed", WORK, "observe")
    actions = tmp_path / "observed" / "state" / "flows" / "observed.jsonl"
    agentos("policy", "learn", str(policy), "--actions", str(actions), "--whole", "-o", str(learnt))
    asked = ["POST https://api.shop.example/orders", "GET https://api.shop.example/items/1"]
    assert through(learnt, tmp_path / "after", asked) == [403, 200]
