"""Every built-in tool, and how they are bound to a door. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from agent_os.agents.builtin_files import FILE_TOOLS
from agent_os.agents.builtin_mail import MAIL_TOOLS
from agent_os.agents.builtin_memory import MEMORY_TOOLS
from agent_os.agents.builtin_world import WORLD_TOOLS
from agent_os.agents.tool_door import BuiltinTool, ToolDoor
from agent_os.agents.toolbox import Entry, Toolbox
from agent_os.core.errors import EffectError
from agent_os.core.ports import RegisteredTool
from agent_os.core.tool_identity import code_of

BUILTIN_TOOLS: Final[tuple[BuiltinTool, ...]] = (*FILE_TOOLS, *WORLD_TOOLS, *MEMORY_TOOLS, *MAIL_TOOLS)


def register_builtin_tools(
    toolbox: Toolbox, door: ToolDoor, tools: Iterable[BuiltinTool] = BUILTIN_TOOLS
) -> tuple[RegisteredTool, ...]:
    """Register built-in tools whose inner effects go through `door`; return them as registered."""
    return tuple(_register(toolbox, door, tool) for tool in tools)


def _register(toolbox: Toolbox, door: ToolDoor, tool: BuiltinTool) -> RegisteredTool:
    async def run(args: Mapping[str, Any]) -> Any:
        return await tool.run(door, args)

    known = _identified().get(tool.spec.name)
    if known is None or known.tool.spec is not tool.spec:
        return toolbox.register(tool.spec, run, code=code_of(tool.run))
    return toolbox.rebind(known, run)


@lru_cache(1)
def _identified() -> Mapping[str, Entry]:
    """Return the built-in tools identified once: digests and schemas are the same for every session."""

    async def unbound(args: Mapping[str, Any]) -> Any:
        raise EffectError("this tool is bound to no door")

    known = Toolbox()
    for tool in BUILTIN_TOOLS:
        known.register(tool.spec, unbound, code=code_of(tool.run))
    return known.entries()
