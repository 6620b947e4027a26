"""What asyncio is told of Twisted's datagram ports: their addresses, and their errors about addresses."""

from __future__ import annotations

import socket
from asyncio.trsock import TransportSocket
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.error import InvalidAddressError

from .._addresses import as_sockaddr

__all__ = ["as_gaierror", "extra_info", "in_full", "take_whole_datagrams"]

# No UDP datagram is larger than 64 KiB; one of a UNIX socket may be. Twisted's ports cut off what is over 8 KiB.
LARGEST_UDP_DATAGRAM = 64 * 1024
LARGEST_DATAGRAM = 256 * 1024


def extra_info(itransport: Any) -> dict[str, Any]:
    """What is known of *itransport*, noted at once: it goes away with the socket, which knows most."""
    get_handle = getattr(itransport, "getHandle", None)
    sock = None if get_handle is None else get_handle()
    info: dict[str, Any] = {"twisted_transport": itransport, "peername": None}
    if isinstance(sock, socket.socket):
        info["socket"] = TransportSocket(sock)
        info["sockname"] = sock.getsockname()
        try:
            info["peername"] = sock.getpeername()
        except OSError:
            pass  # it is not connected
    else:
        info["sockname"] = as_sockaddr(itransport.getHost())
        if hasattr(itransport, "getPeer"):
            info["peername"] = as_sockaddr(itransport.getPeer())
    return info


def take_whole_datagrams(itransport: Any) -> None:
    """Have *itransport* receive what asyncio's own transports do."""
    is_unix = getattr(itransport, "addressFamily", None) == socket.AF_UNIX
    largest = LARGEST_DATAGRAM if is_unix else LARGEST_UDP_DATAGRAM
    if getattr(itransport, "maxPacketSize", largest) < largest:
        itransport.maxPacketSize = largest


def in_full(address: Any, sockname: Any = None) -> Any:
    """
    *address*, all four parts of it if it is an IPv6 one.

    The scope of a link-local address is that of *sockname*, our own, if we have only that.
    """
    if not isinstance(address, tuple) or len(address) != 2 or ":" not in address[0]:
        return address
    host, port = address
    bound_to = sockname[3] if sockname and len(sockname) == 4 and host.startswith("fe80:") else 0
    return host, port, 0, bound_to


def as_gaierror(refusal: InvalidAddressError) -> OSError:
    """What asyncio's sockets fail with if the host is of another family, or a name that nobody has."""
    host = refusal.address
    is_other_family = isIPAddress(host) or isIPv6Address(host) or host == "<broadcast>"
    number = socket.EAI_ADDRFAMILY if is_other_family else socket.EAI_NONAME
    return socket.gaierror(number, f"{refusal.message}: {host!r}")
