"""SQLite databases of the workspace, and PostgreSQL (postgres.py). Read-only unless the server was added with SQL_WRITE=1: SQLite's own parser judges.

The database is opened read-only, and its authorizer callback, which the parser asks for every part of a statement, allows
reading and nothing else: no ATTACH, no PRAGMA that writes, no loading of extensions.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

sys.path.insert(0, "/run/agentos/packages")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import postgres
from serving import ToolError, serve, tool

ROWS_MAX = 5000
CELL_MAX = 10_000
STEPS_MAX = 200_000_000
PATH = {"type": "string", "minLength": 1, "maxLength": 4096}
READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
WRITING = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE, sqlite3.SQLITE_TRANSACTION}
FUNCTIONS_DENIED = {"load_extension", "writefile", "readfile", "edit", "fts3_tokenizer"}
PRAGMAS = {"table_info", "table_list", "index_list", "index_info", "foreign_key_list"}


def writable() -> bool:
    """Return whether the operator lets this server write."""
    return os.environ.get("SQL_WRITE") == "1"


def judge(action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
    """Say what a part of a statement may do; SQLite's parser asks for each."""
    if action in READING or (action in WRITING and writable()):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and str(second).lower() not in FUNCTIONS_DENIED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and first in PRAGMAS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def connect(path: str) -> sqlite3.Connection:
    """Return a database whose statements are judged and bounded in steps."""
    if not os.path.isfile(path):
        raise ToolError("no such database file")
    mode = "rw" if writable() else "ro"
    database = sqlite3.connect(
        f"file:{quote(os.path.abspath(path))}?mode={mode}", uri=True, timeout=10, isolation_level=None
    )
    steps = [0]

    def tick() -> bool:
        steps[0] += 10_000
        return steps[0] > STEPS_MAX

    database.set_progress_handler(tick, 10_000)
    database.set_authorizer(judge)
    return database


@tool("List the tables of a SQLite database with their columns.", {"path": PATH}, ["path"])
def tables(path: str) -> dict[str, Any]:
    database = connect(path)
    try:
        names = [
            row[0]
            for row in database.execute("SELECT name FROM sqlite_schema WHERE type IN ('table','view') ORDER BY name")
        ]
        found = []
        for name in names[:500]:
            quoted = '"' + name.replace('"', '""') + '"'
            rows = database.execute(f"PRAGMA table_info({quoted})")
            found.append({"name": name, "columns": [{"name": row[1], "type": row[2]} for row in rows]})
        return {"tables": found}
    except sqlite3.DatabaseError as error:
        raise ToolError(str(error)) from None
    finally:
        database.close()


@tool("Run one SQL statement on a SQLite database; values go into parameters, never into the text.",
      {"path": PATH, "sql": {"type": "string", "minLength": 1, "maxLength": 100_000},
       "parameters": {"type": "array", "items": {"type": ["string", "number", "null"]}, "maxItems": 1000}}, ["path", "sql"])  # fmt: skip
def query(path: str, sql: str, parameters: Sequence[Any] = ()) -> dict[str, Any]:
    database = connect(path)
    try:
        cursor = database.execute(sql, tuple(parameters))
        rows = cursor.fetchmany(ROWS_MAX + 1) if cursor.description else []
        columns = [column[0] for column in cursor.description or ()]
        shown = [[cell if not isinstance(cell, (str, bytes)) else (cell.hex() if isinstance(cell, bytes) else cell)[:CELL_MAX]
                  for cell in row] for row in rows[:ROWS_MAX]]  # fmt: skip
        return {
            "columns": columns,
            "rows": shown,
            "changed": max(cursor.rowcount, 0),
            "truncated": len(rows) > ROWS_MAX,
        }
    except sqlite3.DatabaseError as error:
        raise ToolError(f"{error}" + ("" if writable() else " (this server reads only)")) from None
    except (sqlite3.Warning, sqlite3.ProgrammingError) as error:
        raise ToolError(str(error)) from None
    finally:
        database.close()


@tool("List the tables of the PostgreSQL database with their columns.",
      {"schema": {"type": "string", "minLength": 1, "maxLength": 63}})  # fmt: skip
def pg_tables(schema: str = "public") -> dict[str, Any]:
    return postgres.tables(schema)


@tool("Run one SQL statement on the PostgreSQL database; values go into parameters ($1, $2), never into the text.",
      {"sql": {"type": "string", "minLength": 1, "maxLength": 100_000},
       "parameters": {"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}, "maxItems": 1000}}, ["sql"])  # fmt: skip
def pg_query(sql: str, parameters: Sequence[Any] = ()) -> dict[str, Any]:
    return postgres.run(sql, parameters, writable=writable())


if __name__ == "__main__":
    serve()
