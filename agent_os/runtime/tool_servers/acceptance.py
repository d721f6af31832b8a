"""What a person looks at and accepts of a tool server: what it says of itself now, pinned with the semantics they saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from agent_os.adapters.mcp.pins import pin
from agent_os.adapters.mcp.protocol import ServerTool
from agent_os.core import canonical
from agent_os.core.errors import ActionError, EffectError
from agent_os.core.manifest import Argument, Manifest
from agent_os.effects.sandbox.launch import ProgramError
from agent_os.guards.flow.derive import from_schema
from agent_os.runtime.tool_servers.host import Caller, ServerHost
from agent_os.runtime.tool_servers.packs import code_digest, manifest_of
from agent_os.runtime.tool_servers.records import ServerRecord

RESULT_BYTES_MAX: Final = 1_000_000
SAID_CHARS: Final = 500


async def examine(host: ServerHost, record: ServerRecord, caller: Caller) -> tuple[list[ServerTool], str]:
    """Start a server and return its tools and its code's digest now. Raises EffectError with what it said on stderr."""
    code = code_digest(record)
    try:
        server = await host.start(record, caller, strict=False)
    except ProgramError as error:
        hint = "is it in a folder that filesystem_policy lets programs read (read_only: [/opt/...])?"
        raise EffectError(f"{record.name}: {record.command[0]}: {error}; {hint}") from None
    try:
        return await server.hello(), code
    except EffectError as error:
        said = server.said[-SAID_CHARS:]
        hint = "" if record.url else f"; is '{record.where}' an MCP server over stdio?"
        raise EffectError(f"{record.name}: {error}" + (f"; it said: {said}" if said else hint)) from None
    finally:
        await server.aclose()


def as_it_is(record: ServerRecord) -> tuple[ServerRecord, Manifest | None]:
    """Return a record with what its pack says now of command and needs, and the pack's manifest."""
    manifest = manifest_of(record)
    if manifest is None:
        return record, None
    return replace(record, command=list(manifest.server), needs=manifest.needs), manifest


def as_shown(now: ServerRecord, tools: Sequence[ServerTool], code: str) -> str:
    """Return a digest of all that a person is shown of a server: what is run, what it asks for, what it says of itself."""
    needs, said = now.needs.model_dump(mode="json"), [tool.to_json() for tool in tools]
    return canonical.json_digest({"command": now.command, "url": now.url, "needs": needs, "code": code, "tools": said})


def accept(record: ServerRecord, tools: Sequence[ServerTool], code: str, manifest: Manifest | None) -> ServerRecord:
    """Return the record (as it is now) with what a person has seen: pins, and the manifest's semantics or a drafted worst case.

    Raises EffectError for a server that is not, now, what the person was shown.
    """
    if record.shown != as_shown(record, tools, code):
        raise EffectError(
            f"{record.name} is not what you were shown: look at it again (agentos tools inspect {record.name})"
        )
    known = {spec.name: spec for spec in manifest.tools} if manifest is not None else {}
    entries = []
    for tool in tools:
        try:
            canonical.name(tool.name, field="tool")
        except ActionError as error:
            raise EffectError(str(error)) from None
        spec = known.get(tool.name) or from_schema(tool.name, tool.input_schema, tool.description, tool.hints)
        if record.url:  # what it calls a path is a path of its own, not of the workspace
            spec = spec.model_copy(update={"arguments": {key: _elsewhere(one) for key, one in spec.arguments.items()}})
        spec = spec.model_copy(
            update={
                "description": tool.description,
                "input_schema": dict(tool.input_schema),
                "sandboxed": not record.url,
                "output_bytes_max": min(spec.output_bytes_max, RESULT_BYTES_MAX),
            }
        )
        entries.append({"shown": tool.to_json(), "pin": pin(tool), "spec": spec.model_dump(mode="json")})
    record.tools, record.code, record.state, record.why = entries, code, "approved", []
    return record


def _elsewhere(argument: Argument) -> Argument:
    return argument.model_copy(update={"type": "any"}) if argument.type == "path" else argument
