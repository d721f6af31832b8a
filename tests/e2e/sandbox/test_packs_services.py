"""The sql and email packs against real servers: PostgreSQL, SMTP (aiosmtpd) and IMAP (Dovecot), each from its own sandbox.

The packs hold a placeholder; the guard logs in. What they may not do is tried too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS
from agent_os.core.manifest import Needs
from agent_os.core.ports import Outcome
from agent_os.runtime.tools_desk import ToolsDesk
from tests.e2e.network.authority import TestAuthority
from tests.e2e.postgres_server import PASSWORD, binaries, postgres_server

pytestmark = pytest.mark.kernel
NAME = socket.gethostname()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ws").mkdir()
    monkeypatch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    made = TestAuthority(tmp_path_factory.mktemp("authority"))
    made.context(NAME)
    return made


def policy(folder: Path, pack: str, endpoints: list[tuple[int, str, bool]], secret: str) -> Path:
    lines = [
        "version: 1",
        "extends: [pack:baseline]",
        f'tools: {{"{pack}/*": {{allow: true}}}}',
        "network_policies:",
        "  up:",
        "    endpoints:",
    ]
    for port, login, plain in endpoints:
        lines.append(
            f"      - {{host: {NAME}, port: {port}, protocol: tcp, local: true, login: {login}, login_plain: {str(plain).lower()}}}"
        )
    lines.append(f"secrets: {{{secret}: {{from: env, key: STORED, destinations: [{NAME}], where: [login]}}}}")
    path = folder / "policy.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def add(folder: Path, path: Path, name: str) -> None:
    desk = ToolsDesk(str(folder / "ws"), [str(path)])
    desk.add(name, [], Needs())
    desk.approve(name)


def call(runtime: AgentOS, server: str, tool: str, **args: Any) -> Outcome:
    outcome = runtime.perform({"kind": "tool.call", "server": server, "tool": tool, "args": args})
    assert isinstance(outcome, Outcome)
    return outcome


# ---- PostgreSQL -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[int]:
    pytest.importorskip("sqlglot")
    pytest.importorskip("pg8000")
    if binaries() is None:
        pytest.skip("no PostgreSQL for the tests")
    with postgres_server(None) as port:
        yield port


@pytest.fixture
def ledger(folder: Path, monkeypatch: pytest.MonkeyPatch, postgres: int) -> Iterator[AgentOS]:
    """A session with the sql pack on the server."""
    values = {"STORED": PASSWORD, "PGHOST": NAME, "PGPORT": str(postgres), "PGDATABASE": "postgres", "PGUSER": "desk"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    path = policy(folder, "sql", [(postgres, "postgres", True)], "PGPASSWORD")
    add(folder, path, "sql")
    with AgentOS.open(path, principal="ana", workspace=folder / "ws") as runtime:
        yield runtime


def test_postgres_is_queried(ledger: AgentOS) -> None:
    """Tables and rows come back as JSON, values go as parameters; the password is in no sandbox."""
    listed = call(ledger, "sql", "pg_tables")
    assert listed.ok, listed.detail
    assert listed.value["tables"][0]["name"] == "invoices"
    found = call(
        ledger, "sql", "pg_query", sql="SELECT supplier, amount, paid FROM invoices WHERE id = $1", parameters=[1]
    )
    assert found.value == {
        "columns": ["supplier", "amount", "paid"], "rows": [["Acme", "10.50", "2026-01-02"]], "changed": 0, "truncated": False,
    }  # fmt: skip
    joined = (
        "WITH a AS (SELECT supplier, sum(amount) AS s FROM invoices GROUP BY 1) SELECT count(*), max(s)::text FROM a"
    )
    assert call(ledger, "sql", "pg_query", sql=joined).value["rows"] == [[2, "20.00"]]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM invoices", "UPDATE invoices SET amount = 0", "INSERT INTO invoices VALUES (9)", "DROP TABLE invoices",
        "CREATE TABLE x (a int)", "TRUNCATE invoices", "SELECT 1; DELETE FROM invoices", "SELECT * INTO copy FROM invoices",
        "WITH gone AS (DELETE FROM invoices RETURNING *) SELECT * FROM gone", "SELECT * FROM invoices FOR UPDATE",
        "COPY invoices TO PROGRAM 'id'", "COPY (SELECT 1) TO '/tmp/x'", "DO $$ BEGIN DELETE FROM invoices; END $$", "CALL x()",
        "SELECT wipe()", "SELECT pg_read_file('/etc/passwd')", "SELECT pg_sleep(100)", "SELECT lo_export(1, '/tmp/x')",
        "SELECT set_config('a.b', 'c', false)", "SELECT query_to_xml('DELETE FROM invoices', true, true, '')",
        "SELECT \"pg_read_file\"('/etc/passwd')", "SELECT pg_catalog.pg_read_file('/etc/passwd')", "SET ROLE admin", "BEGIN", "COMMIT",
        "EXPLAIN ANALYZE DELETE FROM invoices", "LISTEN x", "SELECT nextval('s')", "PREPARE a AS DELETE FROM invoices", "",
        "SELECT 1 --\n; DELETE FROM invoices", "MERGE INTO invoices USING invoices b ON true WHEN MATCHED THEN DELETE",
    ],
)  # fmt: skip
def test_reading_only(ledger: AgentOS, sql: str) -> None:
    """Whatever changes rows, tables, files, sessions or settings is refused; the rows are as before."""
    assert not call(ledger, "sql", "pg_query", sql=sql or " ").ok, sql
    assert call(ledger, "sql", "pg_query", sql="SELECT count(*), sum(amount) FROM invoices").value["rows"] == [
        [2, "30.50"]
    ]


def test_writing_where_it_was_granted(folder: Path, monkeypatch: pytest.MonkeyPatch, ledger: AgentOS) -> None:
    """With SQL_WRITE=1 rows are changed; tables, files and programs still are not."""
    monkeypatch.setenv("SQL_WRITE", "1")
    ledger_policy = folder / "policy.yaml"
    with AgentOS.open(ledger_policy, principal="ana", workspace=folder / "ws") as runtime:
        changed = call(
            runtime, "sql", "pg_query", sql="UPDATE invoices SET paid = $1 WHERE id = 2", parameters=["2026-03-01"]
        )
        assert changed.ok, changed.detail
        assert changed.value["changed"] == 1
        for sql in (
            "DROP TABLE invoices",
            "COPY invoices TO PROGRAM 'id'",
            "UPDATE invoices SET supplier = pg_read_file('/etc/passwd')",
        ):
            assert not call(runtime, "sql", "pg_query", sql=sql).ok, sql
        assert call(runtime, "sql", "pg_query", sql="UPDATE invoices SET paid = NULL WHERE id = 2").ok


def test_without_a_server_the_pack_still_reads_files(folder: Path) -> None:
    """Nothing of PostgreSQL set: no network is asked for, and the pack says what is missing."""
    path = folder / "policy.yaml"
    path.write_text('version: 1\nextends: [pack:baseline]\ntools: {"sql/*": {allow: true}}\n')
    add(folder, path, "sql")
    with AgentOS.open(path, principal="ana", workspace=folder / "ws") as runtime:
        outcome = call(runtime, "sql", "pg_query", sql="SELECT 1")
        assert "PGHOST and PGUSER are not set" in outcome.detail


# ---- mail -----------------------------------------------------------------------------------------------------------


def test_mail_is_sent_with_a_login_of_the_guards(
    folder: Path, monkeypatch: pytest.MonkeyPatch, authority: TestAuthority
) -> None:
    """A mail goes out over STARTTLS and AUTH; the pack holds a placeholder, the server sees the password."""
    controller = pytest.importorskip("aiosmtpd.controller")
    from aiosmtpd.smtp import AuthResult

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(authority.folder / f"{NAME}.pem"))
    mails: list[Any] = []
    shown: list[bytes] = []

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            mails.append(envelope)
            return "250 taken"

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> Any:
        shown.append(data.password)
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = controller.Controller(Handler(), hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True,
                                   authenticator=check, auth_required=True)  # fmt: skip
    server.start()
    try:
        values = {"STORED": PASSWORD, "SMTP_HOST": NAME, "SMTP_PORT": str(port), "MAIL_FROM": "agent@corp.example",
                  "MAIL_USER": "agent", "AGENTOS_UPSTREAM_CA": str(authority.root)}  # fmt: skip
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        path = policy(folder, "email", [(port, "smtp", False)], "MAIL_PASSWORD")
        add(folder, path, "email")
        with AgentOS.open(path, principal="ana", workspace=folder / "ws") as runtime:
            sent = call(runtime, "email", "send_email", recipients=["ana@corp.example"], subject="Hi", body="Body text")
            assert sent.value == {"sent": 1, "refused": []}, sent.detail
            monkeypatch.setenv("STORED", "wrong-password")
        with AgentOS.open(path, principal="ana", workspace=folder / "ws") as runtime:
            refused = call(runtime, "email", "send_email", recipients=["ana@corp.example"], subject="Hi", body="x")
            assert "refuses the login" in refused.detail
    finally:
        server.stop()
    assert shown[0] == PASSWORD.encode()
    assert b"Body text" in mails[0].content
    assert len(mails) == 1


@contextlib.contextmanager
def dovecot(base: Path, authority: TestAuthority) -> Iterator[int]:
    """Run a Dovecot IMAP server over STARTTLS with one user and one mail; yields its port."""
    base.mkdir()
    base.chmod(0o755)
    mail = base / "mail" / "agent" / "new"
    for name in ("new", "cur", "tmp"):
        (base / "mail" / "agent" / name).mkdir(parents=True, exist_ok=True)
    (mail / "1.host").write_text("From: Birch <billing@birch.example>\r\nTo: agent@corp.example\r\nSubject: Invoice 7\r\n"
                                 "Date: Mon, 2 Mar 2026 10:00:00 +0000\r\n\r\nPlease pay 20.\r\n")  # fmt: skip
    pem = base / "server.pem"
    shutil.copy(authority.folder / f"{NAME}.pem", pem)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    user = "nobody"
    for path in (base, *base.rglob("*")):
        shutil.chown(path, user)
    (base / "dovecot.conf").write_text(
        f"""base_dir = {base}/run
