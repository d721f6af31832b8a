"""Ways through mounts and name spaces."""

import ctypes
import os
import signal
import struct
import subprocess
import time

from common import WS, X86, call, libc, program


@program()
def mount_calls():
    calls = [
        call(165, 40, b"x", WS.encode(), b"tmpfs", 0, 0),
        call(165, 40, 0, (WS + "/.git/hooks").encode(), 0, 32 | 4096, 0),
        call(166, 39, (WS + "/.git/hooks").encode(), 2),
        call(428, 428, -100, WS.encode(), 1),
        call(429, 429, -100, b"", -100, b"", 0),
        call(430, 430, b"tmpfs", 0),
        call(442, 442, -100, WS.encode(), 0, bytes(32), 32),
        call(155, 41, b".", b"."),
        call(161, 51, WS.encode()),
    ]
    return any(calls)


@program()
def new_name_spaces():
    for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000, 0x80):
        if call(272, 97, flag):
            return True
    return False


@program()
def clone_with_name_space():
    pid = libc.syscall(
        ctypes.c_long(56 if X86 else 220), ctypes.c_long(0x10000000 | signal.SIGCHLD), *[ctypes.c_long(0)] * 4
    )
    if pid == 0:
        os._exit(0)
    return pid > 0


@program()
def clone3_call():
    arguments = struct.pack("=11Q", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0)
    pid = libc.syscall(ctypes.c_long(435), ctypes.c_char_p(arguments), ctypes.c_long(len(arguments)))
    if pid == 0:
        os._exit(0)
    return pid > 0


@program()
def join_name_space():
    return call(308, 268, os.open("/proc/self/ns/mnt", os.O_RDONLY), 0)


@program()
def becomes_root():
    for function in (
        lambda: os.setuid(0),
        lambda: os.setresuid(0, 0, 0),
        lambda: os.setgid(0),
        lambda: os.setgroups([0]),
    ):
        try:
            function()
            return True
        except OSError:
            continue
    return False


@program()
def capabilities_held():
    status = open("/proc/self/status").read()
    sets = [line.split()[1] for line in status.splitlines() if line.startswith("Cap")]
    return any(int(value, 16) for value in sets) or "NoNewPrivs:\t1" not in status


@program()
def setuid_program():
    for path in ("/usr/bin/su", "/usr/bin/passwd", "/usr/bin/chsh", "/usr/bin/mount"):
        if os.path.exists(path):
            child = subprocess.Popen(
                [path], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(0.1)
            try:
                uids = next(line for line in open(f"/proc/{child.pid}/status") if line.startswith("Uid:")).split()[1:]
            except (OSError, StopIteration):
                uids = ["-"]
            child.kill()
            child.wait()
            if "0" in uids:
                return True
    return False


@program("outside", "control")
def setuid_file_left_behind():
    path = WS + "/left-behind"
    with open(path, "w") as file:
        file.write("#!/bin/sh\n")
    os.chmod(path, 0o4755)
    return bool(os.stat(path).st_mode & 0o4000)


@program("outside")
def setuid_file_by_other_calls():
    path = WS + "/left-behind-2"
    for attempt in (
        lambda: os.close(os.open(path + "a", os.O_CREAT | os.O_WRONLY, 0o6755)),
        lambda: os.fchmod(os.open(path + "b", os.O_CREAT | os.O_WRONLY), 0o4755),
        lambda: os.mknod(path + "c", 0o104755),
        lambda: os.mkdir(path + "d", 0o2755),
        lambda: call(452, 452, -100, (path + "a").encode(), 0o4755, 0),
        lambda: call(437, 437, -100, (path + "e").encode(), struct.pack("=QQQ", 0o101, 0o4755, 0), 24),
    ):
        try:
            attempt()
        except OSError:
            continue
    found = [os.stat(path + end).st_mode for end in "abcde" if os.path.exists(path + end)]
    return any(mode & 0o6000 for mode in found)


@program()
def file_capability():
    path = WS + "/capable"
    open(path, "w").close()
    os.setxattr(path, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    return True
