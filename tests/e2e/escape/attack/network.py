"""Ways out by the network and by sockets."""

import array
import os
import socket
import struct

from common import connects, env, program


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
