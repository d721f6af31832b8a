"""The launcher: a small process that turns a sandbox plan (JSON) into a confined program. Standard library alone.

It is started as `python3 -I -S launcher.py FD` with an empty environment and imports nothing of the agent's world. On the
socket FD come requests (a length, JSON, descriptors); each starts one sandbox, so that a warm launcher costs no interpreter
start. What it does for one request, in this order (each step would be undone or be too late in another):

    launcher  mount trees cloned and owner-mapped (as root) -> clone with name spaces -> id maps, cgroups -> "go"
    init      ids, host name, network and listeners -> private root, pivot -> terminal -> fork; then only waits
    worker    session, limits, descriptors, key ring, capabilities, no_new_privs, Landlock, seccomp LAST, exec

The init is process 1 of the sandbox: when it ends, the kernel kills everything inside. It ends with the worker, and when
the control socket breaks off (the supervisor died). A step that fails is reported with its name and nothing is run.

It may not decide anything: what to mount, filter and allow stands in the plan. Threat: the request is trusted (our own
process made it); the paths it names are not (a sandbox may race for them), hence `openat2` without links everywhere.
"""

import base64
import contextlib
import ctypes
import errno
import fcntl
import gc
import json
import os
import resource
import secrets
import select
import signal
import socket
import stat
import struct
import sys
import termios

REQUEST_BYTES_MAX = 4 * 1024 * 1024
REQUEST_FDS_MAX = 16
MESSAGE_BYTES_MAX = 65536
CAPABILITIES_MAX = 64
TRANSIENT_IDS_FROM, TRANSIENT_IDS = 0x70000000, 0x0F000000
ROOT_BYTES, ROOT_INODES = 4 * 1024 * 1024, 20_000

libc = ctypes.PyDLL(None, use_errno=True)
ARM = os.uname().machine == "aarch64"
NR = {
    "clone": 220 if ARM else 56,
    "pivot_root": 41 if ARM else 155,
    "keyctl": 219 if ARM else 250,
    "capset": 91 if ARM else 126,
    "open_tree": 428,
    "move_mount": 429,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}
CLONE = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 0x4000, 1 << 18
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC, ATTR_IDMAP = 1, 2, 4, 8, 0x100000
AT_EMPTY_PATH, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW = 0x1000, 0x8000, 0x100
OPEN_TREE_CLONE = 1
MOVE_FROM_EMPTY, MOVE_TO_EMPTY = 0x4, 0x40
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 2, 4, 8
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 4, 24, 28, 38
PR_SET_CHILD_SUBREAPER = 36
PR_SET_SECCOMP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 22, 47, 4
SECURE_BITS_LOCKED = 0xEF
FILE_ACCESS = 1 | 2 | 4 | 1 << 14 | 1 << 15  # what Landlock knows of plain files


class StageError(Exception):
    """A step failed: `stage` names it, `number` is the errno (0: none)."""

    def __init__(self, stage, number=0, detail=""):
        self.stage, self.number, self.detail = stage, number, detail
        super().__init__(f"{stage}: {os.strerror(number) if number else ''} {detail}".strip())


def call(name, *arguments):
    """Make a raw system call; raises OSError."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(NR[name]), *converted)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


libc.syscall.restype = ctypes.c_long


def check(result, what):
    """Raise OSError when a C function answered -1."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def prctl(option, a=0, b=0, c=0, d=0):
    """prctl(2); raises OSError."""
    check(libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(x) for x in (a, b, c, d))), f"prctl {option}")


def clone(flags):
    """fork(2) with name space flags; returns the pid, 0 in the child. The caller is single-threaded."""
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = libc.syscall(ctypes.c_long(NR["clone"]), ctypes.c_long(flags | signal.SIGCHLD), *[ctypes.c_long(0)] * 4)
    number = ctypes.get_errno()
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, os.strerror(number), "clone")
    return pid


