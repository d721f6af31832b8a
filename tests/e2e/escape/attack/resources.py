"""Ways to secrets in the air, and past the limits of resources."""

import ctypes
import mmap
import os
import signal
import time

from common import WS, env, libc, program


@program("control")
def secret_in_environment():
    return any("T_SECRET_VALUE_OUTSIDE" in value for value in os.environ.values())


@program()
def loader_variables():
    return any(name.startswith(("LD_", "PYTHON", "NODE_OPTIONS", "SSH_AUTH")) for name in os.environ)


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
