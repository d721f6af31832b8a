"""One JSON action a line in, one decision a line out. Pure: bytes to bytes.

A line that is malformed, too long or no action is answered with a denial that says why; nothing on the stream can end
it. `id` and `facts` may stand beside the action's own keys; `id` comes back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from agent_os.core import canonical
from agent_os.core.action import Action, ToolCall
from agent_os.core.errors import ActionError
from agent_os.core.facts import DEFAULTS, Facts
from agent_os.policy.engine import decide
from agent_os.policy.policy import Policy
from agent_os.policy.workbench.facts import Judge, judged, parse_facts

if TYPE_CHECKING:
    from agent_os.core.manifest import Manifest

MAX_LINE_BYTES: Final = 16 * 2**20

try:
    from orjson import dumps as _dumps
    from orjson import loads as _loads
except ImportError:  # the extra [fast] is not installed: the same answers, slower

    def _dumps(value: Any) -> bytes:  # type: ignore[misc]
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    def _loads(data: bytes) -> Any:  # type: ignore[misc]
        return json.loads(data, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def refusal(policy: Policy, reason: str, given: Any = None) -> dict[str, Any]:
    """Return the decision on something that is no action."""
    answer: dict[str, Any] = {"verdict": "deny", "rules": [], "reason": reason, "error": "malformed-action"}
    answer["policy"] = policy.digest
    if isinstance(given, Mapping) and isinstance(given.get("id"), (str, int)):
        answer["id"] = given["id"]
    return answer


class Decider:
    """Decides lines under one policy; `workspace` is what relative paths are taken against.

    With `manifests`, arguments that a manifest says are paths are made canonical first, as the monitor does; with
    `judge`, the engines of `rego:` are asked about each action that brings no verdicts of its own.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        workspace: str = "/workspace",
        manifests: Sequence[Manifest] = (),
        judge: Judge | None = None,
    ) -> None:
        self._policy, self._judge = policy, judge
        self._paths = {
            (manifest.name if manifest.server else "", tool.name): [
                name for name, argument in tool.arguments.items() if argument.type == "path"
            ]
            for manifest in manifests
            for tool in manifest.tools
        }
        self._workspace = workspace
        self._base = DEFAULTS if workspace == DEFAULTS.workspace else replace(DEFAULTS, workspace=workspace)

    def decide_line(self, line: bytes) -> bytes:
        """Return the decision on one line, without a line end."""
        if len(line) > MAX_LINE_BYTES:
            return _dumps(refusal(self._policy, f"malformed action: longer than {MAX_LINE_BYTES} bytes"))
        try:
            data = _loads(line)
        except (ValueError, RecursionError):
            return _dumps(refusal(self._policy, "malformed action: not JSON"))
        return _dumps(self.decide_data(data))

    def decide_data(self, data: Any) -> dict[str, Any]:
        """Return the decision on the wire form of an action, with its `id` if it has one."""
        if not isinstance(data, Mapping):
            return refusal(self._policy, "malformed action: must be an object")
        wire = dict(data)
        name = wire.pop("id", None)
        given = wire.pop("facts", None)
        try:
            action = Action.parse(wire, workspace=self._workspace)
            if self._paths and isinstance(action, ToolCall):
                action = self._with_paths(action)
            facts = self._base if given is None else parse_facts(given, self._base)
            facts = judged(facts.with_stated(action.stated), action, self._judge)
            answer = decide(self._policy, action, facts).to_json()
        except (ActionError, RecursionError) as error:
            return refusal(self._policy, f"malformed action: {error}", data)
        if name is not None:
            answer["id"] = name
        return answer

    def _with_paths(self, action: ToolCall) -> Action:
        names = self._paths.get((action.server, action.tool), ())
        changed = {
            name: canonical.path(action.args[name], root=self._workspace, field=f"args.{name}")
            for name in names
            if isinstance(action.args.get(name), str) and action.args[name]
        }
        return action.rewritten(args={**action.args, **changed}) if changed else action

    def decide_lines(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a decision with a line end for each line that is not blank."""
        for line in lines:
            if line.strip():
                yield self.decide_line(line) + b"\n"


def parse_line(line: bytes, *, workspace: str = "/workspace") -> tuple[Action, Facts]:
    """Return the action of one line and its facts. Raises ActionError for anything else."""
    try:
        data = _loads(line)
    except (ValueError, RecursionError):
        raise ActionError("is not JSON", field="action") from None
    if not isinstance(data, Mapping):
        raise ActionError("must be an object", field="action")
    wire = dict(data)
    wire.pop("id", None)
    given = wire.pop("facts", None) or {}
    action = Action.parse(wire, workspace=workspace)
    return action, parse_facts(given, replace(DEFAULTS, workspace=workspace)).with_stated(action.stated)
