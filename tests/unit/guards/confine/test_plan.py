"""The plan: what a confinement, a workspace and facts of the host become."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent_os.core.errors import EnforcementError
from agent_os.guards.confine import (
    Confinement,
    HostFacts,
    Limits,
    PathFact,
    RunOptions,
    SandboxPlan,
    narrow,
    plan_sandbox,
)
from agent_os.guards.confine.environment import EnvironmentNameError, sandbox_environment
from agent_os.guards.confine.landlock import CHANGE, READ, handled
from agent_os.guards.confine.protect import protection_of

WS = "/home/ana/project"
EVERYTHING = frozenset({"user", "mount", "pid", "network", "ipc", "uts", "cgroup"})
DIRS = [
    WS,
    "/usr",
    "/etc",
    "/opt/app",
    "/data",
    "/data/in",
    "/data/in/fixed",
    WS + "/.git",
    WS + "/.git/hooks",
    WS + "/.ssh",
]
FILES = [WS + "/.git/config", WS + "/.env", WS + "/policy.yaml"]


def host(**changes: object) -> HostFacts:
    paths = {path: PathFact("dir", path, 1000, 1000, 0o755) for path in DIRS}
    paths |= {path: PathFact("file", path, 1000, 1000, 0o644) for path in FILES}
    paths["/bin"] = PathFact("link", "/usr/bin", target="usr/bin")
    facts = HostFacts("x86_64", "6.1.0", 1000, 1000, 5, EVERYTHING, True, 0, frozenset(), paths=paths)
    return replace(facts, **changes)  # type: ignore[arg-type]


def plan(confinement: Confinement | None = None, facts: HostFacts | None = None, **options: object) -> SandboxPlan:
    conf = confinement or Confinement(read_only=("/usr",), read_write=("/tmp",))
    return plan_sandbox(conf, WS, facts or host(), RunOptions(**options))  # type: ignore[arg-type]


def mounted(made: SandboxPlan) -> dict[str, object]:
    return {mount.target: mount for mount in made.mounts}


def test_the_root_holds_what_is_granted_and_nothing_else() -> None:
    """A path that no rule grants is not in the private root; the own /proc, /dev and /tmp are."""
    made = mounted(plan())
    assert made["/usr"].writable is False  # type: ignore[attr-defined]
    assert made[WS].writable is True  # type: ignore[attr-defined]
    assert made["/tmp"].kind == "tmpfs"  # type: ignore[attr-defined]
    assert "/opt/app" not in made
    assert "/home/ana" not in made
    assert made["/bin"].kind == "link"  # type: ignore[attr-defined]


def test_read_only_inside_read_write_is_mounted_over_with_pinned_parents() -> None:
    """Deny inside allow: the inner path is read-only and every folder between is a mount point of its own."""
    made = mounted(plan(Confinement(read_write=("/data",), read_only=("/data/in/fixed",))))
    assert made["/data"].writable is True  # type: ignore[attr-defined]
    assert made["/data/in"].why == "pinned"  # type: ignore[attr-defined]
    assert made["/data/in/fixed"].writable is False  # type: ignore[attr-defined]
    order = [mount.target for mount in plan(Confinement(read_write=("/data",), read_only=("/data/in/fixed",))).mounts]
    assert order.index("/data") < order.index("/data/in") < order.index("/data/in/fixed")


def test_hidden_wins_over_a_grant() -> None:
    """A hidden path shows nothing, also when it is granted by name."""
    made = mounted(plan(Confinement(read_write=("/data",), hidden=("/data/in",))))
    assert made["/data/in"].mode == 0  # type: ignore[attr-defined]
    assert made["/data/in"].kind == "empty"  # type: ignore[attr-defined]


def test_existing_and_absent_protected_names() -> None:
    """Existing hooks are read-only, secrets empty, keys hidden; absent names are held."""
    made = mounted(plan(protected=(".git/hooks", ".git/config", ".env", ".ssh")))
    assert made[WS + "/.git"].why == "pinned"  # type: ignore[attr-defined]
    assert made[WS + "/.git/hooks"].writable is False  # type: ignore[attr-defined]
    assert made[WS + "/.git/commondir"].content == ".\n"  # type: ignore[attr-defined]
    assert (made[WS + "/.env"].kind, made[WS + "/.env"].hold) == ("file", "")  # type: ignore[attr-defined]
    assert made[WS + "/.ssh"].mode == 0  # type: ignore[attr-defined]
    assert made[WS + "/.bashrc"].hold == "file"  # type: ignore[attr-defined]
    assert made[WS + "/.vscode"].hold == "dir"  # type: ignore[attr-defined]


def test_a_protected_name_that_is_a_link_is_refused() -> None:
    """A symbolic link cannot be mounted over, so the run does not start."""
    facts = host()
    paths = {**facts.paths, WS + "/.bashrc": PathFact("link", "/elsewhere", target="/elsewhere")}
    with pytest.raises(EnforcementError, match="symbolic link"):
        plan(facts=replace(facts, paths=paths))


def test_no_grant_follows_a_link_that_a_program_may_have_put_there() -> None:
    """ATTACK: a link below the workspace or another writable place stands where a grant is looked for; it is not granted.

    Links that lie elsewhere are the operator's: they are followed.
    """
    facts = host()
    through = {
        WS + "/out": PathFact("link", "/home/ana", target="/home/ana", through=(WS + "/out",)),
        "/data/in/cache": PathFact("dir", "/home/ana", through=("/data/in",)),
        "/srv/share": PathFact("link", "/opt/app", target="/opt/app", through=("/srv/share",)),
    }
    facts = replace(facts, paths={**facts.paths, **through})
    given = Confinement(read_only=("/srv/share",), read_write=("/data", WS + "/out", "/data/in/cache"))
    made = plan(given, facts)
    assert "/home/ana" not in mounted(made)
    assert "/opt/app" in mounted(made)
    assert sum("leads through a link" in note for note in made.notes) == 2
    narrow = Confinement(include_workdir=False, read_write=("/data/in/cache",), written=("/data",))
    assert "/home/ana" not in mounted(plan(narrow, facts))


def test_protect_except_lets_a_name_go() -> None:
    """A policy may name protected paths that its program may change."""
    made = mounted(plan(Confinement(protect_except=(".vscode",))))
    assert WS + "/.vscode" not in made


@pytest.mark.parametrize("workspace", ["/", "/usr", "/proc", "/dev/shm", "/nowhere"])
def test_a_workspace_that_is_the_machine_is_refused(workspace: str) -> None:
    """The root, system folders and folders that do not exist are no workspaces."""
    with pytest.raises(EnforcementError):
        plan_sandbox(Confinement(), workspace, host(), RunOptions())


def test_a_missing_layer_stands_in_the_plan_until_let_go() -> None:
    """What cannot be enforced is named; letting it go by name is recorded, and what the sandbox is made of never goes."""
    facts = host(landlock_abi=0)
    made = plan(facts=facts)
    assert made.unenforced == ("landlock",)
    assert plan(facts=facts, allow_missing=("landlock",)).unenforced == ()
    bare = host(namespaces=EVERYTHING - {"user"})
    with pytest.raises(EnforcementError, match="cannot be had without"):
        plan(facts=bare, allow_missing=("user-namespace",))


def test_without_a_guard_there_is_no_way_out() -> None:
    """A policy that names endpoints still has no network while the guard does not run."""
    conf = Confinement(network=True, ports=(8443,))
    assert plan(conf).network.mode == "none"
    guarded = plan(conf, guard=True)
    assert guarded.network.mode == "guarded"
    assert guarded.network.tcp_ports == (80, 443, 8443)
    assert guarded.environment["HTTPS_PROXY"].startswith("http://127.0.0.1:")


def test_root_gets_a_transient_identity_and_mapped_owners() -> None:
    """As root nothing is mapped to the host's uid 0; writable binds map their owner."""
    made = plan(facts=host(uid=0, gid=0, idmapped_mounts=True))
    assert made.identity.host_uid is None
    assert mounted(made)[WS].idmap == (1000, 1000)  # type: ignore[attr-defined]
    assert mounted(made)["/usr"].idmap is None  # type: ignore[attr-defined]


