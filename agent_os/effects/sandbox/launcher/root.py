"""The private root: a tmpfs, the plan's mounts on it in order, then pivot. Runs in process 1, in its own mount name space.

Every place is opened part by part without following links, below the root's own descriptor (`RESOLVE_BENEATH`).
"""

import contextlib
import ctypes
import os
import stat

from agent_os.effects.sandbox.launcher import wire
from agent_os.effects.sandbox.launcher.kernel import (
    AT_EMPTY_PATH,
    ATTR_NODEV,
    ATTR_NOEXEC,
    ATTR_NOSUID,
    ATTR_RDONLY,
    MOVE_FROM_EMPTY,
    MOVE_TO_EMPTY,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    OPEN_TREE_CLONE,
    RESOLVE_BENEATH,
    call,
    check,
    libc,
    mount,
    openat2,
    set_attributes,
)
from agent_os.effects.sandbox.launcher.trees import clone_tree

ROOT_BYTES, ROOT_INODES = 4 * 1024 * 1024, 20_000


class Root:
    """The private root while it is built: a tmpfs, and which file systems are ours to create places in."""

    def __init__(self, base):
        mount("sandbox", base, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=755,size={ROOT_BYTES},nr_inodes={ROOT_INODES}")
        self.descriptor = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.ours = {os.fstat(self.descriptor).st_dev}
        self.staged = {}
        self.near, self.near_descriptor = "?", -1

    def open(self, target, make):
        """Return a descriptor of `target`; missing parts are created where the file system is ours. `make`: dir, file."""
        head, _, name = target.rpartition("/")
        if head == self.near:
            here, parts = os.dup(self.near_descriptor), [name]
        else:
            here, parts = os.dup(self.descriptor), [part for part in target.split("/") if part]
        try:
            for index, part in enumerate(parts):
                last = index == len(parts) - 1
                if last and head and head != self.near:
                    self.remember(head, here)
                try:
                    there = openat2(here, part, os.O_PATH | os.O_NOFOLLOW, RESOLVE_BENEATH)
                except FileNotFoundError:
                    if os.fstat(here).st_dev not in self.ours:
                        raise
                    if last and make == "file":
                        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444, dir_fd=here))
                    else:
                        os.mkdir(part, 0o755, dir_fd=here)
                    there = openat2(here, part, os.O_PATH | os.O_NOFOLLOW, RESOLVE_BENEATH)
                os.close(here)
                here = there
            return here
        except OSError:
            os.close(here)
            raise

    def remember(self, folder, descriptor):
        """Keep the folder that was looked into last: its neighbours come next."""
        self.covered("")
        self.near, self.near_descriptor = folder, os.dup(descriptor)

    def covered(self, target):
        """Something was mounted at `target`: a kept descriptor below it would show what lies underneath."""
        if self.near_descriptor >= 0 and (self.near + "/").startswith(target + "/" if target else ""):
            os.close(self.near_descriptor)
            self.near, self.near_descriptor = "?", -1

    def parent(self, target):
        """Return (descriptor of the parent directory, last name)."""
        head, _, name = target.rpartition("/")
        return self.open(head, "dir"), name


def build_root(plan, trees, stage):
    """Carry out the mount steps in order, then make the root read-only and pivot into it."""
    mount("none", "/", "", MS_REC | MS_PRIVATE, "")
    prepared = dict(trees)
    for index, step in enumerate(plan["mounts"]):
        if step["kind"] in (wire.BIND, wire.OVERLAY) and index not in prepared:
            stage[0] = f"private-root: {step['source']}"
            prepared[index] = clone_tree(step, None)
            if step["kind"] == wire.OVERLAY:
                prepared[-1 - index] = clone_tree({**step, "source": step["upper"]}, None)
    stage[0] = "private-root"
    base = next(path for path in ("/tmp", "/run", "/mnt", "/var") if os.path.isdir(path))
    root = Root(base)
    for index, step in enumerate(plan["mounts"]):
        stage[0] = f"private-root: {step['target']}"
        if step["kind"] == wire.OVERLAY:
            overlay(root, base, step, prepared[index], prepared[-1 - index])
        else:
            build_step(root, step, prepared.get(index))
        root.covered(step["target"])
    stage[0] = "private-root"
    for (folder, _content, _mode), name in root.staged.items():
        (os.rmdir if folder else os.unlink)(name, dir_fd=root.descriptor)
    set_attributes(root.descriptor, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, recursive=False)
    os.fchdir(root.descriptor)
    stage[0] = "pivot"
    call("pivot_root", ctypes.c_char_p(b"."), ctypes.c_char_p(b"."))
    check(libc.umount2(ctypes.c_char_p(b"."), ctypes.c_int(2)), "umount")
    os.chdir("/")
    os.close(root.descriptor)


