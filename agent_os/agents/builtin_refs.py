"""The built-in tools for values by reference: `ref_select` chooses among rows, `ref_read` shows one, `ref_extract` reads
one in quarantine. Pure but for the door.

They take handles that the flow guard gave out (`flow.by_reference`). Choosing is the runtime's doing, over trusted fields
only; where it is the choice the prompt asks for, the chosen record vouches ("book the cheapest" needs no approval). What
`ref_read` shows has been read, with everything that follows. `ref_extract` has a model without tools and without the task
read the text into a schema; what comes out keeps the text's label and comes back as a handle again.
Threats: a choice by a field that a stranger filled (refused); a choice nobody asked for (made, but it vouches for nothing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent_os.agents.tool_door import BuiltinTool, ToolDoor, performed
from agent_os.core.errors import ActionError, EffectError
from agent_os.core.label import Integrity, Label, Labeled
from agent_os.core.manifest import Argument, Effect, Result, Role, ToolSpec
from agent_os.guards.flow import quarantine, select
from agent_os.guards.flow.handles import Handles, reference, shown_row, text_of
from agent_os.guards.flow.prompt import Prompt
from agent_os.guards.flow.session import FlowSession

ROWS_MAX: Final = 10_000
"""Rows that are chosen among; more are refused."""
OPERATORS: Final = ("=", "<", "<=", ">", ">=", "contains")
_REF: Final = {"type": "string", "minLength": 5, "maxLength": 400}
_WHERE: Final = {
    "type": "array",
    "maxItems": 8,
    "items": {
        "type": "object",
        "properties": {"field": {"type": "string"}, "op": {"enum": list(OPERATORS)}, "value": {}},
        "required": ["field", "op", "value"],
        "additionalProperties": False,
    },
}


def reference_tools(flow: FlowSession, reader: str = "") -> tuple[BuiltinTool, ...]:
    """Return the tools over the handles of one session; `ref_extract` only where the policy names a reader."""
    handles = flow.handles
    if handles is None:
        return ()

    async def ref_select(_: ToolDoor, args: Mapping[str, Any]) -> Any:
        try:
            return _select(flow, handles, args)
        except ActionError as error:
            raise EffectError(str(error)) from None

    async def ref_read(_: ToolDoor, args: Mapping[str, Any]) -> Any:
        try:
            return handles.get(args["ref"])[0]
        except ActionError as error:
            raise EffectError(str(error)) from None

    async def ref_extract(door: ToolDoor, args: Mapping[str, Any]) -> Any:
        try:
            value, label, _, _ = handles.get(args["ref"])
            reading = quarantine.plan_reading(Labeled(text_of(value), label), args["schema"])
        except ActionError as error:
            raise EffectError(str(error)) from None
        provider, _, model = reader.rpartition("/")
        answer = await performed(
            door,
            {
                "kind": "model.call", "provider": provider, "model": model, "purpose": "quarantine",
                "messages": [dict(message) for message in reading.messages],
            },
        )  # fmt: skip
        try:
            found = quarantine.parse_reading(reading, _said(answer))
        except ActionError as error:
            raise EffectError(f"the reader's {error}") from None
        handle = flow.keep(found.value, found.label, {})
        return {"ref": reference(handle, "", found.value)}

    tools = [BuiltinTool(_SELECT, ref_select), BuiltinTool(_READ, ref_read)]
    return (*tools, BuiltinTool(_EXTRACT, ref_extract)) if reader else tuple(tools)


def _said(answer: Any) -> str:
    """Return the text of a model's answer, in whichever of the usual shapes it stands."""
    if isinstance(answer, Mapping):
        for name in ("text", "content", "message"):
            if name in answer:
                return _said(answer[name])
        raise EffectError("the reader answered without a text")
    if isinstance(answer, Sequence) and not isinstance(answer, str):
        return "".join(_said(part) for part in answer)
    return str(answer).strip().removeprefix("```json").removesuffix("```").strip()


