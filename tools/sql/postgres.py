"""PostgreSQL: one statement, parsed before it is sent, run in a transaction that reads only unless SQL_WRITE=1.

The parser is sqlglot's, the driver pg8000; both come from the installation. The password is a placeholder: the egress guard logs
in (an endpoint with `login: postgres`). A statement is refused unless its parse tree holds nothing but reading (or, where granted,
changing rows), and calls no function that reaches files, other servers, sessions or settings.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from typing import Any

from serving import ToolError

ROWS_MAX = 5000
CELL_MAX = 10_000
SECONDS_MAX = 60
CONNECT_SECONDS = 20
FUNCTIONS_DENIED = re.compile(
    r"(pg_(?!typeof$|column_size$|size_pretty$|get_viewdef$|get_indexdef$|table_is_visible$).*|lo_.*|dblink.*|set_config"
    r"|current_setting|(query|cursor|table|schema|database)_to_.*|xpath_table|nextval|setval|txid_.*|system|copy_.*|plpy.*|http.*)"
)


def libraries() -> tuple[Any, Any]:
    """Return parser and driver. Raises ToolError with the line that installs them."""
    try:
        import pg8000.core
        import sqlglot
    except ImportError:
        raise ToolError("PostgreSQL needs the extra [sql]: pip install 'agent-os-runtime[sql]'") from None
    return sqlglot, pg8000.core


def check(sql: str, *, writable: bool) -> str:
    """Return the one statement of a text as it will be sent. Raises ToolError naming what is not allowed."""
    sqlglot, _ = libraries()
    exp = sqlglot.exp
    try:
        parsed = sqlglot.parse(sql, read="postgres")
    except sqlglot.errors.SqlglotError as error:
        raise ToolError(f"the statement cannot be parsed: {str(error).splitlines()[0][:300]}") from None
    statements = [one for one in parsed if one is not None and not isinstance(one, exp.Semicolon)]  # a lone comment
    if len(statements) != 1:
        raise ToolError("exactly one statement at a time")
    tree = statements[0]
    changes = (exp.Insert, exp.Update, exp.Delete, exp.Merge)
    roots = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values, exp.Table, *(changes if writable else ()))
    if not isinstance(tree, roots):
        raise ToolError(f"{tree.key.upper()} is not allowed here" + ("" if writable else " (this server reads only)"))
    for node in tree.walk():
        if isinstance(node, changes) and not writable:
            raise ToolError(f"{node.key.upper()} is not allowed here (this server reads only)")
        if isinstance(
            node, (exp.Into, exp.Command, exp.Create, exp.Drop, exp.Alter, exp.Copy, exp.Set, exp.Lock, exp.Transaction)
        ):
            raise ToolError(f"{node.key.upper()} is not allowed here")
        name = called(exp, node)
        if name and FUNCTIONS_DENIED.fullmatch(name):
            raise ToolError(f"the function {name} is not allowed here")
    return str(tree.sql(dialect="postgres"))  # what was judged is what is sent, whatever else the text could have meant


def called(exp: Any, node: Any) -> str:
    """Return the name a node calls, in lower case; empty if it calls nothing."""
    if isinstance(node, exp.Anonymous):
        return str(node.this).strip('"').lower()
    if isinstance(node, exp.Func):
        return str(node.sql_name()).lower()
    return ""


def connect() -> Any:
    """Return a connection. Raises ToolError saying why there is none."""
    _, core = libraries()
    values = {name: os.environ.get(name, "") for name in ("PGHOST", "PGUSER", "PGPASSWORD")}
    if not values["PGHOST"] or not values["PGUSER"]:
        raise ToolError("PGHOST and PGUSER are not set for this tool server (set them where the session runs)")
    from pg8000.native import Connection

    try:
        return Connection(
            values["PGUSER"], host=values["PGHOST"], port=int(os.environ.get("PGPORT") or 5432),
            database=os.environ.get("PGDATABASE") or values["PGUSER"], password=values["PGPASSWORD"], ssl_context=False,
            timeout=CONNECT_SECONDS,
        )  # fmt: skip
    except core.InterfaceError as error:
        raise ToolError(f"no connection: {error}") from None
    except (core.DatabaseError, OSError) as error:
        raise ToolError(f"no connection: {said(error)}") from None


def said(error: BaseException) -> str:
    """Return what a server says went wrong."""
    first = error.args[0] if error.args else ""
    return str(first.get("M", first) if isinstance(first, dict) else first)[:500]


def run(sql: str, parameters: Sequence[Any] = (), *, writable: bool = False) -> dict[str, Any]:
    """Run one checked statement in a transaction of its own; values go as parameters ($1, $2)."""
    statement = check(sql, writable=writable)
    _, core = libraries()
    connection = connect()
    try:
        connection.execute_simple("SET standard_conforming_strings = on")
        connection.execute_simple(f"SET statement_timeout = {SECONDS_MAX * 1000}")
        connection.execute_simple("BEGIN" if writable else "BEGIN TRANSACTION READ ONLY")
        found = connection.execute_unnamed(statement, vals=list(parameters))
        connection.execute_simple("COMMIT" if writable else "ROLLBACK")
    except core.DatabaseError as error:
        raise ToolError(said(error) + ("" if writable else " (this server reads only)")) from None
    except (core.InterfaceError, OSError) as error:
        raise ToolError(f"the connection broke: {said(error)}") from None
    finally:
        try:
            connection.close()
        except (core.InterfaceError, OSError):
            pass
    rows = found.rows or []
    return {
        "columns": [column["name"] for column in found.columns or ()],
        "rows": [[cell(value) for value in row] for row in rows[:ROWS_MAX]],
        "changed": max(found.row_count, 0) if writable and not found.columns else 0,
        "truncated": len(rows) > ROWS_MAX,
    }


def cell(value: Any) -> Any:
    """Return a value as JSON: numbers and truth as they are, everything else as text."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()[:CELL_MAX]
    if isinstance(value, (list, tuple)):
        return [cell(item) for item in value]
    return str(value)[:CELL_MAX]


COLUMNS = """SELECT table_name, column_name, data_type FROM information_schema.columns
 WHERE table_schema = $1 ORDER BY table_name, ordinal_position"""


def tables(schema: str) -> dict[str, Any]:
    """Return the tables of a schema with their columns."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table, column, kind in run(COLUMNS, [schema])["rows"]:
        found.setdefault(table, []).append({"name": column, "type": kind})
    return {"tables": [{"name": name, "columns": columns} for name, columns in found.items()]}