def openat2(directory, path, flags, resolve):
    """Open without following any link; `path` is relative to the descriptor unless absolute and BENEATH is unset."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS)
    return call("openat2", directory, ctypes.c_char_p(os.fsencode(path)), ctypes.c_char_p(how), len(how))


def set_attributes(descriptor, attributes, *, recursive, user_namespace=-1):
    """mount_setattr(2) on a mount tree, which becomes private as well."""
    attr = struct.pack("=QQQQ", attributes, 0, MS_PRIVATE, user_namespace if user_namespace >= 0 else 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    call("mount_setattr", descriptor, ctypes.c_char_p(b""), flags, ctypes.c_char_p(attr), len(attr))


def mount(source, target, kind, flags, data):
    """mount(2); raises OSError."""
    check(
        libc.mount(
            ctypes.c_char_p(source.encode()),
            ctypes.c_char_p(os.fsencode(target)),
            ctypes.c_char_p(kind.encode()) if kind else None,
            ctypes.c_ulong(flags),
            ctypes.c_char_p(data.encode()) if data else None,
        ),
        f"mount {kind}",
    )


def write_file(path, text):
    """Write to a kernel file in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------------------------------- launcher side


def clone_tree(step, id_space):
    """Return a detached copy of a bind's source with its flags set; `id_space(uid, gid)` gives a user name space."""
    recursive = step["recursive"]
    source = openat2(-100, step["source"], os.O_PATH, 0)
    try:
        flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
        tree = call("open_tree", source, ctypes.c_char_p(b""), flags)
    finally:
        os.close(source)
    attributes = ATTR_NOSUID
    attributes |= 0 if step["writable"] else ATTR_RDONLY
    attributes |= 0 if step["devices"] else ATTR_NODEV
    attributes |= 0 if step["exec"] else ATTR_NOEXEC
    idmap = step.get("idmap")
    if idmap and id_space:
        set_attributes(tree, attributes | ATTR_IDMAP, recursive=recursive, user_namespace=id_space(*idmap))
    else:
        set_attributes(tree, attributes, recursive=recursive)
    return tree


class IdSpaces:
    """User name spaces that only carry an owner mapping (host id -> the sandbox's transient id) for idmapped mounts."""

    def __init__(self, uid, gid):
        self.uid, self.gid, self.known = uid, gid, {}

    def __call__(self, uid, gid):
        if (uid, gid) not in self.known:
            hold_read, hold_write = os.pipe2(os.O_CLOEXEC)
            pid = clone(CLONE["user"])
            if pid == 0:
                os.close(hold_write)
                os.read(hold_read, 1)
                os._exit(0)
            try:
                write_file(f"/proc/{pid}/uid_map", f"{uid} {self.uid} 1")
                write_file(f"/proc/{pid}/gid_map", f"{gid} {self.gid} 1")
                self.known[uid, gid] = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                os.close(hold_read)
                os.close(hold_write)
        return self.known[uid, gid]

    def close(self):
        for descriptor in self.known.values():
            os.close(descriptor)


def transient_spaces():
    """Draw the transient id of one sandbox and return its owner mappings; the usual one is made at once."""
    transient = TRANSIENT_IDS_FROM + secrets.randbelow(TRANSIENT_IDS)
    spaces = IdSpaces(transient, transient)
    spaces(0, 0)
    return spaces


def start(request, descriptors, spaces=None):
    """Start one sandbox. `descriptors`: control socket, then stdin, stdout, stderr (absent with a terminal)."""
    plan = request["plan"]
    control = socket.socket(fileno=descriptors[0])
    identity = plan["identity"]
    root = identity["host_uid"] is None
    host_uid, host_gid = identity["host_uid"], identity["host_gid"]
    trees = {}
    stage = "identity"
    try:
        if root:
            spaces = spaces or transient_spaces()
            host_uid, host_gid = spaces.uid, spaces.gid
            for index, step in enumerate(plan["mounts"]):
                if step["kind"] in ("bind", "overlay"):
                    stage = f"private-root: {step['source']}"
                    trees[index] = clone_tree(step, spaces)
                if step["kind"] == "overlay":
                    trees[-1 - index] = clone_tree({**step, "source": step["upper"]}, spaces)
        stage = "namespaces"
        flags = 0
        for name in plan["namespaces"]:
            flags |= CLONE[name] if name != "cgroup" else 0
        go_read, go_write = os.pipe2(os.O_CLOEXEC)
        pid = clone(flags)
        if pid == 0:
            os.close(go_write)
            init(request, control, descriptors[1:], trees, go_read)
            os._exit(1)
        os.close(go_read)
        try:
            stage = "process handle"
            pidfd = os.pidfd_open(pid)
            stage = "cgroup"
            for path in request.get("cgroups", ()):
                write_file(path, str(pid))
            stage = "id maps"
            if not root:
                write_file(f"/proc/{pid}/setgroups", "deny")
            write_file(f"/proc/{pid}/uid_map", f"{identity['uid']} {host_uid} 1")
            write_file(f"/proc/{pid}/gid_map", f"{identity['gid']} {host_gid} 1")
            stage = "report"
            message = json.dumps({"type": "started", "pid": pid, "host_uid": host_uid}).encode()
            socket.send_fds(control, [message], [pidfd])
            os.close(pidfd)
            os.write(go_write, b"g")
        except OSError:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            os.close(go_write)
    except OSError as error:
        report(control, StageError(stage, error.errno or 0, str(error.filename or "")))
    finally:
        for tree in trees.values():
            os.close(tree)  # the init has its own copies
        if spaces:
            spaces.close()
        control.close()
        for descriptor in descriptors[1:]:
            os.close(descriptor)


