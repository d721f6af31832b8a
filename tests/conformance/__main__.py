"""`python -m tests.conformance --cases DIR`: one line for each case that does not simply agree, a summary per file."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from tests.conformance import default_folder
from tests.conformance.cases import FILES, Answer, answers, policies


def report(name: str, found: list[Answer], *, verbose: bool) -> int:
    """Print what does not agree and a summary; return the number of disagreements."""
    for answer in found:
        if answer.state == "disagrees" or (answer.state != "agrees" and verbose):
            state = answer.state.upper() if answer.state == "disagrees" else answer.state
            print(f"{state} {name} {answer.id}: {answer.detail}")
    counts = Counter(answer.state for answer in found)
    print(f"{name}: {len(found)} cases, " + ", ".join(f"{counts[state]} {state}" for state in sorted(counts)))
    return counts["disagrees"]


def main() -> int:
    """Run every file of a folder; 1 when something disagrees, 2 when there is no such folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--cases", type=Path, default=default_folder(), help="folder of the cases")
    parser.add_argument("--semantics", choices=("openshell", "strict", "both"), default="both")
    parser.add_argument("--quiet", action="store_true", help="print disagreements and summaries only")
    options = parser.parse_args()
    if not options.cases.is_dir():
        print(f"no conformance folder at {options.cases}", file=sys.stderr)
        return 2
    wrong = 0
    if options.semantics in ("openshell", "both"):
        for name in FILES:
            if (options.cases / name).exists():
                wrong += report(name, answers(options.cases, name), verbose=not options.quiet)
        if (options.cases / "policies").is_dir():
            wrong += report("policies/", list(policies(options.cases)), verbose=not options.quiet)
    if options.semantics in ("strict", "both") and (options.cases / "cases.json").exists():
        found = answers(options.cases, "cases.json", strict=True)
        wrong += report("cases.json under strict", found, verbose=not options.quiet)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
