"""One start, seen from outside the sandbox: trees, name spaces, id maps, control groups; then process 1 is let go."""

import contextlib
import os
import signal
import socket

from agent_os.effects.sandbox.launcher import wire
from agent_os.effects.sandbox.launcher.init import init
from agent_os.effects.sandbox.launcher.kernel import StageError, clone, write_file
from agent_os.effects.sandbox.launcher.trees import clone_tree, transient_spaces


def start(request, descriptors, spaces=None):
    """Start one sandbox. `descriptors`: control socket, then stdin, stdout, stderr (absent with a terminal)."""
    plan = request["plan"]
    control = socket.socket(fileno=descriptors[0])
    root = plan["transient"]
    host_uid, host_gid = plan["host_uid"], plan["host_gid"]
    trees = {}
    stage = "identity"
    try:
        if root:
            spaces = spaces or transient_spaces()
            host_uid, host_gid = spaces.uid, spaces.gid
            for index, step in enumerate(plan["mounts"]):
                if step["kind"] in (wire.BIND, wire.OVERLAY):
                    stage = f"private-root: {step['source']}"
                    trees[index] = clone_tree(step, spaces)
                if step["kind"] == wire.OVERLAY:
                    trees[-1 - index] = clone_tree({**step, "source": step["upper"]}, spaces)
        stage = "namespaces"
        go_read, go_write = os.pipe2(os.O_CLOEXEC)
        pid = clone(plan["flags"])
        if pid == 0:
            os.close(go_write)
            init(request, control, descriptors[1:], trees, go_read)
            os._exit(1)
        os.close(go_read)
        try:
            stage = "process handle"
            pidfd = os.pidfd_open(pid)
            stage = "cgroup"
            for path in request["cgroups"]:
                write_file(path, str(pid))
            stage = "id maps"
            if not root:
                write_file(f"/proc/{pid}/setgroups", "deny")
            write_file(f"/proc/{pid}/uid_map", f"{plan['uid']} {host_uid} 1")
            write_file(f"/proc/{pid}/gid_map", f"{plan['gid']} {host_gid} 1")
            stage = "report"
            told = [pidfd]
            with contextlib.suppress(OSError):  # a kernel without it
                told.append(os.open(f"/proc/{pid}/net/snmp", os.O_RDONLY | os.O_CLOEXEC))
            wire.say(control, "started", pid, host_uid, descriptors=told)
            for descriptor in told:
                os.close(descriptor)
            os.write(go_write, b"g")
        except OSError:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            os.close(go_write)
    except OSError as error:
        wire.report(control, StageError(stage, error.errno or 0, str(error.filename or "")))
    finally:
        for tree in trees.values():
            os.close(tree)  # the init has its own copies
        if spaces:
            spaces.close()
        control.close()
        for descriptor in descriptors[1:]:
            os.close(descriptor)
