"""The map holds: imports go downward only, and effects stay in their room.

The floors and the forbidden imports are data, each with its why. What this stops is a mistake, not hostile Python:
hostile code meets the kernel (SECURITY.md).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "agent_os"

MAY_IMPORT = {
    "core": set(),
    "policy": {"core"},
    "audit": {"core"},
    "guards": {"core", "policy"},
    "monitor": {"core", "policy", "audit", "guards"},
    "adapters": {"core", "policy", "audit", "guards", "monitor"},
    "agents": {"core", "policy", "audit", "guards", "monitor"},
    "effects": {"core", "guards", "audit"},
    "runtime": {"core", "policy", "audit", "guards", "monitor", "adapters", "agents", "effects"},
    "cli": {"core", "policy", "audit", "guards", "monitor", "adapters", "agents", "runtime"},
}
"""Floor -> floors it may import. `effects` reaches `audit` and `guards` for their pure functions only."""

WORLD = {
    "socket": "network is an effect",
    "subprocess": "processes are an effect",
    "ctypes": "system calls are an effect",
    "multiprocessing": "processes are an effect",
    "sqlite3": "storage is an effect",
    "random": "chance is handed in (port Rng)",
    "secrets": "chance is handed in (port Rng)",
    "time": "the clock is handed in (port Clock)",
    "shutil": "files are an effect",
    "tempfile": "files are an effect",
    "httpx": "network is an effect",
}
"""Module -> why it may stand in `effects`, `runtime` and `cli` only."""

WORLD_ALLOWED = {"effects", "runtime", "cli", "__main__"}


def _files() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        if "_data" in relative.parts:
            continue
        yield (relative.parts[0] if len(relative.parts) > 1 else relative.stem), path


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checking: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            checking.update(id(child) for child in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in checking:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


FILES = list(_files())


@pytest.mark.parametrize(("floor", "path"), FILES, ids=[str(path.relative_to(ROOT)) for _, path in FILES])
def test_imports_go_downward(floor: str, path: Path) -> None:
    """A module imports its own floor and the floors below it, nothing above or beside."""
    if floor in ("__init__", "__main__"):
        return
    for name, line in _imports(path):
        parts = name.split(".")
        if parts[0] != "agent_os" or len(parts) < 2:
            continue
        target = parts[1]
        if target not in MAY_IMPORT:
            assert target in ("__version__",), f"{path}:{line}: imports unknown floor {target}"
            continue
        assert target == floor or target in MAY_IMPORT[floor], f"{path}:{line}: {floor} may not import {target}"


@pytest.mark.parametrize(("floor", "path"), FILES, ids=[str(path.relative_to(ROOT)) for _, path in FILES])
def test_the_world_is_reached_from_effects_only(floor: str, path: Path) -> None:
    """Network, processes, system calls, clocks and chance stand on the floors that may hold them."""
    if floor in WORLD_ALLOWED:
        return
    for name, line in _imports(path):
        top = name.split(".")[0]
        assert top not in WORLD, f"{path}:{line}: imports {top}: {WORLD[top]}"


@pytest.mark.parametrize(("floor", "path"), FILES, ids=[str(path.relative_to(ROOT)) for _, path in FILES])
def test_only_the_monitor_mints_permits(floor: str, path: Path) -> None:
    """`Permit(...)` is constructed, and `.execute(permit, ...)` called, in monitor.py alone."""
    if floor == "monitor":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            assert called != "Permit", f"{path}:{node.lineno}: a permit minted outside the monitor"


@pytest.mark.parametrize(("floor", "path"), FILES, ids=[str(path.relative_to(ROOT)) for _, path in FILES])
def test_files_open_in_effects_only(floor: str, path: Path) -> None:
    """The builtin `open` is called on the floors that may touch files."""
    if floor in WORLD_ALLOWED:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "open", f"{path}:{node.lineno}: opens a file outside effects"


def test_adapters_do_not_import_each_other() -> None:
    """Each adapter stands alone: it imports the floors below and never a sibling."""
    for floor, path in FILES:
        if floor != "adapters" or len(path.relative_to(ROOT).parts) < 3:
            continue
        own = path.relative_to(ROOT).parts[1]
        for name, line in _imports(path):
            parts = name.split(".")
            if parts[:2] == ["agent_os", "adapters"] and len(parts) > 2:
                assert parts[2] == own, f"{path}:{line}: imports its sibling {parts[2]}"


def test_every_module_says_what_it_is_for() -> None:
    """Every module with code opens with a docstring."""
    for _, path in FILES:
        text = path.read_text(encoding="utf-8")
        if text.strip():
            assert ast.get_docstring(ast.parse(text)), f"{path}: no module docstring"


def _circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return modules that import each other in a loop, or nothing."""
    state: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> list[str]:
        state[module] = 1
        path.append(module)
        for wanted in sorted(graph[module]):
            if state.get(wanted) == 1:
                return path[path.index(wanted) :]
            if wanted not in state and (found := visit(wanted)):
                return found
        state[module] = 2
        path.pop()
        return []

    for module in sorted(graph):
        if module not in state and (found := visit(module)):
            return found
    return []


def test_no_modules_import_each_other() -> None:
    """Imports run in one direction, those within functions and those for types alone too."""
    files = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for _, path in FILES
    }
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        graph[module] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                wanted = {f"{node.module}.{alias.name}" for alias in node.names} & files.keys() or {
                    node.module
                } & files.keys()
                graph[module] |= wanted - {module}
    assert not _circle(graph)
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c"]
