"""What a program that an agent runs leaves in places that the policy trusts: it is the program's, not the user's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_os import AgentOS
from agent_os.core.label import Integrity
from agent_os.core.ports import Outcome, Pending
from agent_os.effects import written

pytestmark = pytest.mark.kernel
POLICY = """
version: 1
extends: [pack:baseline]
filesystem_policy: {include_workdir: true}
process: {allow: [{binary: "/usr/bin/*", args: ["**"]}, {binary: "/bin/*", args: ["**"]}]}
tools: {"*": {allow: true}}
flow:
  effect_beyond_scope: off
  code_from_untrusted: off
  authority_of_unknown_origin: off
  trusted_paths: [mine]
  trusted: [{from: ["file:list.txt"], reason: kept by finance, owner: finance}]
"""
MINE, THEIRS = "DE89370400440532013000", "DE00666666666666666666"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace with a mail, a folder of the user's own, and a list of payees."""
    work = tmp_path / "ws"
    (work / "mine").mkdir(parents=True)
    (work / "mail").mkdir()
    (work / "mail" / "payee.txt").write_text(f"landlord {THEIRS}")
    (work / "mine" / "payee.txt").write_text(f"landlord {MINE}")
    (work / "list.txt").write_text(MINE)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return tmp_path


@pytest.fixture
def system(folder: Path) -> Iterator[AgentOS]:
    """A session over it with a tool that pays."""
    with _open(folder) as opened:
        yield opened


def _open(folder: Path) -> AgentOS:
    return AgentOS.open(folder / "policy.yaml", principal="ana", workspace=folder / "ws", state=folder / "state")


def _pays(system: AgentOS, iban: str) -> bool:
    if "transfer" not in system.toolbox.names():

        @system.guarded
        def transfer(iban: str) -> str:
            """Pay."""
            return "done"

    return isinstance(system.perform({"kind": "tool.call", "tool": "transfer", "args": {"iban": iban}}), Outcome)


def _run(system: AgentOS, script: str) -> None:
    wire = {"kind": "process.exec", "argv": ["sh", "-c", script], "binary_path": "/usr/bin/sh"}
    done = system.perform(wire)
    assert isinstance(done, Outcome), done
    assert done.value["status"] == 0, done.value


def _read(system: AgentOS, path: str) -> Outcome:
    done = system.perform({"kind": "fs.read", "path": path})
    assert isinstance(done, Outcome)
    return done


SCRIPTS = {
    "copied over": "cat mail/payee.txt > mine/payee.txt",
    "moved": "mv mail/payee.txt mine/payee.txt",
    "a folder moved": "mv mine old && mv mail mine",
    "with its old dates": "touch -r mine/payee.txt t && cat mail/payee.txt > mine/payee.txt && touch -r t mine/payee.txt",
}


@pytest.mark.parametrize("how", SCRIPTS)
def test_what_a_program_puts_into_a_trusted_place_is_not_the_users(folder: Path, how: str) -> None:
    """In the same session and in a later one: the file is untrusted, and the account in it asks."""
    with _open(folder) as first:
        first.prompt("Tidy the folders up.")
        _run(first, SCRIPTS[how])
        assert _read(first, "mine/payee.txt").label.integrity is Integrity.UNTRUSTED
    with _open(folder) as later:
        later.prompt("Read mine/payee.txt and pay the landlord.")
        read = _read(later, "mine/payee.txt")
        assert read.label.integrity is Integrity.UNTRUSTED
        assert "process" in read.label.sources
        assert not _pays(later, THEIRS)


def test_twin_what_no_program_touched_stays_the_users(system: AgentOS) -> None:
    """A program ran and wrote elsewhere: the user's own file is trusted, and the account in it is free."""
    system.prompt("Count the mails, read mine/payee.txt and pay the landlord.")
    _run(system, "ls mail > count.txt; cat mine/payee.txt > /dev/null")
    assert _read(system, "mine/payee.txt").label.integrity is Integrity.TRUSTED
    assert _read(system, "count.txt").label.integrity is Integrity.UNTRUSTED


def test_a_list_that_a_program_rewrote_vouches_for_nothing(system: AgentOS) -> None:
    """The operator's list names a file; after a program wrote it, what stands there is no payee."""
    system.prompt("Read mail/payee.txt and list.txt and pay each of the payees.")
    _run(system, f"echo {THEIRS} > list.txt")
    _read(system, "mail/payee.txt")
    _read(system, "list.txt")
    assert not _pays(system, THEIRS)


def test_where_nobody_can_say_nothing_is_trusted(system: AgentOS, monkeypatch: pytest.MonkeyPatch) -> None:
    """More files than are looked through: no place of the policy is trusted in this session any more."""
    monkeypatch.setattr(written, "INVENTORY_MAX", 2)
    system.prompt("Count the mails, read mine/payee.txt and pay the landlord.")
    _run(system, "true")
    assert _read(system, "mine/payee.txt").label.integrity is Integrity.UNTRUSTED


def test_a_program_that_fails_has_written_all_the_same(system: AgentOS) -> None:
    """Its status does not matter, nor that it was ended."""
    system.prompt("Tidy up.")
    wire = {
        "kind": "process.exec",
        "argv": ["sh", "-c", "cp mail/payee.txt mine/payee.txt; exit 3"],
        "binary_path": "/usr/bin/sh",
    }
    assert not isinstance(system.perform(wire), Pending)
    assert _read(system, "mine/payee.txt").label.integrity is Integrity.UNTRUSTED
