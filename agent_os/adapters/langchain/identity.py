"""What a LangChain tool is to the registry: the bytes its code is known by, and the worst case of its semantics."""

from __future__ import annotations

from typing import Any, cast

from langchain_core.tools import BaseTool

from agent_os.adapters.langchain.messages import jsonable
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec
from agent_os.core.tool_identity import code_of


def inferred_spec(inner: BaseTool) -> ToolSpec:
    """Return the worst case for a tool nobody described: every argument authority, the effect `execute`."""
    schema = json_schema(inner)
    arguments = {str(name): Argument(role=Role.AUTHORITY) for name in schema.get("properties", {})}
    return ToolSpec(
        name=inner.name,
        description=inner.description,
        effect=Effect.EXECUTE,
        arguments=arguments,
        input_schema=schema,
    )


def json_schema(inner: BaseTool) -> dict[str, Any]:
    """Return the schema a model is shown of a tool's arguments; what the application injects is not in it."""
    shown: Any = inner.tool_call_schema
    schema = dict(shown) if isinstance(shown, dict) else shown.model_json_schema()
    return cast("dict[str, Any]", jsonable(schema))


def code_digest(inner: BaseTool) -> bytes:
    """Return bytes that identify the code behind a LangChain tool."""
    kind = type(inner)
    parts = [f"{kind.__module__}.{kind.__qualname__}".encode()]
    for name in ("func", "coroutine", "_run", "_arun"):
        function = getattr(inner, name, None)
        if function is not None:
            parts.append(code_of(getattr(function, "__func__", function)))
    return b"\n".join(parts)