def report(control, error):
    """Tell the supervisor which step failed."""
    form = {"type": "error", "stage": error.stage, "errno": error.number, "detail": error.detail}
    with contextlib.suppress(OSError):
        control.send(json.dumps(form).encode())


# ---------------------------------------------------------------------------------------------- inside: process 1


def init(request, control, stdio, trees, go_read):
    """Process 1 of the sandbox: build, fork the worker, wait, end."""
    stage = ["start"]
    try:
        plan = request["plan"]
        if os.read(go_read, 1) != b"g":
            os._exit(1)
        os.close(go_read)
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
        stage[0] = "identity"
        become(plan["identity"])
        prctl(PR_SET_DUMPABLE, 0)
        if "cgroup" in plan["namespaces"]:
            stage[0] = "cgroup-namespace"
            check(libc.unshare(ctypes.c_int(CLONE["cgroup"])), "unshare")
        if "uts" in plan["namespaces"]:
            stage[0] = "uts-namespace"
            socket.sethostname(plan["host_name"])
        stage[0] = "limits"
        bound_name_spaces(plan)
        if "network" in plan["namespaces"]:
            stage[0] = "network"
            listeners = build_network(plan["network"])
        stage[0] = "private-root"
        build_root(plan, trees, stage)
        terminal = None
        if request.get("terminal"):
            stage[0] = "terminal"
            terminal = open_terminal(request["terminal"], control)
        if plan["network"]["mode"] == "guarded":
            stage[0] = "guard"
            start_anchor(plan)
            send_listeners(control, listeners)
            if not control.recv(MESSAGE_BYTES_MAX):
                os._exit(1)
        stage[0] = "worker"
        os.chdir(plan["cwd"])
        run_worker(request, control, stdio, terminal)
    except StageError as error:
        report(control, error)
    except OSError as error:
        report(control, StageError(stage[0], error.errno or 0, str(error.filename or "")))
    except BaseException as error:
        report(control, StageError(stage[0], 0, f"{type(error).__name__}: {error}"))
    os._exit(1)


def become(identity):
    """Take the sandbox's ids; capabilities in the new name space stay until they are dropped."""
    prctl(PR_SET_SECUREBITS, 0b1100 | 0b10000)
    try:
        os.setgroups([])
    except PermissionError:
        pass  # denied for ordinary users, whose supplementary groups then stay unmapped and are theirs anyway
    os.setresgid(identity["gid"], identity["gid"], identity["gid"])
    os.setresuid(identity["uid"], identity["uid"], identity["uid"])


def bound_name_spaces(plan):
    """No further user name spaces, and a small range of pids; a second fence, so a kernel without them is fine."""
    for path, value in (("/proc/sys/user/max_user_namespaces", 0), ("/proc/sys/kernel/pid_max", plan["pid_max"])):
        if value or path.endswith("namespaces"):
            with contextlib.suppress(OSError):
                write_file(path, str(value))


