"""What the file tools may not change in a workspace, a program in the sandbox cannot either: names that run for the person later."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent_os import Policy
from agent_os.core.action import Action
from agent_os.guards.confine import Confinement, Limits
from agent_os.guards.confine.protect import held_places, protection_of
from agent_os.policy import decide
from agent_os.policy.filesystem import PROTECTED
from agent_os.runtime.sandbox.prepare import Captured, SandboxSettings, prepare, run_captured

SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin")
TOOLS_ONLY = {
    ".git/info": "git writes there itself in the sandbox",
    ".git/modules": "submodules are cloned there; their hooks and config are held",
    ".git/worktrees": "git makes them there; their config is held",
    ".svn": "no program runs what stands there",
    "agentos.yaml": "nothing reads it unasked",
    "agentos.toml": "nothing reads it unasked",
    "sitecustomize.py": "Python reads it from its own folders only",
    "usercustomize.py": "Python reads it from its own folders only",
}
LATER = [
    ".github/workflows/ci.yml", ".gitlab-ci.yml", ".hg/hgrc", ".cargo/config.toml", ".pre-commit-config.yaml", ".zed/tasks.json",
    ".windsurf/hooks.json", ".continue/config.yaml", ".fleet/run.json", ".aider.conf.yml", ".yarnrc.yml", ".vimrc", ".exrc",
]  # fmt: skip
WRITE = 'for name in "$@"; do mkdir -p "$(dirname "$name")"; echo planted >> "$name" && echo "wrote $name"; done 2>/dev/null'


def run(workspace: Path, *names: str) -> Captured:
    """Let a program in the sandbox write to each name."""
    state = workspace.parent / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    confinement = Confinement(read_only=SYSTEM, read_write=("/tmp",), limits=Limits(wall_seconds=60))
    made = prepare(confinement, SandboxSettings(workspace=str(workspace)), state=state)
    return asyncio.run(run_captured(made, ["sh", "-c", WRITE, "sh", *names]))


@pytest.mark.kernel
def test_names_that_run_later_are_held(tmp_path: Path) -> None:
    """ATTACK: settings, hooks and pipelines that are there are not changed; other files, and names below, are written."""
    workspace = tmp_path / "ws"
    for name in LATER:
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text("mine\n")
    below = ["src/a.py", "sub/.zed/tasks.json", ".github/CODEOWNERS"]
    done = run(workspace, *LATER, *below)
    assert done.stdout.decode().split() == [word for name in below for word in ("wrote", name)]
    assert {(workspace / name).read_text() for name in LATER} == {"mine\n"}


@pytest.mark.kernel
def test_settings_that_are_not_there_are_not_made(tmp_path: Path) -> None:
    """ATTACK: settings of editors and agents, and what runs at a commit, cannot be made at the root; nothing stays behind."""
    workspace = tmp_path / "ws"
    workspace.mkdir()
    absent = [name for name in LATER if protection_of(name.split("/")[0]) in held_places()]
    assert len(absent) >= 9
    assert run(workspace, *absent, "a.py").stdout.decode().split() == ["wrote", "a.py"]
    assert [each.name for each in workspace.iterdir()] == ["a.py"]


def test_both_doors_know_the_same_names() -> None:
    """Every name that the file tools may not change is known to the sandbox, or it is said why not; and the other way round."""
    assert {name for name in PROTECTED if protection_of(name) is None} == set(TOOLS_ONLY)
    policy = Policy.parse("filesystem_policy: {include_workdir: true}")

    def verdict(name: str) -> str:
        return decide(policy, Action.parse({"kind": "fs.write", "path": f"/workspace/{name}"})).verdict.value

    known = {rule.pattern for rule in held_places()}
    assert {name for name in sorted(known) if verdict(name) != "deny"} == set()
    assert verdict("src/config") == "allow"


def test_a_repository_below_runs_its_hooks_too() -> None:
    """ATTACK: the file tools write a hook of a repository below the workspace, or a file that names a folder as one; its
    objects are theirs to write."""
    policy = Policy.parse("filesystem_policy: {include_workdir: true}")
    for name, verdict in (
        (".git/hooks/post-checkout", "deny"), (".git/config", "deny"), (".git/commondir", "deny"), (".git", "deny"),
        (".git/objects/a", "allow"), (".gitignore", "allow"),
    ):  # fmt: skip
        action = Action.parse({"kind": "fs.write", "path": f"/workspace/vendor/lib/{name}"})
        assert decide(policy, action).verdict.value == verdict
