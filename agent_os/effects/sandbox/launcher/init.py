"""Process 1 of a sandbox: builds it from inside, forks the worker, passes signals on, reaps, and ends with the worker.

Its end is the end of everything inside. It keeps no capability once the worker runs, and the same system call filter.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import termios

from agent_os.effects.sandbox.launcher import wire
from agent_os.effects.sandbox.launcher.kernel import (
    CLONE_NEWCGROUP,
    CLONE_NEWNET,
    CLONE_NEWUTS,
    PR_SET_DUMPABLE,
    PR_SET_SECUREBITS,
    StageError,
    call,
    check,
    libc,
    prctl,
    write_file,
)
from agent_os.effects.sandbox.launcher.network import build_network, send_listeners
from agent_os.effects.sandbox.launcher.root import build_root
from agent_os.effects.sandbox.launcher.worker import drop_capabilities, load_filter, work


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
        become(plan)
        prctl(PR_SET_DUMPABLE, 0)
        if plan["own_cgroup"]:
            stage[0] = "cgroup-namespace"
            check(libc.unshare(ctypes.c_int(CLONE_NEWCGROUP)), "unshare")
        if plan["flags"] & CLONE_NEWUTS:
            stage[0] = "uts-namespace"
            socket.sethostname(plan["host_name"])
        stage[0] = "limits"
        bound_name_spaces(plan)
        listeners = []
        if plan["flags"] & CLONE_NEWNET:
            stage[0] = "network"
            listeners = build_network(plan["network"])
        stage[0] = "private-root"
        build_root(plan, trees, stage)
        terminal = None
        if request["terminal"]:
            stage[0] = "terminal"
            terminal = open_terminal(request["terminal"], control)
        if plan["network"]["guarded"]:
            stage[0] = "guard"
            start_anchor(plan)
            send_listeners(control, listeners)
            if not control.recv(wire.MESSAGE_BYTES_MAX):
                os._exit(1)
        stage[0] = "worker"
        os.chdir(plan["cwd"])
        run_worker(request, control, stdio, terminal)
    except StageError as error:
        wire.report(control, error)
    except OSError as error:
        wire.report(control, StageError(stage[0], error.errno or 0, str(error.filename or "")))
    except BaseException as error:
        wire.report(control, StageError(stage[0], 0, f"{type(error).__name__}: {error}"))
    os._exit(1)


def become(plan):
    """Take the sandbox's ids; capabilities in the new name space stay until they are dropped."""
    prctl(PR_SET_SECUREBITS, 0b1100 | 0b10000)
    try:
        os.setgroups([])
    except PermissionError:
        pass  # denied for ordinary users, whose supplementary groups then stay unmapped and are theirs anyway
    os.setresgid(plan["gid"], plan["gid"], plan["gid"])
    os.setresuid(plan["uid"], plan["uid"], plan["uid"])


def bound_name_spaces(plan):
    """No further user name spaces, and a small range of pids; a second fence, so a kernel without them is fine."""
    for path, value in (("/proc/sys/user/max_user_namespaces", 0), ("/proc/sys/kernel/pid_max", plan["pid_max"])):
        if value or path.endswith("namespaces"):
            with contextlib.suppress(OSError):
                write_file(path, str(value))


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


def open_terminal(size, control):
    """A terminal of the sandbox's own devpts; its master goes to the supervisor."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    wire.say(control, "terminal", descriptors=[master])
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
                wire.say(control, "ready")
            elif not pass_on(control, worker):
                os._exit(1)
        status, usage = reap(worker)
    wire.say(control, "exit", status, int((usage.ru_utime + usage.ru_stime) * 1e6), usage.ru_maxrss)
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
        data = control.recv(wire.MESSAGE_BYTES_MAX)
    except OSError:
        return False
    if not data:
        return False
    word, _, number = data.partition(b"\0")
    if word != b"signal" or not number.isdigit():
        return False
    with contextlib.suppress(OSError):
        os.kill(-worker, int(number))
    return True