def build_network(network):
    """Bring loopback up; for a guarded run route every address to it and return the listeners for the guard."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(probe, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING
    probe.close()
    if network["mode"] != "guarded":
        return []
    six = add_local_routes()
    listeners = []
    kinds = [(socket.AF_INET, "0.0.0.0")] + ([(socket.AF_INET6, "::")] if six else [])
    for family, anywhere in kinds:
        for port in network["tcp_ports"]:
            listeners.append(("transparent", listener(family, anywhere, port)))
        if network["dns"]:
            listeners.append(("dns-tcp", listener(family, anywhere, 53)))
            listeners.append(("dns-udp", datagram(family, anywhere, 53)))
    if network["proxy_port"]:
        listeners.append(("proxy", listener(socket.AF_INET, "127.0.0.1", network["proxy_port"])))
    return listeners


def start_anchor(plan):
    """A process that only stands for the name spaces: the guard outside may look at it, which it may not at the init.

    It holds nothing, can do nothing and waits; who takes it over has gained nothing.
    """
    pid = os.fork()
    if pid == 0:
        try:
            call("close_range", 0, 0xFFFFFFFF, 0)
            drop_capabilities()
            load_filter(plan)
            prctl(PR_SET_DUMPABLE, 1)
            while True:
                signal.pause()
        finally:
            os._exit(1)


def send_listeners(control, listeners):
    """Hand the listeners to the supervisor, in parts that fit one message."""
    for start in range(0, len(listeners), 64):
        part = listeners[start : start + 64]
        names = [{"kind": kind, "address": list(sock.getsockname()[:2])} for kind, sock in part]
        socket.send_fds(
            control,
            [json.dumps({"type": "listeners", "names": names, "last": start + 64 >= len(listeners)}).encode()],
            [s.fileno() for _, s in part],
        )
    for _, sock in listeners:
        sock.close()


def listener(family, address, port):
    """A TCP listener; refuses to share its port."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address, port))
    sock.listen(512)
    return sock