log_path = {base}/log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{pem}
ssl_key = <{pem}
disable_plaintext_auth = yes
mail_location = maildir:{base}/mail/%u
default_internal_user = {user}
default_login_user = {user}
default_internal_group = nogroup
first_valid_uid = 1
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={user} gid=nogroup home={base}/mail/%u
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
"""
    )
    process = subprocess.Popen(["dovecot", "-F", "-c", str(base / "dovecot.conf")], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.mark.skipif(shutil.which("dovecot") is None or os.geteuid() != 0, reason="no Dovecot, or not root")
def test_mail_is_read_with_a_login_of_the_guards(
    folder: Path, monkeypatch: pytest.MonkeyPatch, authority: TestAuthority
) -> None:
    """Mails are listed and read over STARTTLS; the pack holds a placeholder."""
    base = Path("/tmp") / f"agentos-dovecot-{os.getpid()}"  # Dovecot's sockets have short paths
    try:
        with dovecot(base, authority) as port:
            values = {"STORED": PASSWORD, "IMAP_HOST": NAME, "IMAP_PORT": str(port), "MAIL_USER": "agent",
                      "AGENTOS_UPSTREAM_CA": str(authority.root)}  # fmt: skip
            for name, value in values.items():
                monkeypatch.setenv(name, value)
            path = policy(folder, "email", [(port, "imap", False)], "MAIL_PASSWORD")
            add(folder, path, "email")
            with AgentOS.open(path, principal="ana", workspace=folder / "ws") as runtime:
                listed = call(runtime, "email", "list_emails")
                assert listed.ok, listed.detail + (base / "log").read_text()
                assert [mail["subject"] for mail in listed.value["emails"]] == ["Invoice 7"]
                read = call(runtime, "email", "read_email", id=listed.value["emails"][0]["id"])
                assert read.value["body"].strip() == "Please pay 20."
                assert not call(runtime, "email", "list_emails", folder="Nowhere").ok
    finally:
        shutil.rmtree(base, ignore_errors=True)
