"""The `filesystem_policy` section: which paths may be read, written, listed and deleted. Pure.

A path is looked up with each folder above it, so cost grows with its depth and not with the number of rules. In strict
semantics the longest path wins between `read_only` and `read_write`; OpenShell (Landlock) grants the union. Threats: a
deny of a folder that its own name or a trailing slash escapes, a read-only path inside a writable one, hooks and
settings that run later with more rights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent_os.core import canonical
from agent_os.core.action import Action, FsWrite, _FsAction
from agent_os.core.decision import Verdict
from agent_os.core.errors import ActionError
from agent_os.core.facts import Facts
from agent_os.policy.globs import Matcher, PatternError, compile_glob, is_literal
from agent_os.policy.rule import Context, Match

if TYPE_CHECKING:
    from agent_os.policy.schema.filesystem import FilesystemPolicy

KINDS: Final = frozenset({"fs.read", "fs.write", "fs.list", "fs.delete"})
CHANGES: Final = frozenset({"fs.write", "fs.delete"})
MAX_ADVISED: Final = 10
PROTECTED: Final = (
    ".git/hooks", ".git/config", ".git/info", ".git/modules", ".git/commondir", ".git/config.worktree", ".git/worktrees",
    ".githooks", ".gitmodules", ".gitconfig", ".git-credentials", ".pgpass", ".ripgreprc",
    ".hg/hgrc", ".hgrc", ".svn", ".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases",
    ".profile", ".zshrc", ".zprofile", ".zshenv", ".zlogin", ".kshrc", ".config/fish", ".inputrc", ".tmux.conf",
    ".screenrc", ".vimrc", ".exrc", ".emacs", ".emacs.d", ".vim", ".nvim", ".config/nvim", ".vscode", ".idea",
    ".fleet", ".zed", ".devcontainer", ".claude", ".claude.json", ".cursor", ".cursorrules", ".codex", ".gemini",
    ".aider.conf.yml", ".continue", ".windsurf", ".mcp.json", ".agentos", "agentos.yaml", "agentos.toml", ".envrc",
    ".direnv", ".husky", ".pre-commit-config.yaml", ".lefthook.yml", ".ssh", ".gnupg", ".aws", ".azure", ".kube",
    ".docker", ".config/gcloud", ".config/gh", ".netrc", ".npmrc", ".yarnrc", ".yarnrc.yml", ".pypirc", ".pip",
    ".config/pip", ".cargo/credentials", ".cargo/credentials.toml", ".cargo/config", ".cargo/config.toml",
    ".m2/settings.xml", ".gradle/gradle.properties", ".terraform.d", ".password-store", ".local/share/keyrings",
    ".config/autostart", ".config/systemd", ".github/workflows", ".gitlab-ci.yml", "sitecustomize.py",
    "usercustomize.py",
)  # fmt: skip
"""Paths below the workspace's root that may not be changed or created (`protect: true`), with everything below them.

What the kernel holds in a sandbox is `guards.confine.protect`: a test keeps the two together.
"""
PROTECTED_GLOBS: Final = (".env", ".env.*", "*.pth")


@dataclass(slots=True)
class _Node:
    """What rules say of one path."""

    read_only: list[str] = field(default_factory=list)
    read_write: list[str] = field(default_factory=list)
    deny: list[str] = field(default_factory=list)
    ask: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A glob that denies or asks; `rooted` globs are matched against absolute paths, others against relative ones."""

    matches: Matcher
    rule: str
    effect: Verdict
    rooted: bool


