"""Opening the state directory: one audit chain for each process, a second sink, checkpoints elsewhere, refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent_os.core.errors import EffectError, IntegrityError
from agent_os.effects.audit_files import segments_of
from agent_os.runtime.audit import open_audit
from agent_os.runtime.state import open_state


def env(tmp_path: Path, **more: str) -> dict[str, str]:
    """Return an environment with its state under `tmp_path`."""
    return {"AGENTOS_STATE": str(tmp_path / "state"), **more}


async def test_two_processes_write_two_chains(tmp_path: Path) -> None:
    """A second process finds the chain taken and begins its own; the next run takes the first one up again."""
    first = open_state(environment=env(tmp_path))
    code = "from agent_os.runtime.state import open_state; s = open_state(); print(s.logs[0].writer); s.close()"
    second = subprocess.run(
        [sys.executable, "-c", code], env=env(tmp_path, PYTHONPATH="."), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert second.stdout.strip() == "agentos-2", second.stderr
    first.close()
    again = open_state(environment=env(tmp_path))
    assert [log.writer for log in again.logs] == ["agentos"]
    again.close()
    reader = open_audit(environment=env(tmp_path))
    assert reader.writers() == ["agentos", "agentos-2"]
    assert all(reader.report(writer).ok for writer in reader.writers())


async def test_a_second_sink_has_everything_and_stands_alone(tmp_path: Path) -> None:
    """With AGENTOS_AUDIT_SECOND each record goes to two chains; work goes on when one cannot be opened, which is said."""
    both = env(tmp_path, AGENTOS_AUDIT_SECOND=str(tmp_path / "other"))
    state = open_state(environment=both)
    await state.audit.append({"type": "intent", "ref": "act_1"})
    state.close()
    second = open_audit(tmp_path / "other", environment=both)
    assert [record["type"] for record in second.records()][-1] == "intent"
    assert second.report("agentos").ok
    path = segments_of(tmp_path / "state" / "audit" / "agentos")[-1]
    path.rename(tmp_path / "kept")
    path.mkdir()
    state = open_state(environment=both)
    await state.audit.append({"type": "intent", "ref": "act_2"})
    state.close()
    last = [record for record in second.records() if record["type"] == "audit.started"][-1]
    assert len(last["unavailable"]) == 1


async def test_checkpoints_elsewhere_catch_a_state_directory_put_back(tmp_path: Path) -> None:
    """A whole state directory replaced by an older copy is consistent in itself; the checkpoints kept elsewhere tell."""
    kept = env(tmp_path, AGENTOS_CHECKPOINTS=str(tmp_path / "elsewhere"))
    state = open_state(environment=kept)
    state.close()
    subprocess.run(["cp", "-a", tmp_path / "state", tmp_path / "old"], check=True, timeout=30)
    state = open_state(environment=kept)
    await state.audit.append({"type": "intent", "ref": "act_1"})
    state.close()
    (tmp_path / "state").rename(tmp_path / "new")
    (tmp_path / "old").rename(tmp_path / "state")
    assert open_audit(environment=env(tmp_path)).report("agentos").ok, "without them the copy looks whole"
    assert open_audit(environment=kept).report("agentos").faults[0].kind == "cut"
    with pytest.raises((IntegrityError, EffectError)):
        open_state(environment=kept)


@pytest.mark.parametrize("name", ["AGENTOS_STATE", "AGENTOS_AUDIT_SECOND", "AGENTOS_CHECKPOINTS"])
def test_relative_settings_are_named(tmp_path: Path, name: str) -> None:
    """A relative directory would depend on where a command runs."""
    with pytest.raises(EffectError, match=name):
        open_state(environment=env(tmp_path) | {name: "here"})


def test_a_state_inside_the_workspace_is_refused(tmp_path: Path) -> None:
    """An agent that may write its workspace must not find its audit and keys there."""
    with pytest.raises(EffectError, match="inside the workspace"):
        open_state(environment=env(tmp_path), workspace=tmp_path)
