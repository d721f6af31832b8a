"""What is asked of a model beside the conversation: tools with their schemas, parameters, the length of the answer.

Pure. Threat: a part of the request that no rule sees, such as a tool that the provider executes or a prompt hidden in a schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_os.adapters.langchain.messages import jsonable

PROVIDER_ARGUMENTS: Final = (
    "mcp_servers",
    "web_search_options",
    "container",
    "extra_body",
    "extra_headers",
    "extra_query",
)
"""Call arguments through which a provider executes tools or is told more than the messages say."""
REQUEST_ROLE: Final = "request"
LENGTHS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
CLIENT_TOOL_TYPES: Final = ("function", "custom")


def tool_name(given: Any) -> str:
    """Return the name of a tool as it is given to a model: a schema, a tool, a class or a function; else an empty text."""
    if isinstance(given, Mapping):
        function = given.get("function")
        name = function.get("name") if isinstance(function, Mapping) else given.get("name") or given.get("type")
        return str(name or "")
    return str(getattr(given, "name", None) or getattr(given, "__name__", ""))


def rest_of_request(kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is sent beside the conversation (tools with their schemas, parameters) as one message in front of it.

    So it is judged, scanned and rewritten like the rest. Classes and functions are no data and stay where they are.
    """
    said = {
        name: jsonable(value) for name, value in sorted(kwargs.items()) if not callable(value) and value is not None
    }
    return [{"role": REQUEST_ROLE, "content": said}] if said else []


def length_limit(inner: Any, kwargs: Mapping[str, Any]) -> int:
    """Return the tokens an answer may have, of the call or of the model; 0: nobody said."""
    for name in LENGTHS:
        for value in (kwargs.get(name), getattr(inner, name, None)):
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return 0