class FilesystemSection:
    """Judges file actions; built by `compile_filesystem`."""

    name = "filesystem_policy"
    kinds = KINDS

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self.absolute: dict[str, _Node] = {}
        self.relative: dict[str, _Node] = {}
        self.patterns: list[_Pattern] = []
        self.protect = ""
        self.protect_except: set[str] = set()
        self.size_limits: list[tuple[int, str]] = []
        self.readable: list[str] = []
        self.writable: list[str] = []
        self._listings: dict[bool, str] = {}

    @property
    def may_allow(self) -> bool:
        """Whether any path is granted at all."""
        return bool(self.readable or self.writable)

    def node(self, path: str) -> _Node:
        """Return the node of a path as written: absolute, or relative to the workspace."""
        if path.startswith("/"):
            return self.absolute.setdefault(canonical.path(path, root="/"), _Node())
        return self.relative.setdefault(canonical.path(path, root="").lstrip("/") if path else "", _Node())

    def judge(self, action: Action, facts: Facts) -> Sequence[Match]:
        if not isinstance(action, _FsAction):
            return ()
        changes = action.kind in CHANGES
        path, workspace = action.path, facts.workspace
        inside = path == workspace or path.startswith(workspace if workspace == "/" else workspace + "/")
        matches: list[Match] = []
        grant: tuple[Verdict | None, str] = (None, "")
        wider = ""
        reading = ""
        for node in self._nodes(path, workspace if inside else None):
            for rule in node.deny:
                matches.append(Match(Verdict.DENY, rule, "the path is denied"))
            if changes:
                for rule in node.ask:
                    matches.append(Match(Verdict.ASK, rule, "changing this path asks a person"))
            read_only = node.read_only and (self._strict or not node.read_write)
            if not reading and (node.read_only or node.read_write):
                reading = (node.read_write or node.read_only)[0]
            if grant[0] is None and (node.read_only or node.read_write):
                grant = (Verdict.DENY, node.read_only[0]) if read_only else (Verdict.ALLOW, node.read_write[0])
            if not wider and node.read_write:
                wider = node.read_write[0]
        if self.patterns:
            matches.extend(self._by_pattern(path, workspace if inside else None, changes))
        if not changes:
            if reading:
                matches.append(Match(Verdict.ALLOW, reading))
            return matches
        if grant[0] is Verdict.ALLOW:
            matches.append(Match(Verdict.ALLOW, grant[1]))
        elif wider and self._strict:
            reason = "the path is read-only inside a folder that may be written"
            matches.append(Match(Verdict.DENY, grant[1], reason))
        elif wider:
            matches.append(Match(Verdict.ALLOW, wider))
        if self.protect and inside and self._protected(path[len(workspace.rstrip("/")) + 1 :]):
            advice = "filesystem_policy.protect_except names protected paths that may be changed"
            matches.append(Match(Verdict.DENY, self.protect, "the path is protected", advice))
        if isinstance(action, FsWrite):
            for limit, rule in self.size_limits:
                if action.size > limit:
                    matches.append(Match(Verdict.DENY, rule, f"the file is larger than {limit} bytes"))
        return matches

    def _nodes(self, path: str, workspace: str | None) -> list[_Node]:
        """Return the nodes of a path and of every folder above it, the longest first."""
        found: list[_Node] = []
        absolute, relative = self.absolute, self.relative
        base = 0 if workspace is None else len(workspace.rstrip("/"))
        current = path
        while True:
            node = absolute.get(current)
            if node is not None:
                found.append(node)
            if workspace is not None and len(current) >= base:
                node = relative.get(current[base + 1 :])
                if node is not None:
                    found.append(node)
            if current == "/":
                if workspace == "/" and "" in relative and relative[""] not in found:
                    found.append(relative[""])
                return found
            current = current[: current.rfind("/")] or "/"

    def _by_pattern(self, path: str, workspace: str | None, changes: bool) -> list[Match]:
        matches = []
        absolute = _ancestors(path)
        relative = _ancestors(path[len(workspace.rstrip("/")) :]) if workspace is not None else []
        for pattern in self.patterns:
            if pattern.effect is Verdict.ASK and not changes:
                continue
            candidates = absolute if pattern.rooted else [item.lstrip("/") for item in relative if item != "/"]
            if any(pattern.matches(item) for item in candidates):
                reason = "the path is denied" if pattern.effect is Verdict.DENY else "changing this path asks a person"
                matches.append(Match(pattern.effect, pattern.rule, reason))
        return matches

    def _protected(self, relative: str) -> bool:
        if not relative:
            return False
        parts = relative.split("/")
        covered = any("/".join(parts[: index + 1]) in _PROTECTED_SET for index in range(min(len(parts), 4)))
        covered = covered or any(matches(parts[0]) for matches in _PROTECTED_MATCHERS)
        # a repository below the workspace runs its hooks like the one at its root, and a file `.git` names another folder as one
        covered = covered or parts[-1] == ".git"
        covered = covered or any(
            name == ".git" and "/".join(parts[index : index + 2]) in _PROTECTED_SET for index, name in enumerate(parts)
        )
        if not covered:
            return False
        return not any(relative == free or relative.startswith(free + "/") for free in self.protect_except)

    def advise(self, action: Action, _facts: Facts) -> str:
        """Say which paths may be read or written."""
        changes = action.kind in CHANGES
        if changes not in self._listings:  # made once: a denial must not cost more the more rules there are
            paths = list(dict.fromkeys(self.writable if changes else [*self.writable, *self.readable]))
            verb = "written" if changes else "read"
            more = f" and {len(paths) - MAX_ADVISED} more" if len(paths) > MAX_ADVISED else ""
            listed = f"paths that may be {verb}: " + ", ".join(paths[:MAX_ADVISED]) + more
            self._listings[changes] = listed if paths else f"no path may be {verb}"
        return self._listings[changes]


