"""What comes in (`guards/confine/wire.py` writes it) and what is said back. An unexpected byte ends the launcher.

Answers on a control socket are fields parted by zero bytes: `started pid host_uid`, `listeners last kind...`, `terminal`,
`ready`, `exit status cpu_us max_rss_kib`, `error stage errno detail`.
"""

import contextlib
import os
import socket
import struct

REQUEST_BYTES_MAX = 4 * 1024 * 1024
REQUEST_FDS_MAX = 16
MESSAGE_BYTES_MAX = 65536
ITEMS_MAX = 65536
LANDLOCK_BYTES_MAX = 24
MAGIC = 0x31534F41
START, PLANT, FORGET, KEEP = 1, 2, 3, 4
BIND, FILESYSTEM, FOLDER, LINK, FILE, EMPTY, PIN, OVERLAY = range(1, 9)
WRITABLE, RECURSIVE, IDMAPPED = 1, 2, 4


class Reader:
    """Takes numbers and strings off a request, in order. Raises ValueError for anything that does not fit."""

    def __init__(self, data):
        self.data, self.place = data, 0

    def number(self):
        if self.place + 8 > len(self.data):
            raise ValueError("the request ends too early")
        value = struct.unpack_from("<Q", self.data, self.place)[0]
        self.place += 8
        return value

    def raw(self):
        size = self.number()
        end = self.place + size
        if end >= len(self.data) or self.data[end] != 0:
            raise ValueError("a string does not end where it says")
        value = self.data[self.place : end]
        self.place = end + 1
        return value

    def string(self):
        value = self.raw()
        if b"\0" in value:
            raise ValueError("a zero byte in a string")
        return os.fsdecode(value)

    def many(self, take):
        size = self.number()
        if size > ITEMS_MAX:
            raise ValueError("too many items")
        return [take() for _ in range(size)]

    def flag(self):
        value = self.number()
        if value > 1:
            raise ValueError("neither yes nor no")
        return bool(value)


def decode(data):
    """Return one request as a dictionary. Raises ValueError."""
    reader = Reader(data)
    if reader.number() != MAGIC:
        raise ValueError("another form of request")
    request = {"kind": reader.number()}
    if request["kind"] == PLANT:
        request |= {"seed": reader.string(), "cgroups": reader.many(reader.string)}
    elif request["kind"] in (FORGET, KEEP):
        request["seed"] = reader.string()
    elif request["kind"] == START:
        request |= {"seed": reader.string(), "cgroups": reader.many(reader.string)}
        terminal, rows, columns = reader.flag(), reader.number(), reader.number()
        request["terminal"] = (rows, columns) if terminal else None
        request["argv"] = reader.many(reader.string)
        request["plan"] = _plan(reader)
    else:
        raise ValueError("an unknown request")
    if reader.place != len(data):
        raise ValueError("bytes behind the request")
    return request


def _plan(reader):
    plan = {"host_name": reader.string(), "cwd": reader.string()}
    plan |= {"flags": reader.number(), "own_cgroup": reader.flag(), "uid": reader.number(), "gid": reader.number()}
    plan |= {"transient": reader.flag(), "host_uid": reader.number(), "host_gid": reader.number()}
    plan |= {"pid_max": reader.number(), "mounts": reader.many(lambda: _mount(reader))}
    landlock = {name: reader.number() for name in ("size", "handled_fs", "handled_net", "scoped")}
    if landlock["size"] > LANDLOCK_BYTES_MAX:
        raise ValueError("an unknown form of Landlock ruleset")
    plan["landlock"] = landlock | {"rules": reader.many(lambda: (reader.string(), reader.number()))}
    plan["seccomp"] = reader.raw()
    plan["rlimits"] = reader.many(lambda: (reader.number(), reader.number()))
    plan["environment"] = dict(entry.split("=", 1) for entry in reader.many(reader.string))
    guarded, ports = reader.flag(), reader.many(reader.number)
    plan["network"] = {"guarded": guarded, "tcp_ports": ports, "proxy_port": reader.number(), "dns": reader.flag()}
    return plan


def _mount(reader):
    step = {"kind": reader.number()}
    if not BIND <= step["kind"] <= OVERLAY:
        raise ValueError("an unknown kind of mount")
    step |= {"target": reader.string(), "source": reader.string(), "upper": reader.string(), "data": reader.raw()}
    step |= {name: reader.number() for name in ("attributes", "options", "uid", "gid", "mode")}
    return step


def receive(channel):
    """Return (bytes of a request, descriptors), or None at the end of the channel. Raises ValueError."""
    head, descriptors, _flags, _address = socket.recv_fds(channel, 4, REQUEST_FDS_MAX)
    if not head:
        return None
    while len(head) < 4:
        part = channel.recv(4 - len(head))
        if not part:
            return None
        head += part
    size = struct.unpack("<I", head)[0]
    if size > REQUEST_BYTES_MAX:
        raise ValueError("a request is too large")
    data = bytearray()
    while len(data) < size:
        part = channel.recv(min(size - len(data), 1 << 16))
        if not part:
            return None
        data += part
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return bytes(data), descriptors


def say(control, *fields, descriptors=()):
    """Send one message, with descriptors. Raises OSError."""
    message = b"\0".join(os.fsencode(str(field)) for field in fields)
    if descriptors:
        socket.send_fds(control, [message], list(descriptors))
    else:
        control.send(message)


def report(control, error):
    """Tell the supervisor which step failed."""
    with contextlib.suppress(OSError):
        say(control, "error", error.stage, error.number, error.detail)
