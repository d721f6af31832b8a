"""The memory effector: values by key in the vault, one room a user, bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_os.core.errors import DeniedError
from agent_os.core.ports import Outcome
from agent_os.effects.memory import MEMORY_BYTES_MAX
from agent_os.policy import Policy
from agent_os.runtime.sdk import AgentOS

POLICY = 'version: 1\nmemory: {read: ["*"], write: ["notes.*"]}\n'


def _work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir(exist_ok=True)
    return tmp_path / "work"


def test_a_value_is_remembered_over_sessions_and_sealed(tmp_path: Path) -> None:
    """Any JSON comes back as it was; the database shows neither key nor value; a key outside the policy is denied."""
    value = {"likes": ["tea", 3, None]}
    for round_ in range(2):
        with AgentOS.open(
            Policy.parse(POLICY), workspace=_work(tmp_path), state=tmp_path / "state", principal="a@x"
        ) as system:
            if round_ == 0:
                system.perform({"kind": "memory.write", "key": "notes.taste", "value": value})
                with pytest.raises(DeniedError):
                    system.perform({"kind": "memory.write", "key": "other", "value": 1})
            read = system.perform({"kind": "memory.read", "key": "notes.taste"})
            assert isinstance(read, Outcome)
            assert read.value == value
    content = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("state.db*"))
    assert b"notes.taste" not in content
    assert b"likes" not in content


def test_what_is_not_there_or_too_long_fails(tmp_path: Path) -> None:
    """An unknown key and a value past the bound are failures, not values."""
    with AgentOS.open(
        Policy.parse(POLICY), workspace=_work(tmp_path), state=tmp_path / "state", principal="a@x"
    ) as system:
        assert not system.perform({"kind": "memory.read", "key": "notes.none"}).ok
        long = system.perform({"kind": "memory.write", "key": "notes.long", "value": "x" * MEMORY_BYTES_MAX})
        assert not long.ok
