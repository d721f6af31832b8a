"""Escape programs: each tries one way out of the sandbox and prints ESCAPED or BLOCKED. Runs INSIDE; standard library only.

`attack.py NAME` runs one, `attack.py --list` prints a line a program: name, flags. Flags: `control` runs outside too, where
it must print ESCAPED (so that BLOCKED means the fence, not a mistake in the program); `outside` is judged by the harness as
well (the program may be killed, or the effect comes later). Facts of the world outside come in variables `T_*`.
"""

import array
import ctypes
import errno
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import subprocess
import sys
import time

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


# ------------------------------------------------------------------------------------------------ files outside


@program("control")
def read_file_outside():
    return reads(env("CANARY"))


@program("control")
def write_file_outside():
    return writes(env("OUTSIDE") + "/planted")


@program("control")
def list_folder_outside():
    return bool(os.listdir(env("OUTSIDE")))


@program("control")
def read_through_symlink():
    link = WS + "/link-to-canary"
    os.symlink(env("CANARY"), link)
    try:
        return reads(link)
    finally:
        os.unlink(link)


@program("control")
def hard_link_of_outside_file():
    link = WS + "/hard-to-canary"
    os.link(env("CANARY"), link)
    os.unlink(link)
    return True


@program("control")
def climb_with_dotdot():
    return reads(WS + "/../" * 1 + "outside/canary")


@program()
def proc_self_root():
    return reads("/proc/self/root" + env("CANARY")) or reads("/proc/self/cwd/../../../.." + env("CANARY"))


@program()
def proc_1_files():
    for name in ("environ", "cmdline", "mem", "maps", "root" + env("CANARY"), "cwd" + env("CANARY"), "fd"):
        try:
            if name == "fd":
                return bool(os.listdir("/proc/1/fd"))
            with open("/proc/1/" + name, "rb") as file:
                if file.read(16):
                    return True
        except OSError:
            continue
    return False


@program()
def proc_of_any_process():
    mine = os.getpid()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in (mine, os.getppid()):
            try:
                if b"T_SECRET_OUTSIDE" in open(f"/proc/{entry}/environ", "rb").read():
                    return True
                open(f"/proc/{entry}/root" + env("CANARY"), "rb")
                return True
            except OSError:
                continue
    return False


@program()
def inherited_descriptors():
    extra = []
    for entry in os.listdir("/proc/self/fd"):
        if int(entry) > 2:
            try:
                extra.append(os.readlink("/proc/self/fd/" + entry))
            except OSError:
                continue
    return any("/proc" not in target for target in extra) or not os.getcwd().startswith(WS)


@program()
def reopen_stdout_for_reading():
    import stat

    info = os.fstat(1)
    if stat.S_ISFIFO(info.st_mode):
        return False
    return os.open("/proc/self/fd/1", os.O_RDWR) >= 0


@program()
def file_handle():
    handle = struct.pack("Ii", 128, 0) + bytes(128)
    buffer = ctypes.create_string_buffer(handle, len(handle))
    mount_id = ctypes.c_int()
    made = call(303, 264, -100, ctypes.c_char_p(WS.encode()), buffer, ctypes.byref(mount_id), 0)
    opened = call(304, 265, -100, buffer, 0)
    return made or opened


@program()
def state_directory():
    return reads(env("STATE") + "/marker") or bool(os.listdir(env("STATE")))


@program("control")
def policy_file_read():
    return reads(WS + "/policy.yaml")


@program("control")
def policy_file_write():
    return writes(WS + "/policy.yaml", "version: 1\n")


@program()
def policy_file_replace():
    writes(WS + "/other.yaml", "version: 1\n")
    os.replace(WS + "/other.yaml", WS + "/policy.yaml")
    return True


@program()
def system_folders_written():
    for path in ("/usr/bin/planted", "/etc/planted", "/planted", "/usr/lib/planted", "/bin/planted"):
        try:
            if writes(path):
                return True
        except OSError:
            continue
    return False


@program()
def passwd_changed():
    return writes("/etc/passwd", "root::0:0::/:/bin/sh\n")


@program()
def sys_tree():
    return os.path.exists("/sys/kernel") or os.path.exists("/sys/fs/cgroup")


@program()
def core_pattern():
    return writes("/proc/sys/kernel/core_pattern", "|/tmp/x")


