"""The wheel carries what it needs: the package, the policy packs and the tool packs, and nothing importable beside it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build the wheel from this checkout and return the names in it."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install hatchling")
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT, check=True, timeout=120, capture_output=True,
    )  # fmt: skip
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_packs_are_in_the_wheel(names: list[str]) -> None:
    """Every pack of policies/ and tools/ travels as data inside the package."""
    for folder in ("policies", "tools"):
        for path in (ROOT / folder).rglob("*.yaml"):
            assert f"agent_os/_data/{path.relative_to(ROOT)}" in names


def test_the_launchers_sources_are_in_the_wheel(names: list[str]) -> None:
    """The C sources travel as text and no machine code does: each machine compiles its own launcher."""
    folder = "agent_os/effects/sandbox/compiled"
    sources = {f"{folder}/{path.name}" for path in (ROOT / folder).glob("*.[ch]")}
    assert len(sources) >= 9
    assert {name for name in names if name.startswith(folder)} == sources


def test_only_one_top_level_package(names: list[str]) -> None:
    """The wheel installs `agent_os` and its metadata, nothing else."""
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"agent_os"}
    assert "agent_os/py.typed" in names
    assert "agent_os/policy/policy.schema.json" in names