def datagram(family, address, port):
    """A UDP socket that tells to which address each datagram was sent."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, 49, 1)  # IPV6_RECVPKTINFO
    else:
        sock.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    sock.bind((address, port))
    return sock


def add_local_routes():
    """`local 0.0.0.0/0 dev lo` and `local ::/0 dev lo`; returns whether IPv6 is there."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    six = True
    for family in (socket.AF_INET, socket.AF_INET6):
        # rtmsg: family, dst_len, src_len, tos, table local, protocol boot, scope host, type local, flags
        body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 255, 3, 254, 2, 0) + struct.pack("=HHI", 8, 4, 1)
        netlink.send(struct.pack("=IHHII", 16 + len(body), 24, 0x405, 1, 0) + body)  # NEWROUTE, REQUEST|ACK|CREATE
        answer = netlink.recv(4096)
        code = struct.unpack_from("=i", answer, 16)[0]
        if code and family == socket.AF_INET:
            raise OSError(-code, os.strerror(-code), "route")
        six = six and not code
    netlink.close()
    return six


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
        if step["kind"] in ("bind", "overlay") and index not in prepared:
            stage[0] = f"private-root: {step['source']}"
            prepared[index] = clone_tree(step, None)
            if step["kind"] == "overlay":
                prepared[-1 - index] = clone_tree({**step, "source": step["upper"]}, None)
    stage[0] = "private-root"
    base = next(path for path in ("/tmp", "/run", "/mnt", "/var") if os.path.isdir(path))
    root = Root(base)
    for index, step in enumerate(plan["mounts"]):
        stage[0] = f"private-root: {step['target']}"
        if step["kind"] == "overlay":
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
    if kind == "link":
        parent, name = root.parent(target)
        with contextlib.suppress(FileExistsError):
            os.symlink(step["source"], name, dir_fd=parent)
        os.close(parent)
        return
    if kind == "dir":
        os.close(root.open(target, "dir"))
        return
    if kind in ("file", "empty"):
        private_file(root, step)
        return
    if kind == "pin":
        place = root.open(target, "")
        tree = call("open_tree", place, ctypes.c_char_p(b""), OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH)
        set_attributes(tree, 0, recursive=False)
        call("move_mount", tree, ctypes.c_char_p(b""), place, ctypes.c_char_p(b""), MOVE_FROM_EMPTY | MOVE_TO_EMPTY)
        os.close(tree)
        os.close(place)
        return
    is_file = kind == "bind" and not stat.S_ISDIR(os.fstat(tree).st_mode)
    place = root.open(target, "file" if is_file else "dir")
    if kind == "bind":
        call("move_mount", tree, ctypes.c_char_p(b""), place, ctypes.c_char_p(b""), MOVE_FROM_EMPTY | MOVE_TO_EMPTY)
        os.close(tree)
    elif kind == "tmpfs":
        flags = MS_NOSUID | MS_NODEV | (0 if step["exec"] else MS_NOEXEC) | (0 if step["writable"] else MS_RDONLY)
        data = f"mode={step['mode']:o},size={step['size']},nr_inodes={max(step['inodes'], 2)}"
        mount("sandbox", f"/proc/self/fd/{place}", "tmpfs", flags, data)
        if step["writable"]:
            again = root.open(target, "dir")
            root.ours.add(os.fstat(again).st_dev)
            os.close(again)
    elif kind == "proc":
        flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
        mount("proc", f"/proc/self/fd/{place}", "proc", flags, "hidepid=invisible,subset=pid")
    elif kind == "devpts":
        mount("devpts", f"/proc/self/fd/{place}", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    else:
        raise StageError("private-root", 0, f"unknown step {kind}")
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
    folder, content, mode = step["kind"] == "empty", step.get("content", ""), step["mode"]
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
    os.write(descriptor, content.encode())
    os.fchmod(descriptor, mode)
    os.close(descriptor)


def open_terminal(size, control):
    """A terminal of the sandbox's own devpts; its master goes to the supervisor."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size["rows"], size["columns"], 0, 0))
    socket.send_fds(control, [json.dumps({"type": "terminal"}).encode()], [master])
    os.close(master)
    return slave


def run_worker(request, control, stdio, terminal):
    """Fork the worker; then pass signals on, reap, and end with it."""
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    worker = os.fork()
    if worker == 0:
        work(request, control, stdio, terminal)
    os.close(ready_write)
    for descriptor in (*stdio, *([terminal] if terminal is not None else ())):
        os.close(descriptor)
    keep = sorted((control.fileno(), ready_read, wake_read, wake_write))
    lowest = 0
    for descriptor in keep:
        if descriptor > lowest:
            call("close_range", lowest, descriptor - 1, 0)
        lowest = descriptor + 1
    call("close_range", lowest, 0xFFFFFFFF, 0)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    drop_capabilities()
    load_filter(request["plan"])
    poller = select.poll()
    for descriptor in (control.fileno(), ready_read, wake_read):
        poller.register(descriptor, select.POLLIN)
    status, usage = None, None
    while status is None or usage is None:
        for descriptor, _event in poller.poll():
            if descriptor == wake_read:
                os.read(wake_read, 512)
            elif descriptor == ready_read:
                poller.unregister(ready_read)
                control.send(b'{"type": "ready"}')
            elif not pass_on(control, worker):
                os._exit(1)
        status, usage = reap(worker)
    form = {
        "type": "exit",
        "status": status,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "max_rss_kib": usage.ru_maxrss,
    }
    control.send(json.dumps(form).encode())
    os._exit(0)


def reap(worker):
    """Collect every dead child; returns the worker's (wait status, usage) or (None, None)."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return None, None
        if pid == 0:
            return None, None
        if pid == worker:
            return status, usage


def pass_on(control, worker):
    """Handle one message of the supervisor; False when it is gone or asks for the end."""
    try:
        data = control.recv(MESSAGE_BYTES_MAX)
    except OSError:
        return False
    if not data:
        return False
    message = json.loads(data)
    if message["type"] == "end":
        return False
    if message["type"] == "signal":
        with contextlib.suppress(OSError):
            os.kill(-worker, message["number"])
    return True


# ---------------------------------------------------------------------------------------------- inside: the worker


def work(request, control, stdio, terminal):
    """Become the program. Nothing may fail silently: each step reports its name."""
    plan, stage = request["plan"], "session"
    try:
        os.setsid()
        if terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            stdio = [terminal] * 3
        stage = "descriptors"
        safe = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in stdio]
        for number, descriptor in enumerate(safe):
            os.dup2(descriptor, number, inheritable=True)
        report_to = fcntl.fcntl(control.fileno(), fcntl.F_DUPFD_CLOEXEC, 10)
        call("close_range", 3, 0xFFFFFFFF, 4)  # CLOSE_RANGE_CLOEXEC: the report socket still speaks until exec
        control = socket.socket(fileno=report_to)
        stage = "limits"
        os.umask(0o022)
        for name, value in plan["rlimits"].items():
            kind = getattr(resource, "RLIMIT_" + name, None)
            if kind is None:
                raise StageError(stage, 0, f"unknown limit {name}")
            hard = resource.getrlimit(kind)[1]
            most = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (most, most))
        stage = "keyring"
        try:
            call("keyctl", 1, 0)
        except OSError as error:
            if error.errno != errno.ENOSYS:  # a kernel without key rings has nothing to share
                raise
        stage = "capabilities"
        drop_capabilities()
        stage = "landlock"
        restrict(plan["landlock"])
        stage = "seccomp"
        load_filter(plan)
        stage = "exec"
        os.execvpe(request["argv"][0], request["argv"], plan["environment"])
    except StageError as error:
        report(control, error)
    except OSError as error:
        report(control, StageError(stage, error.errno or 0, str(error.filename or "")))
    except BaseException as error:
        report(control, StageError(stage, 0, f"{type(error).__name__}: {error}"))
    os._exit(125)