def test_root_inside_is_refused() -> None:
    """`run_as_user: root` does not start."""
    with pytest.raises(EnforcementError):
        plan(Confinement(user="root"))


def test_memory_without_a_cgroup_is_polled_and_limited_per_process() -> None:
    """The plan says who counts memory; without a cgroup each process has a data limit too."""
    made = plan(Confinement(limits=Limits(memory_bytes=1 << 30)))
    assert made.memory_by == "poller"
    assert made.rlimits["DATA"] == 1 << 30
    assert plan(facts=host(controllers=frozenset({"memory"}))).memory_by == "cgroup"


def test_the_plan_prints_as_text_and_json_without_values() -> None:
    """Both forms are whole; the text names variables and never shows what they hold."""
    made = plan(outside={"PATH": "/usr/bin:/secret/bin", "LANG": "C"}, values={"TOKEN": "s3cret"})
    assert json.loads(json.dumps(made.to_json()))["workspace"] == WS
    assert "s3cret" not in made.to_text()
    assert "TOKEN" in made.to_text()
    assert "/secret/bin" not in made.environment["PATH"]


def test_the_environment_is_an_allow_list() -> None:
    """Keys and agent sockets stay outside; loader variables cannot even be asked for."""
    outside = {"AWS_SECRET_ACCESS_KEY": "x", "TERM": "xterm", "LD_PRELOAD": "y", "SSH_AUTH_SOCK": "z", "MINE": "1"}
    got = sandbox_environment(outside, home="/h", user="u", workspace="/w", extra_names=("MINE",))
    assert got["TERM"] == "xterm"
    assert got["MINE"] == "1"
    assert not {"AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "SSH_AUTH_SOCK"} & set(got)
    with pytest.raises(EnvironmentNameError):
        sandbox_environment(outside, home="/h", user="u", workspace="/w", extra_names=("LD_PRELOAD",))


def test_layers_only_narrow() -> None:
    """Two layers grant what both grant; limits and hidden paths of each hold."""
    wide = Confinement(read_only=("/usr", "/etc"), read_write=("/data",), limits=Limits(memory_bytes=100))
    tight = Confinement(
        read_only=("/usr/lib", "/data/in/fixed"), read_write=("/data/in",), hidden=("/x",), limits=Limits(processes=3)
    )
    both = narrow([wide, tight])
    assert both.read_write == ("/data/in",)
    assert set(both.read_only) == {"/usr/lib", "/data/in/fixed"}
    assert both.hidden == ("/x",)
    assert (both.limits.memory_bytes, both.limits.processes) == (100, 3)
    assert narrow([tight, wide]).read_write == ("/data/in",)


def test_landlock_bits_follow_the_abi() -> None:
    """Only bits that the kernel's version knows are handled."""
    assert handled(1)[0] == (1 << 13) - 1
    assert handled(3)[0] & (1 << 14)
    assert handled(5)[2] == 0
    assert handled(6)[2] == 3
    rules = {rule.path: rule.access for rule in plan(facts=host(landlock_abi=3)).landlock.rules}
    assert rules["/usr"] == READ
    assert rules[WS] == CHANGE & handled(3)[0]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (".git/hooks", "read_only"), ("a/b/.git/hooks", "read_only"), (".git/modules/x/hooks", "read_only"), (".env", "empty"),
        ("deep/.env.production", "empty"), (".env.example", None), (".ssh", "hidden"), ("src/main.py", None), (".git", None),
        (".github", None), (".bashrc", "read_only"), ("bashrc", None),
    ],
)  # fmt: skip
def test_protected_names(path: str, kind: str | None) -> None:
    """Names are protected at any depth; examples and look-alikes are not."""
    rule = protection_of(path)
    assert (rule.protection if rule else None) == kind
