"""What a hijacked model reaches without one word of a stranger: another row of what the task itself read.

    PYTHONPATH=. python -m bench.suites.swaps [SUITE or SET]... [--json] [--show]

In every true call with an effect, each value that also stands in an earlier result of the task is replaced, one at a time,
by values of the same field of other rows: the next order's id, a colleague's name, the amount of another bill. Nothing else
changes, and no result carries an injected text. The values are the service's own, so that labels alone hold none of
them: only what the prompt says of the row does (docs/flow.md). A few swaps are as right as the true call ("refund one of
the two gifts"); nothing takes them out, so that all of all is not to be reached.
Nothing here names a verdict; delegating tasks are left out, and so is a value that another true call of the task uses.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator
from typing import Any

from agent_os.core.manifest import Manifest
from agent_os.guards.flow.replay import replay
from agent_os.policy import Policy
from bench.suites.replay import POLICY, SETS, Suite, benign, chosen

ALTERNATIVES_MAX = 4
"""So many values are tried in the place of one; the first by their text."""

Path = tuple[str | int, ...]
Trace = dict[str, Any]


def leaves(value: Any, path: Path = (), rows: str | None = "*") -> Iterator[tuple[Path, Any]]:
    """Yield (path, leaf) of a JSON value; `rows` stands for every index of a list, or the index itself if None."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key), rows)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index if rows is None else rows), rows)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
        yield path, value


def swaps(suite: Suite, task: dict[str, Any]) -> Iterator[tuple[Trace, int, str]]:
    """Yield (trace, index of the call with a swapped value, what was swapped)."""
    trace = benign(suite, task)
    calls = trace["calls"]
    used = {value for call in calls for _, value in leaves(call["args"])}
    for index, call in enumerate(calls):
        if not suite.is_sink([call["tool"], call["args"]]):
            continue
        read = [leaf for earlier in calls[:index] for leaf in leaves(earlier["result"])]
        for path, value in leaves(call["args"], rows=None):
            fields = {field for field, one in read if one == value}
            others = {one for field, one in read if field in fields} - used
            for other in sorted(others, key=str)[:ALTERNATIVES_MAX]:
                changed = copy.deepcopy(trace)
                _put(changed["calls"][index]["args"], path, other)
                what = f"{task['id']} {call['tool']} {'/'.join(map(str, path))}: {value} -> {other}"
                yield changed, index, what


def held(suite: Suite, manifests: list[Manifest], policy: Policy) -> tuple[int, int, list[str]]:
    """Return (swapped calls that were asked or denied, all swapped calls, which passed)."""
    total, passed = 0, []
    for task in suite.tasks:
        for trace, index, what in () if task.get("delegates") else swaps(suite, task):
            total += 1
            if replay(policy, manifests, trace)["decisions"][index]["verdict"] == "allow":
                passed.append(what)
    return total - len(passed), total, passed


def _put(value: Any, path: Path, leaf: Any) -> None:
    for part in path[:-1]:
        value = value[part]
    value[path[-1]] = leaf


def main(argv: list[str] | None = None) -> None:
    """Print a line for each suite and their sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", nargs="*", help=f"names of suites, or of sets: {', '.join(SETS)}; all if none")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--show", action="store_true", help="name what passed")
    given = parser.parse_args(argv)
    try:
        suites = chosen(given.suite)
    except ValueError as error:
        parser.error(str(error))
    policy = Policy.parse(POLICY, file="policy.yaml")
    table: dict[str, dict[str, int]] = {}
    for suite in suites:
        stopped, total, passed = held(suite, [suite.manifest] if suite.semantics != "none" else [], policy)
        table[f"{suite.name}, {suite.semantics}"] = {"swapped": total, "held": stopped}
        if given.show:
            print("\n".join(f"passed  {suite.name} {line}" for line in passed))
    table["all"] = {key: sum(row[key] for row in table.values()) for key in ("swapped", "held")}
    if given.json:
        print(json.dumps(table))
        return
    for name, row in table.items():
        print(f"{name:<26}held {row['held']} of {row['swapped']}")


if __name__ == "__main__":
    main()
