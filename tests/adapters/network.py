"""What the machine's network can do, found out with plain sockets."""

from __future__ import annotations

import pathlib
import socket
import struct

import pytest

__all__ = ["GROUP", "LOOPBACK", "group_interface_of_ipv6", "link_local_address", "needs_multicast"]

GROUP = "239.255.77.77"
LOOPBACK = "127.0.0.1"


def needs_multicast() -> None:
    """Skip the test if a group on the loopback interface does not get what is sent to it."""
    interface = socket.inet_aton(LOOPBACK)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, _bound(socket.AF_INET) as receiver:
        try:
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + interface)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            sender.sendto(b"test", (GROUP, receiver.getsockname()[1]))
            assert receiver.recv(100) == b"test"
        except OSError as error:
            pytest.skip(f"no multicast on this machine's loopback interface: {error}")


def group_interface_of_ipv6(group: str) -> int:
    """The number of an interface on which *group* gets what is sent to it; the test is skipped if there is none."""
    for number, _name in socket.if_nameindex() if socket.has_ipv6 else ():
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender, _bound(socket.AF_INET6) as receiver:
            request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", number)
            try:
                receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, number)
                sender.sendto(b"test", (group, receiver.getsockname()[1]))
                if receiver.recv(100) == b"test":
                    return number
            except OSError:
                pass  # not this one
    pytest.skip("no interface of this machine has multicast with IPv6")


def _bound(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind(("", 0))
    sock.settimeout(1)
    return sock


def link_local_address() -> tuple[str, int]:
    """A link-local address, and the number of its interface; the test is skipped if there is none."""
    table = pathlib.Path("/proc/net/if_inet6")
    for line in table.read_text().splitlines() if table.exists() else ():
        address, index, _, scope, flags, _ = line.split()
        tentative_or_failed = int(flags, 16) & 0x48
        if scope == "20" and not tentative_or_failed:
            packed = struct.pack("!QQ", int(address[:16], 16), int(address[16:], 16))
            return socket.inet_ntop(socket.AF_INET6, packed), int(index, 16)
    pytest.skip("this machine has no interface with a link-local IPv6 address")
