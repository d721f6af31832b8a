"""The private root: which mounts, links and files a run's grants become, in the order they are made. Pure.

It holds what the policy grants and nothing else; a hidden or read-only path inside a writable one is mounted over it with
every directory in between pinned, because a mount point cannot be renamed away but its parent can. Threat: a program that puts
a link where the next run's grant is looked for: no grant follows a link that lies in a place programs write.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase

from agent_os.core.errors import EnforcementError
from agent_os.guards.confine.inputs import Confinement, HostFacts, within
from agent_os.guards.confine.options import (
    GRANTABLE_DEVICES,
    HARMLESS_DEVICES,
    HELD_NAMES,
    LOADER_FILES,
    MERGED_USR,
    OWN,
    PRIVATE_TMP,
    RESOLVER,
    ROOT_EXPANDED,
    SYSTEM,
    RunOptions,
)
from agent_os.guards.confine.plan import Identity, Mount
from agent_os.guards.confine.protect import Guarded, held_places, protection_of


class PrivateRoot:
    """Collects the steps of one private root. Lives for one call of `plan_sandbox`."""

    def __init__(
        self,
        confinement: Confinement,
        workspace: str,
        host: HostFacts,
        options: RunOptions,
        identity: Identity,
        notes: list[str],
    ) -> None:
        self.confinement, self.workspace, self.host = confinement, workspace, host
        self.options, self.identity, self.notes = options, identity, notes
        self.grants: dict[str, bool] = {}
        self.links: dict[str, str] = {}
        self.extra: list[Mount] = []
        self.absent: list[str] = []

    def build(self) -> tuple[Mount, ...]:
        conf = self.confinement
        self._grant(conf.read_only, writable=False)
        self._grant(self.options.read_only, writable=False)
        self._grant(conf.read_write, writable=True)
        if self.absent:
            self.notes.append(f"granted, but not there: {', '.join(self.absent)}")
        if conf.include_workdir:
            self.grants[self.workspace] = True
        # INVARIANT: where one path is granted both ways, an explicit read-only wins (deny inside allow).
        for path in conf.read_only:
            real = self.host.path(path).real or path
            if real in self.grants and real != self.workspace:
                self.grants[real] = False
        # A plain list of writable file systems of our own; everything else is bound from the host.
        steps: dict[str, Mount] = {mount.target: mount for mount in self._own()}
        for path in sorted(self.grants, key=lambda p: p.count("/")):
            above = self._covering(path)
            if above is not None and self.grants[above] == self.grants[path] and path != self.workspace:
                continue
            if above is not None and self.grants[above] and not self.grants[path]:
                for pin in self._pins(path, above):
                    steps.setdefault(pin.target, pin)
            steps[path] = self._bind(path, writable=self.grants[path])
        for path, target in self.links.items():
            if self._covering(path) is None:
                steps[path] = Mount("link", path, source=target)
        for mount in (*self._etc(), *self._private_files()):
            steps.setdefault(mount.target, mount)
        for mount in self._protected():
            if mount.why == "pinned":
                steps.setdefault(mount.target, mount)
            else:
                steps[mount.target] = mount
        for mount in self._hidden():
            if mount.why == "pinned":
                steps.setdefault(mount.target, mount)
            else:
                steps[mount.target] = mount
        return tuple(sorted(steps.values(), key=lambda m: (m.target.count("/") if m.target != "/" else 0, m.target)))

    def _grant(self, paths: Iterable[str], *, writable: bool) -> None:
        for path in paths:
            if path == "/":
                if writable:
                    raise EnforcementError(["filesystem_policy"], "'/' cannot be writable: name the folders")
                self.notes.append(
                    "'/' stands for the system and home folders; /proc, /dev, /sys, /run and /tmp are never shared"
                )
                self._grant([p for p in ROOT_EXPANDED if self.host.path(p).kind != "missing"], writable=False)
                continue
            if path.startswith("/dev/") and path.startswith(GRANTABLE_DEVICES):
                self.extra.append(Mount("bind", path, path, writable=True, exec=False, devices=True))
                continue
            if any(within(path, own) for own in OWN):
                if path not in ("/proc", "/dev") and path.removeprefix("/dev/") not in HARMLESS_DEVICES:
                    self.notes.append(f"{path}: not shared; the sandbox has its own /proc and /dev and no /sys")
                continue
            if path in PRIVATE_TMP:
                continue
            fact = self.host.path(path)
            if fact.kind == "missing":
                self.absent.append(path)
                continue
            if self._planted(path):
                continue
            real = fact.real or path
            if real != path:
                self.links[path] = real if fact.kind != "link" or not fact.target else fact.target
            if real in PRIVATE_TMP or any(within(real, own) for own in OWN):
                self.notes.append(f"{path}: leads to a place that is never shared")
                continue
            self.grants[real] = self.grants.get(real, False) or writable

    def _planted(self, path: str) -> bool:
        """Whether a path leads through a link that a program may have put there; noted, and not granted."""
        conf = self.confinement
        tops = (self.workspace, *conf.read_write, *conf.written)
        writable = [self.host.path(top).real or top for top in tops if top not in PRIVATE_TMP]
        for link in self.host.path(path).through:
            # INVARIANT: a place that is granted itself is no link there, but what it leads to: only what lies below counts.
            if any(within(link, top) and link != top for top in writable):
                self.notes.append(f"{path}: leads through a link in a place that programs write ({link}), not shared")
                return True
        return False

    def _covering(self, path: str) -> str | None:
        """Return the nearest granted path strictly above `path`."""
        above = [other for other in self.grants if other != path and within(path, other)]
        return max(above, key=len, default=None)

    def _bind(self, path: str, *, writable: bool) -> Mount:
        idmap = None
        if self.host.root and (writable or not any(within(path, system) for system in SYSTEM)):
            fact = self.host.path(self.workspace if within(path, self.workspace) else path)
            idmap = (fact.uid, fact.gid)
        if path == self.workspace and self.options.upper:
            return Mount("overlay", path, path, upper=self.options.upper, writable=True, idmap=idmap, recursive=False)
        return Mount("bind", path, path, writable=writable, idmap=idmap, recursive=idmap is None)

    def _pins(self, path: str, top: str) -> list[Mount]:
        pins, parent = [], path.rpartition("/")[0]
        while parent != top and within(parent, top) and parent:
            pins.append(Mount("pin", parent, why="pinned"))
            parent = parent.rpartition("/")[0]
        return pins

    def _own(self) -> list[Mount]:
        limits, home = self.confinement.limits, self.identity.home
        own = [
            Mount("proc", "/proc"),
            Mount("tmpfs", "/tmp", writable=True, size=limits.tmp_bytes, inodes=limits.tmp_files, mode=0o1777),  # noqa: S108
            Mount("tmpfs", home, writable=True, size=limits.tmp_bytes, inodes=limits.tmp_files, mode=0o700),
            Mount("dir", "/var"),
            Mount("link", "/var/tmp", source="/tmp"),  # noqa: S108
            Mount("dir", "/run"),
            Mount("dir", "/dev"),
            Mount("tmpfs", "/dev/shm", writable=True, exec=False, size=limits.shm_bytes, inodes=10_000, mode=0o1777),  # noqa: S108
            Mount("devpts", "/dev/pts"),
            Mount("link", "/dev/ptmx", source="pts/ptmx"),
            Mount("link", "/dev/fd", source="/proc/self/fd"),
            Mount("link", "/dev/stdin", source="/proc/self/fd/0"),
            Mount("link", "/dev/stdout", source="/proc/self/fd/1"),
            Mount("link", "/dev/stderr", source="/proc/self/fd/2"),
        ]
        own += [Mount("bind", f"/dev/{name}", f"/dev/{name}", writable=True, exec=False, devices=True)
                for name in HARMLESS_DEVICES if self.host.path(f"/dev/{name}").kind != "missing"]  # fmt: skip
        for name in MERGED_USR:
            fact = self.host.path(name)
            if fact.kind == "link" and (fact.real in self.grants or self._covering(fact.real) is not None):
                own.append(Mount("link", name, source=fact.target))
        if "/var" in self.grants:
            own = [mount for mount in own if not mount.target.startswith("/var")]
        for path in self.confinement.sockets:
            if self.host.path(path).kind == "socket" and not self._planted(path):
                own.append(Mount("bind", path, path, writable=True, exec=False, why="a socket the policy names"))
            else:
                self.notes.append(f"{path}: no such socket now")
        return own + self.extra

    def _etc(self) -> list[Mount]:
        person = self.identity
        files = {
            "/etc/passwd": f"{person.user}:x:{person.uid}:{person.gid}::{person.home}:/bin/sh\n"
            "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
            "/etc/group": f"{person.group}:x:{person.gid}:\nnogroup:x:65534:\n",
            "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
            "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
            "/etc/resolv.conf": f"nameserver {RESOLVER}\noptions timeout:2 attempts:1\n",
        }
        steps = []
        held = [rule.pattern for rule in held_places() if "/" not in rule.pattern and rule.pattern != ".git"]
        files["/etc/gitconfig"] = f"[core]\n\texcludesFile = {HELD_NAMES}\n[safe]\n\tdirectory = *\n"
        files[HELD_NAMES] = "".join(f"/{name}\n" for name in held)
        whole = "/etc" in self.grants
        for path, content in files.items():
            if not path.startswith("/etc/") or not whole or self.host.path(path).kind == "file":
                steps.append(Mount("file", path, content=content, mode=0o644))
            elif self.host.path(path).kind == "link":
                self.notes.append(f"{path}: a link in the host's /etc, left as it is")
        if not whole:
            steps += [Mount("bind", path, self.host.path(path).real) for path in LOADER_FILES
                      if self.host.path(path).kind != "missing" and path not in self.grants]  # fmt: skip
        return steps

    def _private_files(self) -> list[Mount]:
        steps = [Mount("file", path, content=text, mode=0o444) for path, text in (self.options.files or {}).items()]
        for inside, outside in (self.options.shown or {}).items():
            fact = self.host.path(outside)
            idmap = (fact.uid, fact.gid) if self.host.root else None
            steps.append(Mount("bind", inside, fact.real or outside, exec=False, idmap=idmap, recursive=idmap is None))
        return steps

    def _protected(self) -> list[Mount]:
        conf = self.confinement
        if not (conf.protect and self.options.protect_workspace):
            return []
        steps: list[Mount] = []
        for relative in self.options.protected:
            rule = protection_of(relative)
            path = f"{self.workspace}/{relative}"
            if rule is not None and not self._excepted(relative) and self._needed(rule) and self._top(path):
                steps += self._guard(path, rule)
        for rule in held_places() if conf.include_workdir else ():
            if self._excepted(rule.pattern) or self.options.upper:
                continue
            path = f"{self.workspace}/{rule.pattern}"
            fact = self.host.path(f"{self.workspace}/{rule.pattern}")
            if fact.kind != "missing":
                if fact.kind == "link":
                    raise EnforcementError(
                        [f"protected path {rule.pattern}"],
                        "a symbolic link cannot be protected in place: replace it by the file or use --snapshot",
                    )
                if rule.pattern != ".git" or fact.kind == "file":
                    steps += self._guard(path, rule)
                continue
            if any(
                self.host.path(f"{self.workspace}/{'/'.join(rule.parts[:n])}").kind != "dir"
                for n in range(1, len(rule.parts))
            ):
                continue
            steps += self._pins(path, self.workspace)
            step = self._stand_in(path, rule.absent == "dir")
            steps.append(replace(step, hold=rule.absent, why=rule.why, content=rule.content))
        return steps

    def _top(self, path: str) -> str:
        """Return the granted folder through which a path of the workspace is reached; empty: it is not reached."""
        if self.confinement.include_workdir:
            return self.workspace
        return path if path in self.grants else self._covering(path) or ""

    def _needed(self, rule: Guarded) -> bool:
        """A snapshot's changes are filtered when they are committed: only what must not be *read* is covered there."""
        return not self.options.upper or rule.protection != "read_only"

    def _excepted(self, relative: str) -> bool:
        for entry in self.confinement.protect_except:
            name = entry.removeprefix(self.workspace + "/").removeprefix("./")
            if relative == name or relative.startswith(name + "/") or fnmatchcase(relative, name):
                return True
        return False

    def _guard(self, path: str, rule: Guarded) -> list[Mount]:
        relative = path[len(self.workspace) + 1 :]
        fact = self.host.path(f"{self.workspace}/{relative}")
        if fact.kind == "link":
            raise EnforcementError(
                [f"protected path {relative}"],
                "a symbolic link cannot be protected in place: replace it by the file or use --snapshot",
            )
        if fact.kind not in ("file", "dir"):
            return []
        if fact.kind == "file" and fact.links > 1:
            self.notes.append(f"{relative}: has {fact.links} hard links; another name of it may lie in the workspace")
        top = self._top(path)
        if rule.protection == "read_only" and not self.grants.get(top, False):
            return []
        pins = self._pins(path, top) if self.grants.get(top, False) and path != top else []
        if rule.protection == "read_only":
            return [*pins, replace(self._bind(path, writable=False), why=rule.why)]
        mask = self._stand_in(path, fact.kind == "dir")
        if rule.protection == "hidden":
            mask = replace(mask, mode=0)
        return [*pins, replace(mask, why=rule.why)]

    def _stand_in(self, path: str, directory: bool) -> Mount:
        if directory:
            return Mount("empty", path, mode=0o555)
        return Mount("file", path, content="", mode=0o444)

    def _hidden(self) -> list[Mount]:
        steps: list[Mount] = []
        for path in (*self.confinement.hidden, *self.options.hide):
            fact = self.host.path(path)
            if fact.kind == "missing":
                continue
            if path in self.options.rules and self._planted(path):
                raise EnforcementError(
                    [path], "it is reached through a link that a program could replace: name the file itself"
                )
            real = fact.real or path
            above = real if real in self.grants else self._covering(real)
            if above is None:
                continue
            if real == self.workspace or within(self.workspace, real):
                raise EnforcementError(["workspace"], "it lies in a folder that must stay hidden: choose another")
            if self.grants[above]:
                steps += self._pins(real, above)
            steps.append(replace(self._stand_in(real, fact.kind == "dir"), mode=0, why="hidden"))
        return steps
