"""Files of the workspace for an agent: read, list, find, search, write. The sandbox is what keeps it in the workspace."""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from serving import ToolError, serve, tool

BYTES_MAX = 1_000_000
ENTRIES_MAX = 5000
MATCHES_MAX = 500
PATH = {"type": "string", "minLength": 1, "maxLength": 4096}


@tool("Read a text file, or a part of it by line numbers.",
      {"path": PATH, "first_line": {"type": "integer", "minimum": 1}, "lines": {"type": "integer", "minimum": 1, "maximum": 20000}},
      ["path"])  # fmt: skip
def read_file(path: str, first_line: int = 1, lines: int = 2000) -> dict[str, Any]:
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read(BYTES_MAX)
    parts = text.splitlines(keepends=True)
    chosen = parts[first_line - 1 : first_line - 1 + lines]
    return {
        "text": "".join(chosen),
        "lines": len(parts),
        "truncated": len(text) >= BYTES_MAX or len(chosen) < len(parts),
    }


@tool("List a folder.", {"path": PATH})
def list_folder(path: str = ".") -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda e: e.name)[:ENTRIES_MAX]:
            kind = "folder" if entry.is_dir(follow_symlinks=False) else "link" if entry.is_symlink() else "file"
            found.append({"name": entry.name, "kind": kind, "bytes": entry.stat(follow_symlinks=False).st_size})
    return {"entries": found}


def walk(path: str) -> Iterator[str]:
    """Yield the files below a folder, in order, without those that tools keep for themselves."""
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(f for f in folders if f not in (".git", "node_modules", "__pycache__"))
        for name in sorted(files):
            yield os.path.normpath(os.path.join(folder, name))


@tool("Find files by a glob on their path.", {"glob": {"type": "string", "minLength": 1}, "path": PATH}, ["glob"])
def find_files(glob: str, path: str = ".") -> dict[str, Any]:
    found: list[str] = []
    for name in walk(path):
        if fnmatch.fnmatch(name, glob) or fnmatch.fnmatch(os.path.basename(name), glob):
            found.append(name)
        if len(found) >= ENTRIES_MAX:
            break
    return {"files": found}


@tool(
    "Search a text in files; returns path, line number and line.",
    {"text": {"type": "string", "minLength": 1}, "path": PATH},
    ["text"],
)
def search_text(text: str, path: str = ".") -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for name in walk(path):
        try:
            with open(name, "rb") as file:
                data = file.read(BYTES_MAX)
        except OSError:
            continue
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), 1):
            if text in line:
                found.append({"path": name, "line": number, "text": line[:400]})
                if len(found) >= MATCHES_MAX:
                    return {"matches": found, "truncated": True}
    return {"matches": found, "truncated": False}


@tool("Write a text file, whole.", {"path": PATH, "text": {"type": "string", "maxLength": 5_000_000}}, ["path", "text"])
def write_file(path: str, text: str) -> dict[str, Any]:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return {"bytes": len(text.encode())}


@tool("Replace one exact occurrence of a text in a file.",
      {"path": PATH, "old": {"type": "string", "minLength": 1}, "new": {"type": "string"}}, ["path", "old", "new"])  # fmt: skip
def replace_text(path: str, old: str, new: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if text.count(old) != 1:
        raise ToolError(f"the text stands there {text.count(old)} times, not once")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(old, new))
    return {"replaced": 1}


if __name__ == "__main__":
    serve()
