"""Serves requests on the launcher's socket until it closes: starts sandboxes, prepares processes for later ones."""

import gc
import os
import signal
import socket
import struct
import sys

from agent_os.effects.sandbox.launcher import wire
from agent_os.effects.sandbox.launcher.kept import take_away
from agent_os.effects.sandbox.launcher.kernel import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    StageError,
    prctl,
    write_file,
)
from agent_os.effects.sandbox.launcher.start import start
from agent_os.effects.sandbox.launcher.trees import transient_spaces


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
    kept: dict[str, tuple[int, ...]] = {}
    while (received := wire.receive(channel)) is not None:
        data, descriptors = received
        request = wire.decode(data)
        if request["kind"] == wire.PLANT:
            seeds[request["seed"]] = plant(request["cgroups"], channel, seeds)
        elif request["kind"] == wire.KEEP:
            kept[request["seed"]] = tuple(descriptors)
        elif request["kind"] == wire.FORGET:
            if request["seed"] in seeds:
                seeds.pop(request["seed"]).close()
            for descriptor in kept.pop(request["seed"], ()):
                os.close(descriptor)
        elif request["seed"]:
            hand_over(seeds.pop(request["seed"], None), data, descriptors)
        else:
            start(request, descriptors)
    for seed in seeds.values():
        seed.close()
    take_away(kept.values())


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
            received = wire.receive(theirs)
            if received is not None:
                theirs.close()
                data, descriptors = received
                start(wire.decode(data), descriptors, spaces)
        finally:
            os._exit(0)
    theirs.close()
    return ours


def hand_over(seed, data, descriptors):
    """Send a request on to a seed; one that is gone (its groups could not be entered) is reported as such."""
    try:
        if seed is None:
            raise OSError(0, "")
        socket.send_fds(seed, [struct.pack("<I", len(data))], descriptors)
        seed.sendall(data)
    except OSError as error:
        control = socket.socket(fileno=os.dup(descriptors[0]))
        wire.report(control, StageError("cgroup", error.errno or 0, "the prepared process is gone"))
        control.close()
    if seed is not None:
        seed.close()
    for descriptor in descriptors:
        os.close(descriptor)
