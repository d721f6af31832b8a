"""The tool registry: identity = code and digest, semantics = manifest. In memory, one a runtime; no I/O.

Threat: a tool that lies about its name, or one whose code changed after it was accepted. A name can be registered once;
registering other code under it is refused. The digest is computed here, never taken from a caller.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError
from agent_os.core.manifest import ToolSpec
from agent_os.core.ports import RegisteredTool

MAX_TOOLS: Final = 10_000
_CODE_DEPTH_MAX: Final = 32


class Registry:
    """Names of tools to what they are; implements core.ports.ToolRegistry."""

    def __init__(self) -> None:
        self._tools: dict[tuple[str, str], RegisteredTool] = {}
        self._names: frozenset[str] = frozenset()

    def add(self, spec: ToolSpec, code: Callable[..., Any] | str, *, server: str = "") -> RegisteredTool:
        """Register a tool under its spec's name; the same code and spec again is a no-op.

        `code` is the function that runs, or a digest string of code that runs elsewhere (a tool server).
        Raises ActionError for a malformed name, for another tool under a taken name, and past MAX_TOOLS.
        """
        name = canonical.name(spec.name, field="tool")
        server = canonical.name(server, field="server")
        ran = code if isinstance(code, str) else code_digest(code)
        digest = canonical.json_digest([server, spec.model_dump(mode="json"), ran])
        known = self._tools.get((server, name))
        if known is not None:
            if known.digest == digest:
                return known
            raise ActionError(
                "another tool is registered under this name", field="tool", hint="names are unique per server"
            )
        if len(self._tools) >= MAX_TOOLS:
            raise ActionError(f"more than {MAX_TOOLS} tools", field="tool")
        tool = RegisteredTool(spec, digest, server)
        self._tools[server, name] = tool
        self._names = self._names | {f"{server}/{name}" if server else name}
        return tool

    def remove(self, name: str, server: str = "") -> None:
        """Forget a tool; calls of it are denied from now on."""
        if self._tools.pop((server, name), None) is not None:
            self._names = self._names - {f"{server}/{name}" if server else name}

    def find(self, tool: str, server: str = "") -> RegisteredTool | None:
        """Return the tool of that exact name, or None."""
        return self._tools.get((server, tool))

    def names(self) -> frozenset[str]:
        """Return every registered name, `server/tool` for tools of a server."""
        return self._names


def code_digest(function: Callable[..., Any]) -> str:
    """Return `sha256:…` over a function's compiled code, its constants and its qualified name.

    A callable without Python code (a C function, an instance) is known by its type's qualified name alone.
    """
    target: Any = function
    while hasattr(target, "__wrapped__"):
        target = target.__wrapped__
    target = getattr(target, "__func__", target)
    code = getattr(target, "__code__", None)
    name = f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', type(target).__qualname__)}"
    digest = hashlib.sha256(name.encode())
    if code is not None:
        _feed(digest, code, 0)
    return "sha256:" + digest.hexdigest()


def _feed(digest: Any, code: types.CodeType, depth: int) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if depth < _CODE_DEPTH_MAX:
                _feed(digest, constant, depth + 1)
        elif isinstance(constant, frozenset):
            digest.update(repr(sorted(map(repr, constant))).encode())
        else:
            digest.update(repr(constant).encode())
