"""Sub-agents: rights only narrow, budgets are carved out of the parent's, and what is over is over (law 11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS, DeniedError, EffectError, Policy
from agent_os.core.ports import Outcome
from agent_os.runtime.compose import needs_of
from agent_os.runtime.rights import narrowed

POLICY = """
version: 1
filesystem_policy: {include_workdir: true}
tools:
  read_file: {allow: true}
  write_file: {allow: true}
  list_files: {allow: true}
agents:
  max_depth: 2
  max_children: 3
  max_total: 12
  roles:
    reader: {tools: [read_file], read: [inbox], budgets: {calls: 3}}
    lead: {tools: [read_file, list_files], read: [inbox, ledger], may_spawn: [reader]}
"""


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[AgentOS]:
    """Return an open session over two folders with a file each."""
    for folder in ("inbox", "ledger"):
        (tmp_path / "work" / folder).mkdir(parents=True)
        (tmp_path / "work" / folder / "a.txt").write_text(folder)
    async with AgentOS.open(
        Policy.parse(POLICY), principal="ana", workspace=tmp_path / "work", state=tmp_path / "state"
    ) as opened:
        yield opened


async def read(session: AgentOS, path: str) -> Any:
    """Read a file with the built-in tool."""
    outcome = await session.aperform({"kind": "tool.call", "tool": "read_file", "args": {"path": path}})
    assert isinstance(outcome, Outcome)
    return outcome.value["content"] if outcome.ok else outcome.error


async def test_a_child_does_what_its_role_grants(system: AgentOS) -> None:
    """A reader reads what its role names and its result comes back to the parent."""

    async def run(child: AgentOS, task: str) -> Any:
        assert child.principal.parents == ("main",)
        return {"task": task, "read": await read(child, "inbox/a.txt")}

    assert await system.aspawn("reader", "look", run) == {"task": "look", "read": "inbox"}


async def test_an_inner_effect_has_the_childs_rights(system: AgentOS) -> None:
    """The built-in tool is allowed to the child, the file is not: its door is the child's own."""

    async def run(child: AgentOS, task: str) -> Any:
        with pytest.raises(DeniedError) as caught:
            await read(child, "ledger/a.txt")
        return list(caught.value.decision.rules)

    assert await system.aspawn("reader", "look", run) == ["runtime.capability"]
    assert await read(system, "ledger/a.txt") == "ledger"


async def test_a_child_cannot_call_what_its_parent_may(system: AgentOS) -> None:
    """Writing is allowed to the parent and to no reader."""

    async def run(child: AgentOS, task: str) -> Any:
        with pytest.raises(DeniedError):
            await child.aperform({"kind": "tool.call", "tool": "write_file", "args": {"path": "x", "content": "y"}})
        return "denied"

    assert await system.aspawn("reader", "write", run) == "denied"


async def test_a_grandchild_holds_no_more_than_its_parent(system: AgentOS) -> None:
    """A lead may start readers and no leads; a reader may start nobody."""

    async def reader(child: AgentOS, task: str) -> Any:
        with pytest.raises(DeniedError):
            await child.aspawn("reader", "again", reader)
        return await read(child, "inbox/a.txt")

    async def lead(child: AgentOS, task: str) -> Any:
        with pytest.raises(DeniedError):
            await child.aspawn("lead", "again", lead)
        return await child.aspawn("reader", "look", reader)

    assert await system.aspawn("lead", "organise", lead) == "inbox"


async def test_a_spawn_narrows_further_and_never_wider(system: AgentOS) -> None:
    """What a spawn asks for narrows the role; what lies beyond the role is denied by the policy."""

    async def run(child: AgentOS, task: str) -> Any:
        with pytest.raises(DeniedError):
            await read(child, "inbox/a.txt")
        return "narrower"

    only_model = [{"verb": "model.call"}]
    assert await system.aspawn("reader", "idle", run, capabilities=only_model) == "narrower"
    with pytest.raises(DeniedError):
        await system.aspawn("reader", "more", run, capabilities=[{"verb": "tool.call", "scope": ["write_file"]}])
    with pytest.raises(DeniedError):
        await system.aspawn("reader", "more", run, budgets={"calls": 100})


async def test_a_role_nobody_wrote_is_denied(system: AgentOS) -> None:
    """A role made up by the model does not exist."""
    with pytest.raises(DeniedError):
        await system.aspawn("root", "everything", lambda child, task: None)


async def test_a_childs_own_budget_ends_it_and_nobody_else(system: AgentOS) -> None:
    """The fourth call of a reader is denied by its allowance; the parent goes on."""

    async def run(child: AgentOS, task: str) -> Any:
        for _ in range(3):
            await read(child, "inbox/a.txt")
        with pytest.raises(DeniedError) as caught:
            await read(child, "inbox/a.txt")
        return list(caught.value.decision.rules)

    assert await system.aspawn("reader", "count", run) == ["runtime.allowance"]
    assert await read(system, "inbox/a.txt") == "inbox"


