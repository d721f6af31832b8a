"""The sandbox's network: loopback, and for a guarded run routes that make every address local and listeners for the guard.

No byte can leave: the name space has no interface but loopback. The listeners are handed out, so that the guard outside
accepts what programs inside connect to, whatever address they name.
"""

import fcntl
import os
import socket
import struct

from agent_os.effects.sandbox.launcher import wire

LISTENERS_SENT = 64


def build_network(network):
    """Bring loopback up; for a guarded run route every address to it and return the listeners for the guard."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(probe, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING
    probe.close()
    if not network["guarded"]:
        return []
    six = add_local_routes()
    listeners = []
    kinds = [(socket.AF_INET, "0.0.0.0")] + ([(socket.AF_INET6, "::")] if six else [])
    for family, anywhere in kinds:
        for port in network["tcp_ports"]:
            listeners.append(("transparent", listener(family, anywhere, port)))
        if network["dns"]:
            listeners.append(("dns-tcp", listener(family, anywhere, 53)))
            listeners.append(("dns-udp", datagram(family, anywhere, 53)))
    if network["proxy_port"]:
        listeners.append(("proxy", listener(socket.AF_INET, "127.0.0.1", network["proxy_port"])))
    return listeners


def send_listeners(control, listeners):
    """Hand the listeners to the supervisor, in parts that fit one message."""
    for start in range(0, len(listeners), LISTENERS_SENT):
        part = listeners[start : start + LISTENERS_SENT]
        last = int(start + LISTENERS_SENT >= len(listeners))
        descriptors = [sock.fileno() for _, sock in part]
        wire.say(control, "listeners", last, *(kind for kind, _ in part), descriptors=descriptors)
    for _, sock in listeners:
        sock.close()


def listener(family, address, port):
    """A TCP listener; refuses to share its port."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address, port))
    sock.listen(512)
    return sock


def datagram(family, address, port):
    """A UDP socket that tells to which address each datagram was sent."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, 49, 1)  # IPV6_RECVPKTINFO
    else:
        sock.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    sock.bind((address, port))
    return sock


def add_local_routes():
    """`local 0.0.0.0/0 dev lo` and `local ::/0 dev lo`; returns whether IPv6 is there."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    six = True
    for family in (socket.AF_INET, socket.AF_INET6):
        # rtmsg: family, dst_len, src_len, tos, table local, protocol boot, scope host, type local, flags
        body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 255, 3, 254, 2, 0) + struct.pack("=HHI", 8, 4, 1)
        netlink.send(struct.pack("=IHHII", 16 + len(body), 24, 0x405, 1, 0) + body)  # NEWROUTE, REQUEST|ACK|CREATE
        answer = netlink.recv(4096)
        code = struct.unpack_from("=i", answer, 16)[0]
        if code and family == socket.AF_INET:
            raise OSError(-code, os.strerror(-code), "route")
        six = six and not code
    netlink.close()
    return six