@program()
def proc_machine_files():
    for path in (
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/modprobe",
        "/proc/kcore",
        "/proc/kmsg",
        "/proc/sys/vm/drop_caches",
    ):
        try:
            os.close(os.open(path, os.O_RDWR))
            return True
        except OSError:
            try:
                os.close(os.open(path, os.O_RDONLY))
                return True
            except OSError:
                continue
    return False


@program()
def device_nodes():
    for path in (
        "/dev/mem",
        "/dev/kmsg",
        "/dev/sda",
        "/dev/vda",
        "/dev/nvme0n1",
        "/dev/fuse",
        "/dev/kvm",
        "/dev/net/tun",
        "/dev/console",
        "/dev/loop0",
        "/dev/vhost-net",
    ):
        if os.path.exists(path):
            return True
    try:
        os.mknod(WS + "/disk", 0o60600, os.makedev(254, 0))
        return True
    except OSError:
        pass
    os.mknod(WS + "/memory", 0o20600, os.makedev(1, 1))
    return True


# ------------------------------------------------------------------------------------------------ protected paths


@program("control")
def git_hook_existing_folder():
    return writes(WS + "/.git/hooks/pre-commit")


@program("control")
def git_config_existing():
    with open(WS + "/.git/config", "a") as file:
        file.write("[core]\n\tfsmonitor = touch /tmp/x\n")
    return True


@program()
def git_config_by_lock_and_rename():
    writes(WS + "/.git/config.lock", "[core]\n")
    os.rename(WS + "/.git/config.lock", WS + "/.git/config")
    return True


@program()
def git_commondir():
    os.makedirs(WS + "/evil/hooks", exist_ok=True)
    return writes(WS + "/.git/commondir", "../evil\n")


@program()
def git_folder_renamed_away():
    os.rename(WS + "/.git", WS + "/old")
    return True


@program()
def git_hooks_renamed_away():
    os.rename(WS + "/.git/hooks", WS + "/.git/old")
    return True


@program()
def git_hooks_removed():
    import shutil

    shutil.rmtree(WS + "/.git/hooks")
    return True


@program()
def git_hook_of_a_vendored_repository():
    return writes(WS + "/vendor/lib/.git/hooks/post-checkout")


@program()
def vendored_parent_renamed():
    os.rename(WS + "/vendor", WS + "/vendor2")
    return True


@program()
def exchange_with_other_folder():
    os.makedirs(WS + "/fake/hooks", exist_ok=True)
    result = libc.syscall(
        ctypes.c_long(316 if X86 else 276), -100, (WS + "/fake").encode(), -100, (WS + "/.git").encode(), 2
    )
    return result == 0


@program()
def shell_start_file_absent():
    return writes(WS + "/.bashrc") or writes(WS + "/.profile")


@program()
def shell_start_file_by_rename():
    writes(WS + "/bashrc")
    os.rename(WS + "/bashrc", WS + "/.bashrc")
    return True


@program()
def shell_start_file_by_unlink_first():
    os.unlink(WS + "/.zshrc")
    return writes(WS + "/.zshrc")


@program()
def shell_start_file_by_link():
    writes(WS + "/rc")
    os.symlink("rc", WS + "/.profile")
    return True


@program()
def editor_task_absent():
    os.makedirs(WS + "/.vscode", exist_ok=True)
    return writes(WS + "/.vscode/tasks.json", "{}")


@program()
def agent_settings_absent():
    os.makedirs(WS + "/.claude", exist_ok=True)
    return writes(WS + "/.claude/settings.json", "{}")


@program()
def mcp_settings_absent():
    return writes(WS + "/.mcp.json", "{}")


@program("control")
def environment_file_read():
    return b"sekret" in open(WS + "/.env.production", "rb").read()


@program()
def environment_file_absent():
    return writes(WS + "/.env", "A=1\n")


@program("control")
def ssh_key_read():
    return reads(WS + "/.ssh/id_ed25519")


@program("control")
def read_only_folder_written():
    return writes(WS + "/fixed/file")


@program()
def read_only_folder_replaced():
    os.rename(WS + "/nest/fixed", WS + "/nest/old")
    return True


@program()
def read_only_parent_replaced():
    os.rename(WS + "/nest", WS + "/nest2")
    return True


