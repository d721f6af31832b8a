"""What every escape program stands on: the list of them, facts of the world outside (variables `T_*`), raw system calls."""

import ctypes
import errno
import os
import platform
import socket

PROGRAMS = {}
FLAGS = {}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
X86 = platform.machine() == "x86_64"
WS = os.environ.get("T_WORKSPACE", os.getcwd())


def program(*flags):
    def take(function):
        name = function.__name__
        PROGRAMS[name], FLAGS[name] = function, flags
        return function

    return take


def env(name):
    return os.environ["T_" + name]


def call(x86, arm, *arguments):
    """A raw system call: True if the kernel did it (or got as far as judging its arguments)."""
    number = x86 if X86 else arm
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return result >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS, errno.EACCES)


def reads(path):
    with open(path, "rb") as file:
        return bool(file.read(64))


def writes(path, text="#!/bin/sh\necho planted\n"):
    with open(path, "w") as file:
        file.write(text)
    with open(path) as file:
        return file.read() == text


def connects(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as sock:
        sock.settimeout(2)
        sock.connect(address)
        return sock.recv(16) == b"CANARY"
