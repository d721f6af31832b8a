"""Ways to files outside the workspace."""

import ctypes
import os
import struct

from common import WS, call, env, program, reads, writes


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
