"""What the user asked is kept for replay where the policy keeps payloads, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS
from agent_os.policy import Policy
from agent_os.runtime.audit import open_audit

KEPT = "audit: {payloads: encrypted, keep: 1d}\n"


@pytest.mark.parametrize(("more", "kept"), [(KEPT, "list the files\nand then rest"), ("", None)])
def test_a_prompt_is_kept_with_the_payloads(tmp_path: Path, more: str, kept: Any) -> None:
    """Two prompts of a session stand under its name, once each; without a payload store nothing is written."""
    (tmp_path / "work").mkdir()
    policy = Policy.parse("version: 1\nfilesystem_policy: {include_workdir: true}\n" + more)
    with AgentOS.open(policy, principal="ana", workspace=tmp_path / "work", state=tmp_path / "state") as session:
        for text in ("list the files", "and then rest", "list the files"):
            session.prompt(text)
        session.perform({"kind": "fs.list", "path": "."})
        name = session.monitor.principal.session
    store = open_audit(environment={"AGENTOS_STATE": str(tmp_path / "state")}).payloads()
    if kept is None:
        assert store is None
    else:
        assert store is not None
        assert store.look_up(f"prompt/{name}") == {"prompt": kept}
