"""Statements for the sql pack on PostgreSQL: what does more than read is refused by the parser, what reads passes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlglot")
pytest.importorskip("pg8000")
TOOLS = Path(__file__).parents[2] / "tools"

ATTACKS = [
    "DELETE FROM a", "SELECT 1; DELETE FROM a", "WITH x AS (UPDATE a SET b = 1 RETURNING *) TABLE x", "SELECT 1 INTO TEMP t",
    "SELECT * FROM pg_ls_dir('/')", "VALUES (pg_read_file('x'))", "SELECT 'a' || Pg_Read_File('/x')", "SELECT pg_read_file ('x')",
    "SELECT/**/pg_read_file/**/('x')", 'SELECT "PG_READ_FILE"(1)', "SELECT pg_catalog.pg_read_binary_file('x')",
    'SELECT pg_catalog."set_config"(1)', "SELECT (pg_read_file('x'))::text", "SELECT * FROM LATERAL pg_read_file('x') f",
    "SELECT * FROM ROWS FROM (pg_read_file('x')) f", "SELECT * FROM a, pg_ls_dir('.')", "SELECT * FROM a JOIN pg_stat_file('x') ON true",
    "SELECT x FROM a WHERE EXISTS (SELECT pg_sleep(1))", "SELECT 1 ORDER BY pg_sleep(1)", "SELECT 1 UNION SELECT pg_read_file('x')",
    "SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM a", "SELECT CASE WHEN pg_sleep(1) IS NULL THEN 1 END",
    "SELECT array(SELECT pg_ls_dir('.'))", "SELECT format('%s', pg_read_file('x'))", "SELECT lo_import('/etc/passwd')",
    "SELECT * FROM dblink('a', 'b') AS t(a int)", "SELECT set_config(E'a\\x2eb', 'c', false)", "SELECT pg_advisory_lock(1)",
    "SELECT query_to_xml('DELETE FROM a', true, true, '')", "SELECT nextval('s')", "EXPLAIN ANALYZE DELETE FROM a", "SHOW ALL",
    "COPY a TO PROGRAM 'id'", "DO $$ BEGIN END $$", "CALL f()", "SET ROLE admin", "RESET ALL", "GRANT ALL ON a TO b", "VACUUM",
    "SELECT * FROM a FOR SHARE", "DECLARE c CURSOR FOR SELECT 1", "LOAD 'x'", "NOTIFY x", "PREPARE p AS DELETE FROM a", "BEGIN", "",
]  # fmt: skip
BENIGN = [
    "SELECT 1", "SELECT version()", "TABLE invoices", "VALUES (1), (2)", "SELECT pg_typeof(1)", "SELECT 'pg_read_file(1)'",
    "SELECT count(*), sum(a) FROM t GROUP BY b HAVING count(*) > 1", "WITH a AS (SELECT 1) SELECT * FROM a",
    "SELECT now(), date_trunc('day', x), a ->> 'b', jsonb_agg(x) FROM t", "SELECT * FROM generate_series(1, 3) AS g",
    "SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM t", "(SELECT 1) UNION ALL (SELECT 2)",
    "SELECT a FROM t WHERE b ILIKE $1 AND c = ANY($2) LIMIT 5", "SELECT string_agg(a, ',') FROM t; -- the end",
    "SELECT extract(year FROM d), d::date, interval '1 day' FROM t", 'SELECT "delete" FROM "update" WHERE "drop" = 1',
]  # fmt: skip


@pytest.fixture(scope="module")
def pack() -> Iterator[Any]:
    """The pack's module as its server loads it."""
    sys.path.insert(0, str(TOOLS))
    spec = importlib.util.spec_from_file_location("sql_pack_postgres", TOOLS / "sql" / "postgres.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(TOOLS))


@pytest.mark.parametrize("sql", ATTACKS)
def test_what_does_more_than_read(pack: Any, sql: str) -> None:
    """Changes, files, servers, sessions, settings and several statements are refused before anything is sent."""
    with pytest.raises(pack.ToolError):
        pack.check(sql, writable=False)


@pytest.mark.parametrize("sql", BENIGN)
def test_what_reads(pack: Any, sql: str) -> None:
    """Ordinary questions pass, and what is sent means the same to the parser as what was asked."""
    sent = pack.check(sql, writable=False)
    assert pack.check(sent, writable=False) == sent


def test_what_is_sent_is_what_was_judged(pack: Any) -> None:
    """A spelling that only the server would read as a forbidden call is sent as the parser read it: harmless."""
    sent = pack.check('SELECT U&"pg\\005fread_file"(1)', writable=False)
    assert "U&" not in sent


@pytest.mark.parametrize(
    "sql",
    ["UPDATE a SET b = pg_read_file('x')", "DROP TABLE a", "COPY a FROM '/x'", "INSERT INTO a SELECT lo_import('x')"],
)
def test_writing_is_changing_rows_only(pack: Any, sql: str) -> None:
    """Where writing was granted, tables, files and forbidden functions stay closed; rows may be changed."""
    with pytest.raises(pack.ToolError):
        pack.check(sql, writable=True)
    assert pack.check("UPDATE a SET b = $1 WHERE c = 2", writable=True)
