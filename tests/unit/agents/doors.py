"""A small door for tests of tools: judges by a list of denied targets and executes with the real effectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_os.core.action import Action, NetRequest
from agent_os.core.carried import Carried
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import DeniedError, EffectError
from agent_os.core.ports import Outcome, Permit
from agent_os.core.principal import Principal
from agent_os.effects.files import Files
from agent_os.effects.http import Http
from agent_os.effects.links import KernelLinks


class ListDoor:
    """Denies what is listed, carries out the rest, and remembers every action."""

    def __init__(self, workspace: Path, denied: tuple[str, ...] = ()) -> None:
        self.workspace, self.principal, self.carried = str(workspace), Principal(), Carried()
        self.denied, self.seen = denied, []
        files = Files(writable=[self.workspace], carried=self.carried)
        http = Http(carried=self.carried)
        self.effectors = {kind: effector for effector in (files, http) for kind in effector.kinds}
        self.links = KernelLinks()

    async def perform(self, action: Action | Mapping[str, Any]) -> Outcome:
        if not isinstance(action, Action):
            action = Action.parse(action, workspace=self.workspace, principal=self.principal)
        if action.kind.startswith("fs."):
            action = action.rewritten(path=self.links.resolve(action.target))
        self.seen.append((action.kind, action.target))
        if any(action.target.startswith(denied) for denied in self.denied):
            raise DeniedError(Decision(Verdict.DENY, ("test.denied",), "denied by the test"))
        effector = self.effectors.get(action.kind)
        if effector is None:
            raise EffectError(f"nothing carries out {action.kind} here")
        ips = ("127.0.0.1",) if isinstance(action, NetRequest) else ()
        return await effector.execute(Permit("n", action.digest, "f", "k", ips), action)
