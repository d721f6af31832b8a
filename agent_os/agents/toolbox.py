"""The tools of one runtime: who they are (registry) and how a permitted call of one is carried out (effector).

Implements `core.ports.ToolRegistry` and the effector of `tool.call`. Pure but for calling the tools themselves; opens
nothing. Threats: a caller that says which tool it is (identity comes from here alone); a second tool registered under
a known name; arguments of a shape that the tool never declared (its schema is a stranger's: `policy/shapes.py`); a tool that
returns more than anyone can carry.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.action import Action, ToolCall
from agent_os.core.errors import ActionError, EffectError
from agent_os.core.label import UNTRUSTED
from agent_os.core.manifest import ToolSpec
from agent_os.core.ports import Outcome, Permit, RegisteredTool
from agent_os.core.tool_identity import tool_digest
from agent_os.policy.shapes import Shape, ShapeError

TOOLS_MAX: Final = 4096
VALIDATORS_KEPT: Final = 1_024
SCHEMA_ERRORS_SHOWN: Final = 3
Run = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""A tool's body: takes the judged arguments, returns plain JSON (or bytes), or raises EffectError."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tool as it is registered: what identifies it, its body, and the validator of its schema."""

    tool: RegisteredTool
    run: Run
    check: Shape | None


class Toolbox:
    """Registered tools, by exact name."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._names: frozenset[str] | None = None
        self._absent: dict[str, tuple[str, str]] = {}

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of action this effector carries out."""
        return frozenset({"tool.call"})

    def register(self, spec: ToolSpec, run: Run, *, code: bytes, server: str = "") -> RegisteredTool:
        """Make a tool known under its name; `code` is whatever identifies its implementation.

        Registering the same spec and code again is allowed (the newest `run` serves); another digest under a known name
        raises ActionError, as does a schema that is none.
        """
        name = canonical.name(f"{server}/{spec.name}" if server else spec.name, field="tool")
        digest = tool_digest(spec, code)
        known = self._entries.get(name)
        if known is not None and known.tool.digest != digest:
            raise ActionError("a different tool is registered under this name", field="tool", hint=name)
        if known is None and len(self._entries) >= TOOLS_MAX:
            raise ActionError(f"more than {TOOLS_MAX} tools", field="tool")
        entry = Entry(RegisteredTool(spec, digest, server), run, _validator(spec))
        self._entries[name], self._names = entry, None
        return entry.tool

    def leave_out(self, server: str, why: str, advice: str) -> None:
        """Note why the tools of a server are not there, and what a person can do about it."""
        self._absent[server] = (why, advice)

    def absent(self, server: str) -> tuple[str, str]:
        """Return why a server's tools are not there and what to do about it; empty texts where nobody knows."""
        return self._absent.get(server, ("", ""))

    def rebind(self, entry: Entry, run: Run) -> RegisteredTool:
        """Make a tool known that another toolbox has identified, with a body of this one's."""
        spec, server = entry.tool.spec, entry.tool.server
        self._entries[f"{server}/{spec.name}" if server else spec.name] = Entry(entry.tool, run, entry.check)
        self._names = None
        return entry.tool

    def entries(self) -> Mapping[str, Entry]:
        """Return every registered tool by name, to be bound again elsewhere."""
        return dict(self._entries)

    def without(self, names: Iterable[str]) -> Toolbox:
        """Return another toolbox with the same tools but those named."""
        left = Toolbox()
        gone = frozenset(names)
        left._entries = {name: entry for name, entry in self._entries.items() if name not in gone}
        left._absent = dict(self._absent)
        return left

    def find(self, tool: str, server: str = "") -> RegisteredTool | None:
        """Return the tool of that exact name, or None."""
        entry = self._entries.get(f"{server}/{tool}" if server else tool)
        return entry.tool if entry else None

    def names(self) -> frozenset[str]:
        """Return every registered name, `server/tool` for tools of a server."""
        if self._names is None:
            self._names = frozenset(self._entries)
        return self._names

    def check(self, tool: str, args: Mapping[str, Any], server: str = "") -> None:
        """Raise ActionError naming the argument when `args` do not fit the tool's declared schema."""
        entry = self._entry(f"{server}/{tool}" if server else tool)
        if entry.check is None:
            return
        problems = entry.check.problems(dict(args))
        if problems:
            said = "; ".join(_said(problem) for problem in problems[:SCHEMA_ERRORS_SHOWN])
            raise ActionError(said, field="args", hint=f"see the schema of {tool}")

    async def execute(self, permit: Permit, action: Action) -> Outcome:
        """Run the tool with the judged arguments. Raises EffectError for unknown tools and for results too large."""
        if not isinstance(action, ToolCall):
            raise EffectError(f"tools cannot carry out {action.kind}")
        entry = self._entry(action.target)
        if action.tool_digest and action.tool_digest != entry.tool.digest:
            raise EffectError("the tool changed after the call was judged")
        self.check(action.tool, action.args, action.server)
        value = await entry.run(action.args)
        value = value if isinstance(value, bytes) else canonical.json_value(value, field="result")
        size = len(value) if isinstance(value, bytes) else len(canonical.json_bytes(value))
        if size > entry.tool.spec.output_bytes_max:
            raise EffectError(f"the result is larger than {entry.tool.spec.output_bytes_max} bytes")
        return Outcome(value, UNTRUSTED, usage={"bytes": float(size)})

    def _entry(self, name: str) -> Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise EffectError("no such tool is registered")
        return entry


def _validator(spec: ToolSpec) -> Shape | None:
    if spec.input_schema is None:
        return None
    return _compiled(spec.name, canonical.json_bytes(spec.input_schema))


@lru_cache(VALIDATORS_KEPT)
def _compiled(name: str, schema: bytes) -> Shape:
    """Return the validator of a schema, checked once: checking takes milliseconds, and every session registers tools."""
    try:
        return Shape(json.loads(schema))
    except ShapeError as error:
        raise ActionError(str(error), field=f"{name}.input_schema") from None


def _said(problem: Any) -> str:
    """Say what is wrong with which argument, without its value."""
    place = ".".join(str(part) for part in problem.absolute_path) or "arguments"
    match problem.validator:
        case "required":
            missing = [name for name in problem.validator_value if name not in problem.instance]
            return f"{place}: missing {', '.join(missing)}"
        case "additionalProperties":
            known = problem.schema.get("properties", {})
            extra = [str(name) for name in problem.instance if name not in known]
            return f"{place}: unknown {', '.join(sorted(extra)[:SCHEMA_ERRORS_SHOWN])}"
        case "type":
            return f"{place}: must be {problem.validator_value}"
        case keyword:
            return f"{place}: does not satisfy {keyword}"