async def test_children_run_in_parallel_and_a_failed_one_is_told(system: AgentOS) -> None:
    """One child's failure is an EffectError of its own; its siblings return."""

    async def run(child: AgentOS, task: str) -> Any:
        await asyncio.sleep(0.05)
        if task == "b":
            raise ValueError("broken child")
        return task

    results = await asyncio.gather(*(system.aspawn("reader", task, run) for task in "abc"), return_exceptions=True)
    assert [results[0], results[2]] == ["a", "c"]
    assert isinstance(results[1], EffectError)
    assert "broken child" not in str(results[1])


async def test_a_fork_bomb_stops_at_the_cap(system: AgentOS) -> None:
    """Of twenty spawns at once three run; when they are over, more may follow, up to the total."""
    running, most = 0, 0

    async def run(child: AgentOS, task: str) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1

    results = await asyncio.gather(*(system.aspawn("reader", "x", run) for _ in range(20)), return_exceptions=True)
    assert most == 3
    assert sum(isinstance(result, DeniedError) for result in results) == 17
    for _ in range(3):
        await asyncio.gather(*(system.aspawn("reader", "x", run) for _ in range(3)))
    with pytest.raises(DeniedError) as caught:
        await system.aspawn("reader", "x", run)
    assert caught.value.decision.rules == ("agents.max_total",)


async def test_what_a_child_left_behind_cannot_act(system: AgentOS) -> None:
    """A session kept past its end, or a task it left running, is denied from then on."""
    kept: list[AgentOS] = []

    async def run(child: AgentOS, task: str) -> Any:
        kept.append(child)

    await system.aspawn("reader", "keep", run)
    with pytest.raises(DeniedError) as caught:
        await read(kept[0], "inbox/a.txt")
    assert caught.value.decision.rules == ("runtime.agent-ended",)


async def test_a_reload_reaches_running_children(system: AgentOS) -> None:
    """A right that the policy loses is lost to children that run already."""
    narrower = Policy.parse(POLICY.replace("read_file: {allow: true}", "read_file: {deny: true}"))

    async def run(child: AgentOS, task: str) -> Any:
        assert await read(child, "inbox/a.txt") == "inbox"
        system.monitor.reload(narrower, needs_of(narrower))
        with pytest.raises(DeniedError):
            await read(child, "inbox/a.txt")
        return "lost"

    assert await system.aspawn("reader", "look", run) == "lost"


def test_a_synchronous_child_runs_in_a_thread(tmp_path: Path) -> None:
    """Plain functions work on both sides: the child's synchronous calls do not wait for themselves."""
    (tmp_path / "work" / "inbox").mkdir(parents=True)
    (tmp_path / "work" / "inbox" / "a.txt").write_text("hello")

    def run(child: AgentOS, task: str) -> Any:
        outcome = child.perform({"kind": "tool.call", "tool": "read_file", "args": {"path": "inbox/a.txt"}})
        assert isinstance(outcome, Outcome)
        return outcome.value["content"]

    with AgentOS.open(
        Policy.parse(POLICY), principal="ana", workspace=tmp_path / "work", state=tmp_path / "state"
    ) as system:
        assert system.spawn("reader", "look", run) == "hello"


REFERENCES = """
version: 1
filesystem_policy: {include_workdir: true}
tools: {read_file: {allow: true}, ref_extract: {allow: true}}
models: {providers: {far: {kind: openai, base_url: "http://127.0.0.1:9/v1", models: [m]}}}
flow: {by_reference: true, reader: far/m}
agents: {max_depth: 1, roles: {reader: {tools: [read_file, ref_extract], read: [inbox], models: []}}}
"""


async def test_a_child_reads_in_quarantine_with_its_own_rights(tmp_path: Path) -> None:
    """`ref_extract` of a child calls the model as the child: one whose role has no model is denied; its parent may."""
    (tmp_path / "work" / "inbox").mkdir(parents=True)
    (tmp_path / "work" / "inbox" / "a.txt").write_text("Meet at noon.")

    async def extract(session: AgentOS) -> Any:
        given = await session.aperform({"kind": "tool.call", "tool": "read_file", "args": {"path": "inbox/a.txt"}})
        assert isinstance(given, Outcome)
        args = {"ref": given.value["content"].partition(" ")[0], "schema": {"type": "object", "properties": {}}}
        return await session.aperform({"kind": "tool.call", "tool": "ref_extract", "args": args})

    async def run(child: AgentOS, task: str) -> Any:
        with pytest.raises(DeniedError) as caught:
            await extract(child)
        return list(caught.value.decision.rules)

    async with AgentOS.open(
        Policy.parse(REFERENCES), principal="ana", workspace=tmp_path / "work", state=tmp_path / "state"
    ) as system:
        assert await system.aspawn("reader", "look", run) == ["runtime.capability"]
        outcome = await extract(system)
        assert outcome.detail == "far: cannot be reached", "the session itself may call it"


def test_a_roles_globs_of_models_are_expanded_over_the_policys_models() -> None:
    """`models: [small-*]` is every model of that name that the policy has, and no other."""
    policy = Policy.parse("""
version: 1
models: {providers: {far: {kind: openai, models: [small-1, small-2, large-1]}}}
agents: {roles: {reader: {models: ["small-*"]}}}
""")
    (held,) = (one for one in narrowed(policy, "reader", None, workspace="/w", tools=()) if one.verb == "model.call")
    assert held.scope == {"small-1", "small-2"}