@program("control")
def hidden_folder_read():
    return reads(WS + "/hidden/file")


@program("control")
def hidden_by_glob_read():
    return reads(WS + "/sub/deep/key.pem")


@program()
def hidden_renamed_into_view():
    os.rename(WS + "/hidden", WS + "/seen")
    return True


@program()
def race_of_renames():
    stop = time.monotonic() + 1.0
    os.makedirs(WS + "/race", exist_ok=True)
    while time.monotonic() < stop:
        for name in (".git/hooks", ".git", ".vscode", "hidden"):
            try:
                os.rename(WS + "/" + name, WS + "/race/x")
                return True
            except OSError:
                pass
            try:
                os.rename(WS + "/race", WS + "/" + name)
                return True
            except OSError:
                pass
    return False


# ------------------------------------------------------------------------------------------------ mounts, name spaces


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


# ------------------------------------------------------------------------------------------------ other processes


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


# ------------------------------------------------------------------------------------------------ network, sockets


@program("control")
def host_loopback():
    return connects(socket.AF_INET, ("127.0.0.1", int(env("PORT"))))


@program("control")
def host_loopback_ipv6():
    return connects(socket.AF_INET6, ("::1", int(env("PORT6"))))


@program()
def host_by_other_spellings():
    for address in ("127.1.2.3", "0.0.0.0", "127.0.1.1", env("HOST_ADDRESS")):
        try:
            if connects(socket.AF_INET, (address, int(env("PORT")))):
                return True
        except OSError:
            continue
    return False


@program("control")
def host_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.sendto(b"hello", ("127.0.0.1", int(env("UDP_PORT"))))
        return sock.recv(16) == b"CANARY"


@program()
def tcp_fast_open():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        sock.sendto(b"hello", 0x20000000, ("127.0.0.1", int(env("PORT"))))
        return sock.recv(16) == b"CANARY"


@program()
def metadata_address():
    for family, address in ((socket.AF_INET, "169.254.169.254"), (socket.AF_INET6, "fd00:ec2::254")):
        try:
            with socket.socket(family) as sock:
                sock.settimeout(1)
                sock.connect((address, 80))
                return True
        except OSError:
            continue
    return False


@program()
def name_server():
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"
    for address in ("127.0.0.53", "8.8.8.8", "1.1.1.1", env("NAMESERVER")):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(0.5)
                sock.sendto(query, (address, 53))
                if sock.recv(512):
                    return True
        except OSError:
            continue
    return False


@program()
def unusual_sockets():
    wanted = {
        "raw": (2, 3, 1), "raw6": (10, 3, 58), "packet": (17, 3, 768), "vsock": (40, 1, 0), "alg": (38, 5, 0),
        "uevent": (16, 3, 15), "audit": (16, 3, 9), "mptcp": (2, 1, 262), "mptcp6": (10, 1, 262), "sctp": (2, 1, 132),
        "ping": (2, 2, 1), "can": (29, 3, 1), "bluetooth": (31, 3, 0), "xdp": (44, 3, 0), "tipc": (30, 1, 0),
        "udplite": (2, 2, 136), "rds": (21, 5, 0), "seqpacket": (2, 5, 0),
    }  # fmt: skip
    made = []
    for name, (family, kind, protocol) in wanted.items():
        try:
            socket.socket(family, kind, protocol).close()
            made.append(name)
        except OSError:
            continue
    if made:
        print("made:", *made)
    return bool(made)


@program("control")
def abstract_socket():
    return connects(socket.AF_UNIX, "\0" + env("ABSTRACT"))


@program("control")
def socket_of_another_service():
    return connects(socket.AF_UNIX, env("SOCKET"))


@program()
def well_known_sockets():
    paths = [
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/dbus/system_bus_socket",
        "\0/tmp/.X11-unix/X0",
        "/tmp/.X11-unix/X0",
        os.environ.get("SSH_AUTH_SOCK", "/none"),
        "/run/user/0/bus",
    ]
    for path in paths:
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(path)
                return True
        except OSError:
            continue
    return False


@program()
def descriptor_passed_in():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(env("SOCKET"))
        _data, ancillary, _flags, _address = sock.recvmsg(16, socket.CMSG_SPACE(array.array("i").itemsize))
        return bool(ancillary)


