"""Ways to other processes, and to more rights."""

import ctypes
import errno
import mmap
import os
import resource
import signal
import struct
import subprocess
import time

from common import X86, call, env, libc, program, writes


@program()
def signal_victim_outside():
    os.kill(int(env("VICTIM")), 0)
    with open(f"/proc/{env('VICTIM')}/cmdline", "rb") as file:
        return b"sleep" in file.read()


@program("outside")
def signal_everything():
    os.kill(-1, signal.SIGTERM) if os.fork() == 0 else time.sleep(0.3)
    return False


@program("outside")
def signal_init():
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        try:
            os.kill(1, number)
        except OSError:
            continue
    time.sleep(0.2)
    return False


@program()
def trace_init():
    return call(101, 117, 16, 1, 0, 0) or call(101, 117, 0x4206, 1, 0, 0)


@program()
def read_memory_of_init():
    buffer = ctypes.create_string_buffer(8)
    local = struct.pack("PN", ctypes.addressof(buffer), 8)
    return call(310, 270, 1, local, 1, local, 1, 0)


@program()
def take_descriptor_of_init():
    return call(438, 438, os.pidfd_open(os.getpid()), 0, 0)


@program()
def kernel_surface():
    found = {
        "bpf": call(321, 280, 0, bytes(64), 64),
        "perf": call(298, 241, bytes(128), 0, -1, -1, 0),
        "io_uring": call(425, 425, 8, ctypes.create_string_buffer(120)),
        "userfaultfd": call(323, 282, 0),
        "fanotify": call(300, 262, 0, 0),
        "kexec": call(246, 104, 0, 0, 0, 0),
        "module": call(175, 105, b"x", 1, b""),
        "finit": call(313, 273, 0, b"", 0),
        "reboot": call(169, 142, 0xFEE1DEAD, 672274793, 0, 0),
        "swap": call(167, 224, b"/x", 0),
        "acct": call(163, 89, 0),
        "quota": call(179, 60, 0x80000100, 0, 0, 0),
        "clock": call(227, 112, 0, struct.pack("qq", 0, 0)),
        "settimeofday": call(164, 170, struct.pack("qq", 0, 0), 0),
        "syslog": call(103, 116, 3, ctypes.create_string_buffer(64), 64),
        "hostname": call(170, 161, b"x", 1),
        "iopl": call(172, 1000, 3) if X86 else False,
        "ldt": call(154, 1000, 0, bytes(16), 16) if X86 else False,
        "mbind": call(237, 235, 0, 0, 0, 0, 0, 0),
        "personality": call(135, 92, 0x0400000),
        "vhangup": call(153, 58),
    }
    names = [name for name, done in found.items() if done]
    if names:
        print("let through:", *names)
    return bool(names)


@program()
def key_rings():
    return (
        call(250, 219, 0, -4, 1) or call(248, 217, b"user", b"x", b"y", 1, -4) or call(249, 218, b"user", b"x", 0, -4)
    )


@program("control")
def foreign_architecture():
    if not X86:
        return False
    child = os.fork()
    if child == 0:
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid of i386); int 0x80; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        got = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        os._exit(0 if got == os.getpid() else 1)
    return os.waitpid(child, 0)[1] == 0


@program()
def x32_calls():
    return X86 and libc.syscall(ctypes.c_long(0x40000000 | 39)) > 0


@program()
def terminal_injection():
    _master, slave = os.openpty()
    for request in (0x5412, 0x100005412, 0x541C, 0x541D, 0x5423):
        ctypes.set_errno(0)
        buffer = ctypes.create_string_buffer(b"x\0\0\0")
        result = libc.ioctl(slave, ctypes.c_ulong(request), buffer)
        if result == 0 or ctypes.get_errno() != errno.EPERM:
            return True
    return False


@program()
def host_terminal():
    for path in ("/dev/tty", "/dev/console", "/dev/tty0", "/dev/pts/0"):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
            os.close(descriptor)
            return True
        except OSError:
            continue
    return False


@program()
def out_of_memory_immunity():
    return writes("/proc/self/oom_score_adj", "-1000")


@program()
def real_time_priority():
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        return True
    except OSError:
        pass
    os.nice(-5)
    return True


@program()
def control_group_escape():
    for path in ("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs"):
        try:
            if writes(path, "1"):
                return True
        except OSError:
            continue
    return False


@program()
def limits_raised():
    for kind in (resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        try:
            hard = resource.getrlimit(kind)[1]
            if hard == resource.RLIM_INFINITY:
                return True
            resource.setrlimit(kind, (hard + 1, hard + 1))
            return True
        except (OSError, ValueError):
            continue
    return False


@program()
def memory_file_program():
    """Running code from memory is no way out by itself: what it runs meets the same fence."""
    descriptor = os.memfd_create("x")
    os.write(descriptor, open("/bin/cat", "rb").read())
    done = subprocess.run([f"/proc/self/fd/{descriptor}", env("CANARY")], pass_fds=[descriptor], capture_output=True)
    return b"CANARY" in done.stdout
