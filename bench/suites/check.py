"""Whether a suite is well formed and its ground truth consistent; it names each flaw.

Pure: a parsed YAML document in, sentences out; the engine has no part in it. A true call that uses a value which stands
neither in the prompt nor in an earlier result would count as the engine's failure, and an injection that demands a value
nobody states could not be carried out: both are flaws of the suite. Values that a person or a model would have to work
out (a date from "tomorrow", a sum) are listed under `computed`, so that they can be seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from bench.suites.replay import MARK, filled, marked

SUITE = {"name", "user", "results", "tasks", "injections", "tools", "schemas", "reads", "sinks"}
TASK = {"id", "prompt", "calls", "computed", "delegates", "injections", "altered"}
WORDS_OF_A_NAME = 4
"""A leaf of so few words may be a name: its capitalised words must be known (but one that opens a sentence)."""

Document = dict[str, Any]


def flaws(data: Document) -> list[str]:
    """Return what is wrong with a suite, one sentence each; an empty list means well formed."""
    found = [f"unknown key {key}" for key in sorted(set(data) - SUITE)]
    if sum(key in data for key in ("tools", "schemas", "reads")) != 1:
        return [*found, "exactly one of tools, schemas, reads says what there is to call"]
    if "tools" not in data and "sinks" not in data:
        return [*found, "sinks must name the tools that have an effect"]
    tools = arguments_of(data)
    found += [f"sinks: {name} is no tool" for name in data.get("sinks", []) if name not in tools]
    found += [f"{name} is both a read and a sink" for name in data.get("reads", []) if name in data["sinks"]]
    found += _twice("task", data["tasks"]) + _twice("injection", data["injections"])
    for task in data["tasks"]:
        found += [f"{task['id']}: {flaw}" for flaw in _task_flaws(data, tools, task)]
    for injection in data["injections"]:
        found += [f"{injection['id']}: {flaw}" for flaw in _injection_flaws(data, tools, injection)]
    if not any(marked(_result(data, call[2])) for task in data["tasks"] for call in task["calls"]):
        found.append(f"no task reads a result with the mark {MARK}")
    used = {call[2] for call in _all_calls(data) if isinstance(call[2], str)}
    return found + [f"result {name} is never used" for name in data["results"] if name not in used]


def arguments_of(data: Document) -> dict[str, set[str] | None]:
    """Return the tools of a suite with their arguments; None where nobody states them."""
    if "tools" in data:
        return {tool["name"]: set(tool.get("arguments", {})) for tool in data["tools"]}
    if "schemas" in data:
        return {tool["name"]: set(tool["inputSchema"].get("properties", {})) for tool in data["schemas"]}
    return dict.fromkeys([*data["reads"], *data["sinks"]])


def is_sink(data: Document, call: list[Any]) -> bool:
    """Return whether a call has an effect, as the suite itself states it."""
    if "sinks" in data:
        return call[0] in data["sinks"]
    return any(tool["name"] == call[0] and tool["effect"] != "read" for tool in data["tools"]) or "url" in call[1]


def specifics(value: Any) -> Iterator[str]:
    """Yield the parts of an argument that nobody invents: numbers, ids, addresses, and the words of a name."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from specifics(key)
            yield from specifics(item)
    elif isinstance(value, list):
        for item in value:
            yield from specifics(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield format(value, "g") if abs(value) < 1e6 else str(value)
    elif isinstance(value, str):
        words = [word.strip(".,;:!?()#\"'<>") for word in re.split(r"[\s=<>]+", value)]
        named = words if len(words) == 1 else words[1:] if len(words) <= WORDS_OF_A_NAME else []
        yield from (word for word in words if re.search(r"[\d@]|://", word) or (word in named and word[:1].isupper()))


def known(part: str, text: str) -> bool:
    """Return whether a part stands in a text, with a number in any of its spellings: 1240 as 1.240,00 or 1,240.00."""
    if re.fullmatch(r"\d+(\.\d+)?", part):
        number = re.escape(_plain_numbers(part))
        return re.search(rf"(?<![\w.\-]){number}(?!\d|-\d|\.\d)", _plain_numbers(text)) is not None
    return part.lower() in text


def _plain_numbers(text: str) -> str:
    text = re.sub(r"(?<=\d)[.,](?=\d{3}\b)", "", text)
    return re.sub(r"(\.\d*?[1-9])0+\b|\.0+\b", r"\1", re.sub(r"(\d),(\d)", r"\1.\2", text))


def _task_flaws(data: Document, tools: dict[str, set[str] | None], task: Document) -> Iterator[str]:
    yield from (f"unknown key {key}" for key in sorted(set(task) - TASK))
    computed = {str(item) for item in task.get("computed", [])}
    needed: set[str] = set()
    text = task["prompt"].lower()
    for call in task["calls"]:
        yield from _call_flaws(data, tools, call)
        told = text + " " + _said_of(data, call[0])
        missing = [part for part in specifics(list(call[1].values())) if not known(part, told)]
        needed.update(missing)
        unknown = [part for part in missing if part not in computed]
        yield from (f"{call[0]}: {part} is neither in the prompt nor in an earlier result" for part in unknown)
        text += " " + _text(filled(_result(data, call[2]), ""))
    yield from (f"computed: {item} need not be" for item in sorted(computed - needed))
    for injection in task.get("injections", []):
        yield from (f"{injection['id']}: {flaw}" for flaw in _injection_flaws(data, tools, injection))
    for change in task.get("altered", []):
        yield from (f"{change['id']}: {flaw}" for flaw in _altered_flaws(data, tools, task, change))


def _altered_flaws(
    data: Document, tools: dict[str, set[str] | None], task: Document, change: Document
) -> Iterator[str]:
    marks = [index for index, call in enumerate(task["calls"]) if marked(_result(data, call[2]))]
    own = [call for index, call in enumerate(task["calls"]) if call[0] == change["tool"] and marks and index > marks[0]]
    if not own:
        yield f"no call of {change['tool']} after a mark"
        return
    if not is_sink(data, own[0]):
        yield f"{change['tool']} has no effect"
    merged = {**own[0][1], **change["args"]}
    if any(merged == call[1] for call in task["calls"] if call[0] == change["tool"]):
        yield "changes nothing: the task makes that call itself"
    yield from _call_flaws(data, tools, [change["tool"], change["args"], None])
    text = f"{change['goal']} {task['prompt']} {_text(list(data['results'].values()))}".lower()
    text += _said_of(data, change["tool"])
    yield from (
        f"{part} is not in the goal" for part in specifics(list(change["args"].values())) if not known(part, text)
    )


def _injection_flaws(data: Document, tools: dict[str, set[str] | None], injection: Document) -> Iterator[str]:
    if not any(is_sink(data, call) for call in injection["calls"]):
        yield "no call of it has an effect"
    text = f"{injection['goal']} {_text(list(data['results'].values()))}".lower()
    hidden = {str(item) for item in injection.get("computed", [])}
    for call in injection["calls"]:
        yield from _call_flaws(data, tools, call)
        said = text + " " + _said_of(data, call[0])
        missing = [part for part in specifics(list(call[1].values())) if part not in hidden and not known(part, said)]
        yield from (f"{call[0]}: {part} is not in the goal" for part in missing if is_sink(data, call))
        text += " " + _text(_result(data, call[2]))


def _call_flaws(data: Document, tools: dict[str, set[str] | None], call: list[Any]) -> Iterator[str]:
    if call[0] not in tools:
        yield f"{call[0]} is no tool"
        return
    yield from (f"{call[0]}: argument {key} is no string: quote it" for key in call[1] if not isinstance(key, str))
    declared = tools[call[0]]
    yield from (f"{call[0]}: no argument {key}" for key in call[1] if declared is not None and key not in declared)
    if isinstance(call[2], str) and re.fullmatch(r"\w+", call[2]) and call[2] not in data["results"]:
        yield f"{call[0]}: no result {call[2]}"


def _said_of(data: Document, tool: str) -> str:
    """Return what a model is shown of a tool: choices and fields that it names need no other source."""
    return _text([one for one in (*data.get("schemas", []), *data.get("tools", [])) if one["name"] == tool])


def _result(data: Document, given: Any) -> Any:
    return data["results"].get(given, given) if isinstance(given, str) else given


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\\n", " ").lower()  # a number may open a line


def _all_calls(data: Document) -> Iterator[list[Any]]:
    for task in data["tasks"]:
        yield from task["calls"]
        yield from (call for injection in task.get("injections", []) for call in injection["calls"])
    yield from (call for injection in data["injections"] for call in injection["calls"])


def _twice(kind: str, items: list[Document]) -> list[str]:
    ids = [item["id"] for item in items]
    return [f"{kind} {one} occurs twice" for one in sorted({one for one in ids if ids.count(one) > 1})]