def drop_capabilities():
    """Empty bounding, ambient, permitted, effective and inheritable sets, locked; then no_new_privs."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(CAPABILITIES_MAX):
        if libc.prctl(ctypes.c_int(PR_CAPBSET_DROP), *(ctypes.c_ulong(x) for x in (capability, 0, 0, 0))) != 0:
            if ctypes.get_errno() != errno.EINVAL or capability == 0:
                raise OSError(ctypes.get_errno(), "bounding set", f"capability {capability}")
            break
    prctl(PR_SET_SECUREBITS, SECURE_BITS_LOCKED)
    header, empty = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    call("capset", ctypes.c_char_p(header), ctypes.c_char_p(empty))
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def restrict(plan):
    """Load the Landlock ruleset. A rule whose path is gone is an error: the plan names what was built."""
    if not plan["abi"]:
        return
    size = 8 if plan["abi"] < 4 else 16 if plan["abi"] < 6 else 24
    attr = struct.pack("=QQQ", plan["handled_fs"], plan["handled_net"], plan["scoped"])[:size]
    ruleset = call("landlock_create_ruleset", ctypes.c_char_p(attr), size, 0)
    for rule in plan["rules"]:
        try:
            place = os.open(rule["path"], os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise StageError("landlock", error.errno, rule["path"]) from None
        access = rule["access"]
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= FILE_ACCESS
        call("landlock_add_rule", ruleset, 1, ctypes.c_char_p(struct.pack("=Qi", access, place)), 0)
        os.close(place)
    call("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


def load_filter(plan):
    """Install the system call filter."""
    program = base64.b64decode(plan["seccomp"])
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    holder = ctypes.create_string_buffer(header, len(header))
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(holder))


# ---------------------------------------------------------------------------------------------- requests


def receive(channel):
    """Return (request, descriptors), or None at the end of the channel."""
    head, descriptors, _flags, _address = socket.recv_fds(channel, 4, REQUEST_FDS_MAX)
    if not head:
        return None
    while len(head) < 4:
        head += channel.recv(4 - len(head))
    size = struct.unpack("=I", head)[0]
    if size > REQUEST_BYTES_MAX:
        return None
    data = bytearray()
    while len(data) < size:
        part = channel.recv(min(size - len(data), 1 << 16))
        if not part:
            return None
        data += part
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return json.loads(bytes(data)), descriptors


def main():
    """Serve requests until the channel ends."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(channel.fileno(), False)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prctl(PR_SET_DUMPABLE, 0) if os.getuid() == 0 else None
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    gc.disable()  # a collection would touch, and so copy, every page of a fork
    gc.freeze()
    seeds: dict[str, socket.socket] = {}
    while (received := receive(channel)) is not None:
        request, descriptors = received
        if "plant" in request:
            seeds[request["plant"]] = plant(request["cgroups"], channel, seeds)
        elif request.get("seed") in seeds:
            hand_over(seeds.pop(request["seed"]), request, descriptors)
        else:
            start(request, descriptors)


def plant(cgroups, channel, seeds):
    """Fork a process that goes into control groups ahead of time and waits for one request; returns its channel.

    Moving a process into a group waits for every processor of the machine; being born in one does not.
    """
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        channel.close()
        ours.close()
        for other in seeds.values():
            other.close()
        try:
            for path in cgroups:
                write_file(path, str(os.getpid()))
            spaces = transient_spaces() if os.geteuid() == 0 else None
            received = receive(theirs)
            if received is not None:
                theirs.close()
                request, descriptors = received
                start(request, descriptors, spaces)
        finally:
            os._exit(0)
    theirs.close()
    return ours


def hand_over(seed, request, descriptors):
    """Send a request on to a seed; one that is gone (its groups could not be entered) is reported as such."""
    data = json.dumps(request).encode()
    try:
        socket.send_fds(seed, [struct.pack("=I", len(data))], descriptors)
        seed.sendall(data)
    except OSError as error:
        control = socket.socket(fileno=os.dup(descriptors[0]))
        report(control, StageError("cgroup", error.errno or 0, "the prepared process is gone"))
        control.close()
    seed.close()
    for descriptor in descriptors:
        os.close(descriptor)


if __name__ == "__main__":
    main()