_PROTECTED_SET: Final = frozenset(PROTECTED)
_PROTECTED_MATCHERS: Final = tuple(compile_glob(pattern) for pattern in PROTECTED_GLOBS)


def _ancestors(path: str) -> list[str]:
    """Return a path that begins with `/` and every folder above it."""
    found = [path or "/"]
    while found[-1] != "/":
        found.append(found[-1][: found[-1].rfind("/")] or "/")
    return found


def compile_filesystem(parts: Sequence[tuple[FilesystemPolicy, Context]]) -> FilesystemSection:
    """Return the section of every file of a layer together: grants are united, denials too, the longest path wins."""
    section = FilesystemSection(strict=parts[0][1].semantics != "openshell")
    for policy, context in parts:
        _add(section, policy, context)
    if parts[0][1].semantics != "openshell" and any(policy.protect for policy, _ in parts):
        section.protect = parts[0][1].rule("filesystem_policy.protect", Verdict.DENY)
        own, _ = parts[0]
        section.protect_except = {path.strip("/") for path in own.protect_except}
    return section


def _add(section: FilesystemSection, policy: FilesystemPolicy, context: Context) -> None:
    base = "filesystem_policy"
    if policy.include_workdir:
        section.node("").read_write.append(context.rule(f"{base}.include_workdir", Verdict.ALLOW))
        section.writable.append("the workspace")
    for name in ("read_only", "read_write"):
        for index, path in enumerate(getattr(policy, name)):
            rule = context.rule(f"{base}.{name}[{index}]", Verdict.ALLOW)
            try:
                getattr(section.node(_workspace(path)), name).append(rule)
            except ActionError as error:
                context.problem(f"{base}.{name}[{index}]", str(error))
            (section.readable if name == "read_only" else section.writable).append(path)
    for name, effect in (("deny", Verdict.DENY), ("hidden", Verdict.DENY), ("ask_write", Verdict.ASK)):
        for index, path in enumerate(getattr(policy, name)):
            _restrict(section, path, effect, f"{base}.{name}[{index}]", context)
    if policy.max_file_bytes is not None:
        section.size_limits.append((policy.max_file_bytes, context.rule(f"{base}.max_file_bytes", Verdict.DENY)))


def _workspace(path: str) -> str:
    return "" if path in (".", "./") else path


def _restrict(section: FilesystemSection, path: str, effect: Verdict, place: str, context: Context) -> None:
    rule = context.rule(place, effect)
    try:
        if is_literal(path):
            node = section.node(_workspace(path))
            (node.deny if effect is Verdict.DENY else node.ask).append(rule)
            return
        pattern = path.rstrip("/")
        anywhere = pattern.startswith("**/")
        rooted = anywhere or pattern.startswith("/")
        pattern = "/" + pattern if anywhere else pattern.removeprefix("./")
        section.patterns.append(_Pattern(compile_glob(pattern), rule, effect, rooted))
    except (PatternError, ActionError) as error:
        context.problem(place, str(error))
