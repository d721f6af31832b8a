"""Composition for `agentos policy`: reads policies, actions, traces and tests; the work is in policy/workbench.

Only reading of named files happens here, bounded; what the verbs write they write themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.errors import EffectError, Place, PolicyError, Problem
from agent_os.core.principal import Principal
from agent_os.policy import Policy
from agent_os.policy.workbench.facts import Judge
from agent_os.policy.workbench.replay import MakeWatcher
from agent_os.runtime.data import data_dir
from agent_os.runtime.policies import load_policy
from agent_os.runtime.policy_files import read_policy_text

if TYPE_CHECKING:
    from agent_os.policy.workbench.testing import Report

MAX_LINE_BYTES: Final = 64 * 2**20
MAX_MANIFESTS: Final = 1000
MAX_TEST_FILES: Final = 10_000


def open_policy(sources: Sequence[str], *, semantics: str | None = None) -> Policy:
    """Return the policy of one file, or of several as layers. Raises PolicyError."""
    return load_policy(sources[0] if len(sources) == 1 else list(sources), semantics=semantics)


def known_tools() -> dict[str, frozenset[str]]:
    """Return the runtime's own tools with the names of their arguments."""
    from agent_os.agents.builtin_tools import BUILTIN_TOOLS  # noqa: PLC0415 - only for a check

    return {tool.spec.name: frozenset((tool.spec.input_schema or {}).get("properties", ())) for tool in BUILTIN_TOOLS}


@contextmanager
def judging(policy: Policy) -> Iterator[Judge | None]:
    """Give what asks the engines of a policy's `rego:`, or None for a policy without; they are closed at the end."""
    if not policy.engines:
        yield None
        return
    import asyncio  # noqa: PLC0415

    from agent_os.runtime.rego import rego_engines  # noqa: PLC0415  (policies without Rego do not pay for it)

    engines = rego_engines(policy)
    if engines is None:
        yield None
        return
    with asyncio.Runner() as runner:
        try:
            yield lambda action: runner.run(engines.evaluate(action.to_json(), action.digest))
        finally:
            runner.run(engines.aclose())


def lines_of(path: str | None, standard_input: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file, or of standard input for none or `-`. Raises EffectError for an unreadable file."""
    if path is None or path == "-":
        yield from standard_input
        return
    try:
        with open(path, "rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                yield line
    except OSError as error:
        raise EffectError(f"cannot read {path}: {(error.strerror or 'error').lower()}") from None


def traces_of(path: str | None, standard_input: Iterable[bytes]) -> Iterator[Any]:
    """Yield the traces of a JSONL file; a line that is not JSON yields a mapping that replay answers with an error."""
    for number, line in enumerate(lines_of(path, standard_input), 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            yield {"id": f"line {number}", "calls": None}


def packs() -> list[dict[str, Any]]:
    """Return the packs that are shipped: name, version of the file, what each is for, number of rules."""
    found = []
    folder = data_dir("policies")
    for entry in sorted(folder.iterdir()):
        if not (entry / "policy.yaml").is_file():
            continue
        policy = load_policy(f"pack:{entry.name}")
        found.append(
            {
                "name": entry.name,
                "description": (policy.document.description or "").strip(),
                "rules": len(policy.rules),
                "digest": policy.digest,
                "path": str(entry / "policy.yaml"),
            }
        )
    return found


def read_manifests(folder: str) -> list[Any]:
    """Return the tool manifests in a folder: its YAML files (policies and their tests aside), and `tool.yaml` one below.

    Raises PolicyError for a manifest that is malformed, EffectError for a folder that is not there.
    """
    from pydantic import ValidationError  # noqa: PLC0415

    from agent_os.core.manifest import Manifest  # noqa: PLC0415
    from agent_os.policy.problems import from_validation  # noqa: PLC0415
    from agent_os.policy.reader import read  # noqa: PLC0415

    base = Path(folder)
    if not base.is_dir():
        raise EffectError(f"cannot read {folder}: no such folder")
    names = sorted({*base.glob("*.yaml"), *base.glob("*/tool.yaml"), *base.glob("*.yml")})
    names = [path for path in names if path.name != "policy.yaml" and not path.name.endswith("_test.yaml")]
    found = []
    for path in names[:MAX_MANIFESTS]:
        document = read(read_policy_text(path), file=str(path))
        if not isinstance(document.value, dict):
            raise PolicyError(Problem("a manifest must be a mapping", Place(str(path), 1, 1)))
        try:
            found.append(Manifest.model_validate_json(json.dumps(document.value)))
        except ValidationError as error:
            raise PolicyError(from_validation(error, document, Manifest)) from None
    return found


def watchers(policy: Policy, tools: str | None) -> MakeWatcher | None:
    """Return the maker of flow watchers for replay, or None where the policy has no `flow:` section."""
    if not any(True for _ in policy.sections("flow")):
        return None
    from agent_os.guards.flow.replay import watcher  # noqa: PLC0415 - only where a policy asks for it

    manifests = read_manifests(tools) if tools else []

    def make_watcher(head: Mapping[str, Any], principal: Principal) -> Any:
        return watcher(manifests, head, principal, policy)

    return make_watcher


def run_test_files(paths: Sequence[str]) -> list[Report]:
    """Run every `*_test.yaml` among files and folders (folders are searched to the bottom), in order of name.

    Raises PolicyError for a test or policy file that is malformed, EffectError where nothing is found.
    """
    from agent_os.policy.workbench.testing import parse_tests, run_tests  # noqa: PLC0415

    reports = []
    loaded: dict[tuple[str, ...], Policy] = {}
    for path in test_files(paths):
        tests, document = parse_tests(read_policy_text(path), file=str(path))
        named = tests.policy if isinstance(tests.policy, list) else [tests.policy or "policy.yaml"]
        sources = tuple(name if name.startswith("pack:") else str(path.parent / name) for name in named)
        if sources not in loaded:
            loaded[sources] = open_policy(sources)
        with judging(loaded[sources]) as judge:
            reports.append(run_tests(tests, document, loaded[sources], judge))
    return reports


def test_files(paths: Sequence[str]) -> list[Path]:
    """Return every `*_test.yaml` among files and folders, in order of name. Raises EffectError where there is none."""
    files: list[Path] = []
    for name in paths:
        path = Path(name)
        found = sorted(path.rglob("*_test.yaml")) if path.is_dir() else [path] if path.is_file() else []
        if not found:
            raise EffectError(f"no *_test.yaml in {name}")
        files.extend(found[:MAX_TEST_FILES])
    return list(dict.fromkeys(files))