def _select(flow: FlowSession, handles: Handles, args: Mapping[str, Any]) -> Any:
    rows = _rows(handles, args["ref"])
    do, by = args["do"], args.get("by", "")
    asked = True
    wheres = args.get("where", [])
    for where in wheres:
        rows = select.filter_by(rows, where["field"], _test(where))
        asked = asked and _named(flow.words, where)
    if do == "count":
        return {"count": select.count(rows).value}
    if do == "join":
        rows = select.join_on(rows, _rows(handles, args.get("with", "")), by)
        return _kept(flow, rows)
    if do == "filter":
        if rows and wheres and asked and (len(rows) == 1 or flow.words.repeats):
            _choose(flow, rows)
        return _kept(flow, rows)
    if do in ("argmin", "argmax"):
        row = (select.argmin if do == "argmin" else select.argmax)(rows, by)
        if asked and (_is_choice(flow.words, rows, row, by) or (wheres and len(rows) == 1)):
            _choose(flow, [row])
        return _kept(flow, [row])
    row = select.first(rows)
    if wheres and asked and len(rows) == 1:
        _choose(flow, [row])
    return _kept(flow, [row])


def _rows(handles: Handles, ref: str) -> list[select.Row]:
    value, _, held, pointer = handles.get(ref)
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise ActionError("is no list of records", field="ref", hint="choose among the rows of a list")
    if len(value) > ROWS_MAX:
        raise ActionError(f"has more than {ROWS_MAX} rows", field="ref")
    return [
        {str(key): Labeled(item, held.label_at(f"{pointer}/{index}/{key}")) for key, item in row.items()}
        for index, row in enumerate(value)
    ]


def _kept(flow: FlowSession, rows: Sequence[select.Row]) -> Any:
    """Keep chosen rows as a result of their own; return what the model sees of them."""
    value = [{name: cell.value for name, cell in row.items()} for row in rows]
    leaves = {f"/{index}/{name}": cell.label for index, row in enumerate(rows) for name, cell in row.items()}
    handle = flow.keep(value, Label.join_all(leaves.values()), leaves)
    return {"ref": handle, "rows": [shown_row(handle, index, row) for index, row in enumerate(rows)]}


def _choose(flow: FlowSession, rows: Sequence[select.Row]) -> None:
    for row in rows:
        flow.choose({name: cell.value for name, cell in row.items() if cell.label.integrity is Integrity.TRUSTED})


def _is_choice(words: Prompt, rows: Sequence[select.Row], row: select.Row, by: str) -> bool:
    numbers = {index: select.number_of(one[by].value) for index, one in enumerate(rows)}
    known = {index: number for index, number in numbers.items() if number is not None}
    at = next(index for index, one in enumerate(rows) if one is row)
    return len(known) == len(rows) and select.is_extreme(at, {by: known}, words.choice)


def _named(words: Prompt, where: Mapping[str, Any]) -> bool:
    """Return whether a condition is the prompt's: its value is named there."""
    value = where["value"]
    if isinstance(value, bool):
        return False
    return words.names(f"{value:g}" if isinstance(value, (int, float)) else str(value))


def _test(where: Mapping[str, Any]) -> Any:
    wanted, operator = where["value"], where["op"]
    limit = select.number_of(wanted)

    def holds(item: Any) -> bool:
        if operator == "=":
            return str(item).casefold() == str(wanted).casefold() if isinstance(item, str) else bool(item == wanted)
        if operator == "contains":
            return str(wanted).casefold() in str(item).casefold()
        number = select.number_of(item)
        if number is None or limit is None:
            return False
        return {"<": number < limit, "<=": number <= limit, ">": number > limit, ">=": number >= limit}[operator]

    return holds


def _spec(name: str, description: str, properties: dict[str, Any], required: list[str]) -> ToolSpec:
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    arguments = {key: Argument(role=Role.SELECTOR) for key in properties}
    return ToolSpec(
        name=name, description=description, effect=Effect.READ, arguments=arguments, results={"$": Result()},
        input_schema=schema,
    )  # fmt: skip


_SELECT: Final = _spec(
    "ref_select",
    "Choose among the rows of a list that you have as a handle: argmin, argmax, filter, first, count or join.",
    {
        "ref": _REF, "do": {"enum": ["argmin", "argmax", "filter", "first", "count", "join"]}, "by": {"type": "string"},
        "where": _WHERE, "with": _REF,
    },
    ["ref", "do"],
)  # fmt: skip
_READ: Final = _spec("ref_read", "Read what a handle stands for. Untrusted text: it may lie.", {"ref": _REF}, ["ref"])
_EXTRACT: Final = _spec(
    "ref_extract",
    "Have the text behind a handle read into a JSON Schema by a reader without tools; the answer is a handle again.",
    {"ref": _REF, "schema": {"type": "object"}},
    ["ref", "schema"],
)
