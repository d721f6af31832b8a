"""`make bench-agentdojo`: exports AgentDojo's traces and prints the tables.

AgentDojo is installed into a virtual environment of its own (`build/agentdojo`, made on the first run from the package
registry), so that its dependencies touch nothing else. `AGENTDOJO_PYTHON` names another interpreter that has it.
Arguments: attack templates to replay beside the default ones (`--all` for every one the package has).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.agentdojo import export, report

PINNED = "agentdojo==0.1.35"
DEFAULT = ("important_instructions", "direct", "tool_knowledge")
BUILD = Path(__file__).resolve().parents[2] / "build" / "agentdojo"
EXPORT_SECONDS_MAX = 1800


def interpreter() -> str:
    """Return a Python that has AgentDojo, making one if need be."""
    given = os.environ.get("AGENTDOJO_PYTHON")
    if given:
        return given
    python = BUILD / "venv" / "bin" / "python"
    if not python.exists():
        print(f"installing {PINNED} into {BUILD / 'venv'}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(BUILD / "venv")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", PINNED], check=True)
    return str(python)


def traces(attacks: tuple[str, ...], *, order: str, results: str) -> Path:
    """Return a folder with the benign traces and those of some attacks, exported now if it is not there."""
    folder = BUILD / f"traces-{order}-{results}"
    wanted = [name for name in attacks if not (folder / f"attack-{name}.key.jsonl").exists()]
    if wanted:
        command = [interpreter(), str(Path(export.__file__)), str(folder), "--order", order, "--results", results]
        for name in wanted:
            command += ["--attack", name]
        subprocess.run(command, check=True, timeout=EXPORT_SECONDS_MAX)
    return folder


def main() -> int:
    """Print the tables."""
    given = tuple(sys.argv[1:])
    attacks = export.ATTACKS if "--all" in given else tuple(dict.fromkeys((*DEFAULT, *given)))
    folder = traces(attacks, order="after", results="json")
    print("== with the manifests of bench/agentdojo/tools", flush=True)
    report.main([str(folder)])
    print("== injected calls straight after the first poisoned result", flush=True)
    report.main([str(traces(DEFAULT[:1], order="mid", results="json"))])
    print("== results as the text a model would see", flush=True)
    report.main([str(traces(DEFAULT[:1], order="after", results="text"))])
    print("== leave one suite out: its own tools judged by drafts from their names", flush=True)
    report.main([str(folder), "--leave-one-out"])
    print("== no manifest at all", flush=True)
    report.main([str(folder), "--derived"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
