"""The `filesystem_policy` section."""

from __future__ import annotations

import pytest

from agent_os.policy import Policy
from tests.unit.policy.helpers import judge, verdict

POLICY = Policy.parse("""
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /srv/data/frozen, docs]
  read_write: [/tmp, /srv/data, /usr/local/cache]
  deny: [/usr/secret, private, "**/*.key", "build/*.log", /srv/*/hidden]
  ask_write: [plans, "*.lock"]
  max_file_bytes: 1KiB
  protect_except: [.vscode/tasks.json]
""")


@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        ("fs.read", "/usr", "allow"), ("fs.read", "/usr/bin/x", "allow"), ("fs.read", "/usr2", "deny"), ("fs.read", "/", "deny"),
        ("fs.write", "/usr/bin/x", "deny"), ("fs.delete", "/usr/bin/x", "deny"), ("fs.list", "/usr", "allow"),
        ("fs.write", "/tmp/x", "allow"), ("fs.write", "/srv/data/x", "allow"), ("fs.write", "/srv/data/frozen/x", "deny"),
        ("fs.write", "/srv/data/frozen", "deny"), ("fs.read", "/srv/data/frozen/x", "allow"),
        ("fs.write", "/usr/local/cache/x", "allow"), ("fs.read", "a", "allow"), ("fs.write", "a/b", "allow"), ("fs.read", ".", "allow"),
        ("fs.write", "docs/a", "deny"), ("fs.read", "docs/a", "allow"), ("fs.read", "../a", "deny"), ("fs.read", "docs/../../etc/x", "deny"),
        ("fs.read", "/usr/secret", "deny"), ("fs.read", "/usr/secret/", "deny"), ("fs.read", "/usr/secret/a/b", "deny"),
        ("fs.read", "/usr/secrets", "allow"), ("fs.list", "private", "deny"), ("fs.read", "private/x", "deny"), ("fs.read", "privates", "allow"),
        ("fs.read", "a.key", "deny"), ("fs.read", "x/y/a.key", "deny"), ("fs.read", "/tmp/a.key", "deny"), ("fs.read", "a.key/inner", "deny"),
        ("fs.read", "build/x.log", "deny"), ("fs.read", "build/a/x.log", "allow"), ("fs.read", "/srv/data/hidden/x", "deny"),
        ("fs.write", "plans/a", "ask"), ("fs.delete", "plans/a", "ask"), ("fs.read", "plans/a", "allow"), ("fs.write", "x.lock", "ask"),
        ("fs.write", ".git/hooks/x", "deny"), ("fs.write", ".git/config", "deny"), ("fs.read", ".git/config", "allow"),
        ("fs.write", ".git/objects/x", "allow"), ("fs.write", "sub/.git/hooks/x", "deny"), ("fs.write", "sub/.git/objects/x", "allow"), ("fs.write", ".env", "deny"),
        ("fs.write", ".env.local", "deny"), ("fs.write", ".environment", "allow"), ("fs.delete", ".bashrc", "deny"),
        ("fs.write", ".vscode/settings.json", "deny"), ("fs.write", ".vscode/tasks.json", "allow"), ("fs.write", ".ssh/authorized_keys", "deny"),
    ],
)  # fmt: skip
def test_one_path(kind: str, path: str, expected: str) -> None:
    """The longest path wins; denials cover the folder itself, what is below it, and globs anywhere."""
    assert verdict(POLICY, {"kind": kind, "path": path}) == expected


def test_two_spellings_of_one_path_are_one_path() -> None:
    """Dots, doubled slashes and a trailing slash change nothing."""
    for path in ("/usr/secret", "/usr/./secret", "/usr//secret/", "/usr/x/../secret", "//usr/secret"):
        assert verdict(POLICY, {"kind": "fs.read", "path": path}) == "deny"


def test_files_have_a_greatest_size() -> None:
    """`max_file_bytes` is inclusive."""
    assert verdict(POLICY, {"kind": "fs.write", "path": "a", "size": 1024}) == "allow"
    assert judge(POLICY, {"kind": "fs.write", "path": "a", "size": 1025}).rules == ("filesystem_policy.max_file_bytes",)


def test_openshell_semantics_grant_the_union() -> None:
    """There a read-only path inside a writable one may be written, and nothing is protected."""
    text = "filesystem_policy: {include_workdir: true, read_only: [/srv/data/frozen], read_write: [/srv/data]}"
    wire = {"kind": "fs.write", "path": "/srv/data/frozen/x"}
    assert verdict(Policy.parse(text), wire) == "deny"
    assert verdict(Policy.parse(text, semantics="openshell"), wire) == "allow"
    assert verdict(Policy.parse(text, semantics="openshell"), {"kind": "fs.write", "path": ".git/hooks/x"}) == "allow"


def test_paths_of_packs_are_seen_together() -> None:
    """A pack's read-only path inside the file's writable one is enforced."""
    pack = "filesystem_policy: {read_only: [/srv/data/frozen], protect: false}"
    policy = Policy.parse(
        "extends: [pack:p]\nfilesystem_policy: {read_write: [/srv/data]}", resolve_pack=lambda _r, _f: (pack, "p")
    )
    decision = judge(policy, {"kind": "fs.write", "path": "/srv/data/frozen/x"})
    assert decision.rules == ("pack:p/filesystem_policy.read_only[0]",)


def test_another_workspace_moves_relative_paths() -> None:
    """Relative rules are taken against the workspace the facts name."""
    wire = {"kind": "fs.read", "path": "/home/u/proj/private/x"}
    assert verdict(POLICY, wire) == "deny"
    assert judge(POLICY, wire, {"workspace": "/home/u/proj"}).rules == ("filesystem_policy.deny[1]",)
    assert verdict(POLICY, {"kind": "fs.read", "path": "/home/u/proj/x"}, {"workspace": "/home/u/proj"}) == "allow"


def test_a_denial_says_which_paths_are_allowed() -> None:
    """The agent is told where it may work."""
    assert "the workspace, /tmp" in judge(POLICY, {"kind": "fs.write", "path": "/etc/x"}).advice
