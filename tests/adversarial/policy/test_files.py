"""Policy files that change while they are read, or so that the change is hard to see; arguments that take long to judge."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.action import Action
from agent_os.core.task import Task
from agent_os.policy import Policy, decide
from agent_os.runtime import reload
from agent_os.runtime.tasks import in_force
from agent_os.runtime.tasks.in_force import TaskPolicies

OPEN = "tools: {work: {allow: true}}\n"
CLOSED = "tools: {work: {deny: true}}\n"
CALL = Action.parse({"kind": "tool.call", "tool": "work", "args": {}})


def task(*policies: Path) -> Task:
    """Return a task under these files, as far as policies look at it."""
    found: Any = type("Row", (), {"input": {}, "policies": tuple(map(str, policies)), "program": "x", "id": "t"})()
    return found


def verdicts(policies: TaskPolicies, of: Task, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a look at the files now allows."""
    monkeypatch.setattr(in_force, "POLICY_SECONDS", 0.0)
    return decide(asyncio.run(policies.of(of)), CALL).verdict.value


def test_a_file_that_is_written_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ATTACK: the half that was read is a policy without the denials of the other half; the whole file holds, at once and later."""
    file, real = tmp_path / "policy.yaml", reload.load_policy
    file.write_text(OPEN)
    written = ["tools: {work: {allow: true, deny: true}}\n"]

    def load(source: Any) -> Policy:
        policy = real(source)
        if written:  # the writer goes on where the reader has just been
            file.write_text(written.pop())
        return policy

    monkeypatch.setattr(reload, "load_policy", load)
    policies = TaskPolicies()
    assert verdicts(policies, task(file), monkeypatch) == "deny"
    assert verdicts(policies, task(file), monkeypatch) == "deny"
    file.write_text(OPEN)
    assert verdicts(policies, task(file), monkeypatch) == "allow"


def test_a_change_that_keeps_time_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ATTACK: the stricter file is put in place with the time and size of the one before, as archives do; it holds."""
    file, policies = tmp_path / "policy.yaml", TaskPolicies()
    file.write_text(OPEN)
    before = file.stat()
    assert verdicts(policies, task(file), monkeypatch) == "allow"
    fresh = tmp_path / "fresh.yaml"
    fresh.write_text(CLOSED + " " * (len(OPEN) - len(CLOSED)))
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(file)
    after = file.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
    assert verdicts(policies, task(file), monkeypatch) == "deny"


@pytest.mark.parametrize("named", ["rules.rego", "rules"], ids=["file", "folder"])
def test_a_rego_module_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """ATTACK: a right is taken away in a Rego module alone; the next effect of a task sees another policy."""
    module = tmp_path / (named if named.endswith(".rego") else f"{named}/a.rego")
    module.parent.mkdir(exist_ok=True)
    module.write_text("package rules\n\nimport rego.v1\n\nallow if true\n")
    file = tmp_path / "policy.yaml"
    file.write_text(OPEN + f"rego: [{{name: r, package: rules, path: {named}}}]\n")
    policies = TaskPolicies()
    monkeypatch.setattr(in_force, "POLICY_SECONDS", 0.0)
    first = asyncio.run(policies.of(task(file)))
    assert asyncio.run(policies.of(task(file))) is first
    module.write_text("package rules\n\nimport rego.v1\n\nallow if false\n")
    assert asyncio.run(policies.of(task(file))).digest != first.digest


def test_many_items_that_must_differ() -> None:
    """ATTACK: a list of objects under `uniqueItems` is not compared each with each; a double is still found."""
    policy = Policy.parse("tools: {work: {allow: {rows: {json_schema: {type: array, uniqueItems: true}}}}}")
    rows = [{"i": number} for number in range(20_000)]
    for given, verdict in ((rows, "allow"), ([*rows[:50], {"i": 7.0}], "deny"), ([1, True, "1"], "allow")):
        action = Action.parse({"kind": "tool.call", "tool": "work", "args": {"rows": given}})
        assert decide(policy, action).verdict.value == verdict
