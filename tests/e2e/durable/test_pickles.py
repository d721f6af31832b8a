"""Pickles planted in every column of every store: whatever reads them, nothing is ever unpickled."""

from __future__ import annotations

import ast
import itertools
import os
import pickle
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import agent_os
from tests.e2e.durable.support import Site

WATCH = """
import os, runpy, sys
def told(event, args):
    if event in ("pickle.find_class", "os.system"):
        open(os.environ["PROOF"], "a").write(f"{event} {args} in {sys.argv}\\n")
sys.addaudithook(told)
"""
"""Before anything else is imported: every unpickling of a class is written down, whoever does it."""
VERBS = (
    "ps --all", "task show tsk_1", "task logs tsk_1", "approvals list", "schedule list", "budget show", "budget usage",
    "secret list", "audit tail",
)  # fmt: skip
SESSION = """
import asyncio
from agent_os import AgentOS
from agent_os.core.errors import AgentOSError
from agent_os.core.principal import Principal
def trying(work):
    try:
        work()
    except AgentOSError:
        pass
    except Exception as error:
        print("unexpected", type(error).__name__, error)
with AgentOS.open(sys.argv[1], principal="ana", workspace=".", session="chat") as system:
    planted = [row[0] for row in system.stores.database.read(lambda c: c.execute("SELECT key FROM outcome").fetchall())]
    for key in ("default/ana/k", "k"):
        trying(lambda: system.perform({"kind": "fs.list", "path": "."}, key=key))
    trying(lambda: system.perform({"kind": "memory.read", "key": "k"}))
    trying(lambda: system.perform({"kind": "tool.call", "tool": "read_messages", "args": {}}))
    for work in (system.stores.approvals.list, lambda: system.stores.approvals.list("approved")):
        trying(lambda: asyncio.run_coroutine_threadsafe(work(), system.loop.loop).result(20))
    trying(lambda: system.stops.list())
print("read")
"""


class Bomb:
    """Runs a program where somebody unpickles it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"echo executed >> {os.environ['PROOF']}",)


def plant(file: Path, bomb: bytes) -> int:
    """Put a pickle into every column of every row of a database, and a row of pickles into every table; returns how many.

    It lies there as bytes, in hexadecimal (as sealed texts do) or as a text, by turns.
    """
    count, forms = 0, itertools.cycle((bomb, bomb.hex(), pickle.dumps(Bomb(), protocol=0).decode()))
    with sqlite3.connect(file) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        for table in tables:
            columns = [(row[1], row[2], row[5]) for row in connection.execute(f"PRAGMA table_info({table})")]
            values = [
                f"planted-{name}"
                if key and kind == "TEXT"
                else 1
                if key or kind in ("INTEGER", "BIGINT")
                else next(forms)
                for name, kind, key in columns
            ]
            marks = ",".join("?" * len(columns))
            count += connection.execute(f"INSERT OR IGNORE INTO {table} VALUES({marks})", values).rowcount
            for name, _, key in columns:
                if not key and name not in ("state", "queue", "holder"):
                    count += connection.execute(f"UPDATE {table} SET {name}=?", (next(forms),)).rowcount
    return count


def watched(site: Site, *words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command, or some code, in a process that writes down every unpickling."""
    program = WATCH + (
        code or "sys.argv = ['agentos', *sys.argv[1:]]\nrunpy.run_module('agent_os', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words], cwd=site.work, capture_output=True, text=True, timeout=120, check=False,
        env={**site.environment, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip


def test_nothing_stored_is_ever_unpickled(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every store of the state directory is full of pickles; every reading verb, a session and a worker look at them."""
    proof = site.state.parent / "proof"
    monkeypatch.setenv("PROOF", str(proof))
    site.environment = {**site.environment, "PROOF": str(proof)}
    worker = site.start(2.0)
    site.submit(site.request("steps", id="tsk_1"))
    site.wait(["tsk_1"])
    seeded = watched(site, str(site.policy), code=SESSION)
    assert seeded.stdout == "read\n", seeded.stderr
    worker.kill()
    worker.wait(10)
    bomb = pickle.dumps(Bomb())
    files = sorted(site.state.glob("*.db"))
    assert {"agents.db", "state.db"} <= {file.name for file in files}
    assert sum(plant(file, bomb) for file in files) > 100
    ran = [watched(site, *verb.split()) for verb in VERBS]
    assert all(done.returncode in (0, 1, 2, 3) for done in ran)
    assert any(done.returncode == 0 for done in ran)
    (site.state / "stops.json").write_bytes(bomb)
    watched(site, str(site.policy), code=SESSION)
    assert watched(site, "stops").returncode == 1, "stops that cannot be read are an error"
    assert not proof.exists(), proof.read_text()
    control = watched(site, code=f"import pickle\npickle.loads({bomb!r})")
    assert control.returncode == 0
    assert "pickle.find_class" in proof.read_text(), "the watch sees an unpickling"


def test_no_module_can_unpickle() -> None:
    """Nothing of the package imports what turns bytes into code."""
    root = Path(agent_os.__file__).parent
    bad = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"}
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not bad & {name.partition(".")[0] for name in names}, path