def build_step(root, step, tree):
    """One step of the private root."""
    kind, target = step["kind"], step["target"]
    if kind == wire.LINK:
        parent, name = root.parent(target)
        with contextlib.suppress(FileExistsError):
            os.symlink(step["source"], name, dir_fd=parent)
        os.close(parent)
        return
    if kind == wire.FOLDER:
        os.close(root.open(target, "dir"))
        return
    if kind in (wire.FILE, wire.EMPTY):
        private_file(root, step)
        return
    if kind == wire.PIN:
        place = root.open(target, "")
        tree = call("open_tree", place, ctypes.c_char_p(b""), OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH)
        set_attributes(tree, 0, recursive=False)
        call("move_mount", tree, ctypes.c_char_p(b""), place, ctypes.c_char_p(b""), MOVE_FROM_EMPTY | MOVE_TO_EMPTY)
        os.close(tree)
        os.close(place)
        return
    is_file = kind == wire.BIND and not stat.S_ISDIR(os.fstat(tree).st_mode)
    place = root.open(target, "file" if is_file else "dir")
    if kind == wire.BIND:
        call("move_mount", tree, ctypes.c_char_p(b""), place, ctypes.c_char_p(b""), MOVE_FROM_EMPTY | MOVE_TO_EMPTY)
        os.close(tree)
    else:
        mount(step["source"], f"/proc/self/fd/{place}", step["source"], step["attributes"], step["data"].decode())
        if step["options"] & wire.WRITABLE:
            again = root.open(target, "dir")
            root.ours.add(os.fstat(again).st_dev)
            os.close(again)
    os.close(place)


def overlay(root, base, step, lower, upper):
    """The workspace with its changes kept apart. The layers are attached for a moment: the overlay keeps its own copies."""
    places = []
    for name, tree in ((".lower", lower), (".upper", upper)):
        os.mkdir(name, 0o700, dir_fd=root.descriptor)
        place = openat2(root.descriptor, name, os.O_PATH, RESOLVE_BENEATH)
        call("move_mount", tree, ctypes.c_char_p(b""), place, ctypes.c_char_p(b""), MOVE_FROM_EMPTY | MOVE_TO_EMPTY)
        os.close(place)
        os.close(tree)
        places.append(name)
    place = root.open(step["target"], "dir")
    data = f"lowerdir={base}/.lower,upperdir={base}/.upper/upper,workdir={base}/.upper/work,userxattr"
    mount("overlay", f"/proc/self/fd/{place}", "overlay", MS_NOSUID | MS_NODEV, data)
    os.close(place)
    for name in places:
        check(libc.umount2(ctypes.c_char_p(f"{base}/{name}".encode()), ctypes.c_int(2)), "umount")
        os.rmdir(name, dir_fd=root.descriptor)


def private_file(root, step):
    """A small file or empty folder of our own: made in place, or mounted over what is there already."""
    parent, name = root.parent(step["target"])
    folder, content, mode = step["kind"] == wire.EMPTY, step["data"], step["mode"]
    try:
        if os.fstat(parent).st_dev in root.ours:
            try:
                make(parent, name, folder, content, mode)
                return
            except FileExistsError:
                pass
        label = root.staged.setdefault((folder, content, mode), f".staged-{len(root.staged)}")
        try:
            make(root.descriptor, label, folder, content, mode)
        except FileExistsError:
            pass  # one stand-in serves every place that looks like it
        place = openat2(parent, name, os.O_PATH | os.O_NOFOLLOW, RESOLVE_BENEATH)
        source = openat2(root.descriptor, label, os.O_PATH, RESOLVE_BENEATH)
        tree = call("open_tree", source, ctypes.c_char_p(b""), OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH)
        set_attributes(tree, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC, recursive=False)
        call("move_mount", tree, ctypes.c_char_p(b""), place, ctypes.c_char_p(b""), MOVE_FROM_EMPTY | MOVE_TO_EMPTY)
        for descriptor in (place, source, tree):
            os.close(descriptor)
    finally:
        os.close(parent)


def make(parent, name, folder, content, mode):
    """Create an empty folder or a file with content; raises FileExistsError."""
    if folder:
        os.mkdir(name, 0o700, dir_fd=parent)
        os.chmod(f"/proc/self/fd/{parent}/{name}", mode)
        return
    flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_EXCL
    descriptor = os.open(name, flags, 0o600, dir_fd=parent)
    os.write(descriptor, content)
    os.fchmod(descriptor, mode)
    os.close(descriptor)
