"""The built-in file tools: read, write, edit, list, search and delete, each inner effect an Action of its own.

Pure but for the door. Threats: a search that reads what a read would be denied (each file is judged on its own and a
denied one is skipped and counted); an edit that hits the wrong place (the old text must occur exactly as often as
stated); results that flood the model (bounded, and they say so).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any, Final

import re2

from agent_os.agents.tool_door import BuiltinTool, ToolDoor, performed
from agent_os.core.errors import ActionError, DeniedError, EffectError
from agent_os.core.manifest import Argument, Effect, Result, Role, ToolSpec

READ_LINES_MAX: Final = 5_000
READ_CHARS_MAX: Final = 400_000
WALK_DIRECTORIES_MAX: Final = 500
LIST_FILES_MAX: Final = 2_000
SEARCH_FILES_MAX: Final = 1_000
SEARCH_HITS_MAX: Final = 200
HIT_CHARS_MAX: Final = 400

_PATH: Final = {"type": "string", "minLength": 1, "description": "absolute, or relative to the workspace"}


def _schema(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _path_argument(role: Role = Role.AUTHORITY) -> Argument:
    return Argument(role=role, type="path")


async def _text(door: ToolDoor, path: str) -> str:
    content: bytes = await performed(door, {"kind": "fs.read", "path": path})
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise EffectError("is not UTF-8 text") from None


async def _write(door: ToolDoor, path: str, content: bytes) -> Any:
    with door.carried.hold(content) as digest:
        wire = {"kind": "fs.write", "path": path, "size": len(content), "content_digest": digest}
        return await performed(door, wire)


async def _read_file(door: ToolDoor, args: Mapping[str, Any]) -> Any:
    text = await _text(door, args["path"])
    lines = text.splitlines(keepends=True)
    first, count = args.get("offset", 1), args.get("lines", READ_LINES_MAX)
    shown = "".join(lines[first - 1 : first - 1 + count])
    truncated = first - 1 + count < len(lines) or len(shown) > READ_CHARS_MAX
    return {"content": shown[:READ_CHARS_MAX], "lines": len(lines), "truncated": truncated}


async def _write_file(door: ToolDoor, args: Mapping[str, Any]) -> Any:
    return await _write(door, args["path"], _encoded(args["content"]))


async def _edit_file(door: ToolDoor, args: Mapping[str, Any]) -> Any:
    old, new, wanted = args["old"], args["new"], args.get("count", 1)
    if not old:
        raise ActionError("must not be empty", field="old")
    text = await _text(door, args["path"])
    found = text.count(old)
    if found != wanted:
        raise EffectError(f"the old text occurs {found} times, not {wanted}: nothing was changed")
    written = await _write(door, args["path"], _encoded(text.replace(old, new)))
    return {**written, "replaced": found}


async def _delete_file(door: ToolDoor, args: Mapping[str, Any]) -> Any:
    return await performed(door, {"kind": "fs.delete", "path": args["path"]})


async def _list_files(door: ToolDoor, args: Mapping[str, Any]) -> Any:
    walked = _Walk(door, args.get("pattern", "*"), deep=args.get("recursive", False))
    await walked.run(args.get("path", "."), files_max=LIST_FILES_MAX)
    return {"files": walked.files, "truncated": walked.truncated, "not_permitted": walked.refused}


async def _search_files(door: ToolDoor, args: Mapping[str, Any]) -> Any:
    try:
        options = re2.Options()
        options.log_errors = False
        options.case_sensitive = not args.get("ignore_case", False)
        pattern = re2.compile(args["regex"], options)
    except re2.error:
        raise ActionError("is not a regular expression of the RE2 kind", field="regex") from None
    walked = _Walk(door, args.get("pattern", "*"), deep=True)
    await walked.run(args.get("path", "."), files_max=SEARCH_FILES_MAX)
    hits: list[dict[str, Any]] = []
    truncated, unread, refused = walked.truncated, 0, walked.refused
    for entry in walked.files:
        if entry["type"] != "file":
            continue
        try:
            text = await _text(door, entry["path"])
        except DeniedError:
            refused += 1
            continue
        except EffectError:
            unread += 1
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                if len(hits) == SEARCH_HITS_MAX:
                    truncated = True
                    break
                hits.append({"path": entry["path"], "line": number, "text": line[:HIT_CHARS_MAX]})
        if truncated and len(hits) == SEARCH_HITS_MAX:
            break
    return {"hits": hits, "truncated": truncated, "not_permitted": refused, "not_text": unread}


class _Walk:
    """A bounded walk over directories; each listing is judged on its own."""

    def __init__(self, door: ToolDoor, pattern: str, *, deep: bool) -> None:
        self._door, self._pattern, self._deep = door, pattern, deep
        self.files: list[dict[str, Any]] = []
        self.truncated, self.refused = False, 0

    async def run(self, start: str, *, files_max: int) -> None:
        waiting, seen = [start], 0
        while waiting:
            if seen == WALK_DIRECTORIES_MAX:
                self.truncated = True
                return
            seen += 1
            directory = waiting.pop(0)
            try:
                listed = await performed(self._door, {"kind": "fs.list", "path": directory})
            except (DeniedError, EffectError):
                if directory is start:
                    raise
                self.refused += 1
                continue
            self.truncated |= listed["truncated"]
            for entry in listed["entries"]:
                path = f"{directory.rstrip('/')}/{entry['name']}"
                if entry["type"] == "directory" and self._deep:
                    waiting.append(path)
                if not fnmatch.fnmatchcase(entry["name"], self._pattern):
                    continue
                if len(self.files) == files_max:
                    self.truncated = True
                    return
                shown = path.removeprefix("./").removeprefix(f"{self._door.workspace.rstrip('/')}/")
                self.files.append({"path": shown, "type": entry["type"], "size": entry["size"]})


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise ActionError("holds a lone surrogate", field="content") from None


_UNTRUSTED: Final = {"$": Result(integrity="untrusted")}
_OWN: Final = {"$": Result(integrity="trusted")}
_PATTERN: Final = {"type": "string", "minLength": 1, "description": "glob over file names, such as *.eml"}

FILE_TOOLS: Final[tuple[BuiltinTool, ...]] = (
    BuiltinTool(
        ToolSpec(
            name="read_file",
            description="Read a text file. Returns its content and its number of lines.",
            effect=Effect.READ,
            arguments={
                "path": _path_argument(Role.SELECTOR),
                "offset": Argument(role=Role.SELECTOR, type="number"),
                "lines": Argument(role=Role.SELECTOR, type="number"),
            },
            results=_UNTRUSTED,
            idempotent=True,
            input_schema=_schema(
                ["path"],
                path=_PATH,
                offset={"type": "integer", "minimum": 1, "description": "first line, from 1"},
                lines={"type": "integer", "minimum": 1, "maximum": READ_LINES_MAX},
            ),
        ),
        _read_file,
    ),
    BuiltinTool(
        ToolSpec(
            name="write_file",
            description="Create or replace a text file with the given content, atomically.",
            effect=Effect.WRITE_OWN,
            arguments={"path": _path_argument(), "content": Argument(role=Role.PAYLOAD, type="text")},
            results=_OWN,
            idempotent=True,
            input_schema=_schema(["path", "content"], path=_PATH, content={"type": "string"}),
        ),
        _write_file,
    ),
    BuiltinTool(
        ToolSpec(
            name="edit_file",
            description="Replace an exact text in a file. Fails unless it occurs exactly `count` times (default 1).",
            effect=Effect.WRITE_OWN,
            arguments={
                "path": _path_argument(),
                "old": Argument(role=Role.PAYLOAD, type="text"),
                "new": Argument(role=Role.PAYLOAD, type="text"),
                "count": Argument(role=Role.PAYLOAD, type="number"),
            },
            results=_OWN,
            input_schema=_schema(
                ["path", "old", "new"],
                path=_PATH,
                old={"type": "string", "minLength": 1},
                new={"type": "string"},
                count={"type": "integer", "minimum": 1},
            ),
        ),
        _edit_file,
    ),
    BuiltinTool(
        ToolSpec(
            name="list_files",
            description="List a directory, optionally with everything below it.",
            effect=Effect.READ,
            arguments={
                "path": _path_argument(Role.SELECTOR),
                "pattern": Argument(role=Role.SELECTOR, type="text"),
                "recursive": Argument(role=Role.SELECTOR),
            },
            results=_UNTRUSTED,
            idempotent=True,
            input_schema=_schema([], path=_PATH, pattern=_PATTERN, recursive={"type": "boolean"}),
        ),
        _list_files,
    ),
    BuiltinTool(
        ToolSpec(
            name="search_files",
            description="Search text files below a directory with a regular expression (RE2 syntax).",
            effect=Effect.READ,
            arguments={
                "regex": Argument(role=Role.SELECTOR, type="text"),
                "path": _path_argument(Role.SELECTOR),
                "pattern": Argument(role=Role.SELECTOR, type="text"),
                "ignore_case": Argument(role=Role.SELECTOR),
            },
            results=_UNTRUSTED,
            idempotent=True,
            input_schema=_schema(
                ["regex"],
                regex={"type": "string", "minLength": 1, "maxLength": 1000},
                path=_PATH,
                pattern=_PATTERN,
                ignore_case={"type": "boolean"},
            ),
        ),
        _search_files,
    ),
    BuiltinTool(
        ToolSpec(
            name="delete_file",
            description="Delete a file or an empty directory.",
            effect=Effect.WRITE_OWN,
            arguments={"path": _path_argument()},
            results=_OWN,
            input_schema=_schema(["path"], path=_PATH),
        ),
        _delete_file,
    ),
)
"""Every file tool, in the order a listing shows them."""