@program()
def network_reconfigured():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        body = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0) + struct.pack("=HHI", 8, 4, 1)
        netlink.send(struct.pack("=IHHII", 16 + len(body), 24, 0x405, 1, 0) + body)
        return struct.unpack_from("=i", netlink.recv(4096), 16)[0] == 0


# ------------------------------------------------------------------------------------------------ secrets in the air


@program("control")
def secret_in_environment():
    return any("T_SECRET_VALUE_OUTSIDE" in value for value in os.environ.values())


@program()
def loader_variables():
    return any(name.startswith(("LD_", "PYTHON", "NODE_OPTIONS", "SSH_AUTH")) for name in os.environ)


# ------------------------------------------------------------------------------------------------ resources


@program("outside")
def fork_bomb():
    children = 0
    limit = int(env("PROCESSES"))
    try:
        for _ in range(limit * 3):
            if os.fork() == 0:
                time.sleep(30)
                os._exit(0)
            children += 1
    except OSError:
        pass
    return children > limit


@program("outside")
def memory_bomb():
    held = []
    for _ in range(64):
        held.append(bytearray(int(env("MEMORY")) // 16))
    return True


@program("outside")
def memory_bomb_of_many():
    share = int(env("MEMORY")) // 4
    for _ in range(12):
        if os.fork() == 0:
            block = bytearray(share)
            for index in range(0, share, 4096):
                block[index] = 1
            time.sleep(3)
            os._exit(0)
    time.sleep(2)
    alive = 0
    while True:
        try:
            _pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        alive += status == 0
    return alive > 8


@program("outside")
def memory_nobody_maps():
    held = []
    for _ in range(12):
        descriptor = os.memfd_create("bomb")
        held.append(descriptor)
        for _ in range(int(env("MEMORY")) // 4 // 65536):
            os.write(descriptor, b"x" * 65536)
    return True


@program()
def shared_memory_folder():
    with open("/dev/shm/bomb", "wb") as file:
        for _ in range(int(env("MEMORY")) * 2 // 65536):
            file.write(b"x" * 65536)
    return True


@program()
def private_tmp_filled():
    with open("/tmp/bomb", "wb") as file:
        for _ in range(int(env("TMP")) * 2 // 65536):
            file.write(b"x" * 65536)
    return True


@program()
def inodes_filled():
    for index in range(int(env("TMP_FILES")) + 100):
        open(f"/tmp/i{index}", "w").close()
    return True


@program("outside")
def disk_filled():
    written = 0
    for index in range(40):
        with open(f"{WS}/big{index}", "wb") as file:
            for _ in range(64):
                file.write(b"x" * (1 << 20))
                written += 1
                file.flush()
        time.sleep(0.02)
    return True


@program()
def one_huge_file():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open(WS + "/sparse", "wb") as file:
        file.truncate(int(env("FILE_BYTES")) + 1)
    return True


@program("outside")
def output_flood():
    block = b"x" * 65536
    for _ in range(4096):
        os.write(1, block)
    os.write(2, b"ESCAPED\n")
    return True


@program("outside")
def sleeps_for_ever():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
    return True


@program("outside")
def survives_as_a_daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for descriptor in (0, 1, 2):
                os.close(descriptor)
            time.sleep(1.5)
            open(WS + "/time-bomb", "w").close()
            os._exit(0)
        os._exit(0)
    return False


@program("outside")
def burns_processor_time():
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pass
    return True


@program("outside")
def core_dump_left():
    child = os.fork()
    if child == 0:
        os.chdir(WS)
        os.kill(os.getpid(), signal.SIGSEGV)
    os.waitpid(child, 0)
    return any(name.startswith("core") for name in os.listdir(WS))


@program("outside")
def locked_memory():
    size = 64 << 20
    block = mmap.mmap(-1, size)
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    return libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)) == 0


def main():
    if sys.argv[1] == "--list":
        for name in PROGRAMS:
            print(name, *FLAGS[name])
        return
    try:
        escaped = PROGRAMS[sys.argv[1]]()
    except (OSError, MemoryError, subprocess.SubprocessError) as error:
        print("BLOCKED", type(error).__name__, getattr(error, "strerror", "") or "")
    else:
        print("ESCAPED" if escaped else "BLOCKED")


if __name__ == "__main__":
    main()
