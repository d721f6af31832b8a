"""Paths that stay protected inside a writable workspace. Pure.

The threat: code in the sandbox plants something that the *person* runs later with full rights: a git hook, an editor
task, a shell start-up file, an agent's settings; or reads a credential that lies in the workspace. Names at its root
are protected whether they exist or not; existing ones are found below it by a bounded walk (`PROTECTED_*`, `SCAN_*`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

Protection = Literal["read_only", "hidden", "empty"]
"""`read_only`: seen, never changed. `hidden`: nothing to be seen. `empty`: reads as an empty file."""

SCAN_DEPTH_MAX: Final = 5
SCAN_ENTRIES_MAX: Final = 400_000
PROTECTED_PATHS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Guarded:
    """A name pattern below the workspace. `parts` are matched one a path component; `absent` is what stands in at the root.

    `absent`: "dir" or "file" hold the place of a name that does not exist; "" leaves an absent name alone.
    """

    parts: tuple[str, ...]
    protection: Protection
    absent: Literal["", "dir", "file"] = ""
    why: str = ""
    content: str = ""
    """What the file that holds the place says, where an empty one would be read as damage."""

    @property
    def pattern(self) -> str:
        """The pattern as text."""
        return "/".join(self.parts)


def _guarded(pattern: str, protection: Protection, absent: Literal["", "dir", "file"], why: str) -> Guarded:
    return Guarded(tuple(pattern.split("/")), protection, absent, why)


GUARDED: Final[tuple[Guarded, ...]] = (
    _guarded(".git/hooks", "read_only", "dir", "runs with the person's rights at the next git command"),
    _guarded(".git/config", "read_only", "file", "names commands that git runs"),
    # A gitdir with this file takes its config and hooks from the directory named there; "." is itself.
    Guarded((".git", "commondir"), "read_only", "file", "would lead git to another config", content=".\n"),
    *(_guarded(p, "read_only", "", "names commands that git runs")
      for p in (".git/config.worktree", ".git/modules/*/hooks", ".git/modules/*/config",
                ".git/worktrees/*/config.worktree")),
    _guarded(".git", "read_only", "dir", "a repository made here could carry hooks"),
    *(_guarded(p, "read_only", "file", "names commands that git runs") for p in (".gitmodules", ".gitconfig")),
    *(_guarded(p, "read_only", "dir", "names commands that run at a commit") for p in (".husky", ".githooks")),
    *(_guarded(p, "read_only", "file", "a shell or tool runs it at its next start")
      for p in (".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".zshrc", ".zshenv",
                ".zprofile", ".zlogin", ".kshrc", ".inputrc", ".envrc", ".npmrc", ".yarnrc", ".yarnrc.yml", ".pypirc",
                ".ripgreprc", ".mcp.json", ".vimrc", ".exrc", ".tmux.conf", ".screenrc", ".emacs")),
    *(_guarded(p, "read_only", "dir", "settings of an editor or an agent, which can name commands to run")
      for p in (".vscode", ".idea", ".claude", ".cursor", ".codex", ".gemini", ".agentos", ".devcontainer", ".zed",
                ".fleet", ".windsurf", ".continue", ".vim", ".nvim", ".emacs.d")),
    *(_guarded(p, "read_only", "file", "settings of an agent, which can name commands to run")
      for p in (".aider.conf.yml", ".claude.json", ".cursorrules")),
    *(_guarded(p, "read_only", "file", "names commands that run at a commit")
      for p in (".pre-commit-config.yaml", ".lefthook.yml")),
    *(_guarded(p, "read_only", "", "names commands that run elsewhere with the person's rights")
      for p in (".github/workflows", ".gitlab-ci.yml", ".hg/hgrc", ".hgrc", ".cargo/config", ".cargo/config.toml",
                ".m2/settings.xml", ".gradle/gradle.properties", ".config/fish", ".config/nvim", ".config/pip",
                ".config/autostart", ".config/systemd", ".pip", ".direnv")),
    *(_guarded(p, "hidden", "dir", "credentials")
      for p in (".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".config/gcloud")),
    *(_guarded(p, "hidden", "", "credentials")
      for p in (".config/gh", ".terraform.d", ".password-store", ".local/share/keyrings", ".cargo/credentials",
                ".cargo/credentials.toml")),
    *(_guarded(p, "hidden", "file", "credentials") for p in (".netrc", ".git-credentials", ".pgpass")),
    _guarded(".env", "empty", "file", "secrets of the application"),
    _guarded(".env.*", "empty", "", "secrets of the application"),
    _guarded(".env.local", "empty", "file", "secrets of the application"),
)  # fmt: skip

HARMLESS: Final = (".env.example", ".env.sample", ".env.template", ".env.dist", ".env.defaults")
"""Examples that hold no secret and are read by set-up steps."""


_BY_PATTERN: Final = tuple(rule for rule in GUARDED if "*" in rule.parts[-1])
_BY_NAME: Final = {
    name: tuple(rule for rule in GUARDED if rule.parts[-1] == name and rule.pattern != ".git")
    for name in {rule.parts[-1] for rule in GUARDED}
}
"""By the last component: a walk asks for tens of thousands of names."""


def protection_of(relative: str) -> Guarded | None:
    """Return the rule that protects an existing path given relative to the workspace, or None.

    A rule matches at any depth: `vendor/lib/.git/hooks` is as dangerous as `.git/hooks`. `.git` itself is only protected
    while absent (its contents must stay writable for commits).
    """
    parts = tuple(relative.split("/"))
    if parts[-1] in HARMLESS:
        return None
    for rule in (*_BY_NAME.get(parts[-1], ()), *_BY_PATTERN):
        size = len(rule.parts)
        if len(parts) >= size and all(map(fnmatchcase, parts[-size:], rule.parts)):
            return rule
    return None


def held_places() -> tuple[Guarded, ...]:
    """Return the rules whose names are held at the workspace's root while they do not exist there."""
    return tuple(rule for rule in GUARDED if rule.absent and not any("*" in part for part in rule.parts))


def worth_entering(relative: str, name: str) -> bool:
    """Return whether a walk for protected paths should look into this directory (`relative` to the workspace)."""
    if name in ("node_modules", "__pycache__", ".venv", "venv", ".tox", "objects", "refs", "logs", "target"):
        return False
    rule = protection_of(relative)
    return rule is None or (rule.protection == "read_only" and name == ".git")
