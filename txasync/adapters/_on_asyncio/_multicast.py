"""The options of a socket that have to do with multicast, for IPv4 and IPv6, as Twisted's ports have them."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import MulticastJoinError

from ...bridge import as_deferred
from .._errors import as_twisted_error

__all__ = ["MulticastOptions"]


class _Names(NamedTuple):
    """What the options are called for a family of addresses."""

    level: int
    interface: int
    interface_size: int
    loopback: int
    hops: int
    join: int
    leave: int


_IPV4 = _Names(
    socket.IPPROTO_IP,
    socket.IP_MULTICAST_IF,
    4,
    socket.IP_MULTICAST_LOOP,
    socket.IP_MULTICAST_TTL,
    socket.IP_ADD_MEMBERSHIP,
    socket.IP_DROP_MEMBERSHIP,
)
_IPV6 = _Names(
    socket.IPPROTO_IPV6,
    socket.IPV6_MULTICAST_IF,
    struct.calcsize("@I"),
    socket.IPV6_MULTICAST_LOOP,
    socket.IPV6_MULTICAST_HOPS,
    socket.IPV6_JOIN_GROUP,
    socket.IPV6_LEAVE_GROUP,
)


class MulticastOptions:
    """
    The options of one socket.

    Args:
        duplicate: Makes a duplicate of the socket, to be closed.
        family: That of its addresses, ``AF_INET`` or ``AF_INET6``.
        loop: Looks up names.
    """

    def __init__(self, duplicate: Callable[[], socket.socket], family: int, loop: asyncio.AbstractEventLoop) -> None:
        self._duplicate = duplicate
        self._family = family
        self._loop = loop
        self._names = _IPV6 if family == socket.AF_INET6 else _IPV4

    @property
    def loopback(self) -> bool:
        """Whether this machine gets what it sends to groups that it has joined."""
        return bool(self._get(self._names.loopback))

    @loopback.setter
    def loopback(self, enabled: bool) -> None:
        self._set(self._names.loopback, int(bool(enabled)))

    @property
    def hops(self) -> int:
        """The time to live of what is sent to groups."""
        hops: int = self._get(self._names.hops)
        return hops

    @hops.setter
    def hops(self, hops: int) -> None:
        self._set(self._names.hops, hops)

    @property
    def outgoing_interface(self) -> str | int:
        """The interface by which it is sent: an IPv4 address of it, or with IPv6 its number."""
        packed = self._get(self._names.interface, self._names.interface_size)
        if self._family == socket.AF_INET6:
            return int.from_bytes(packed, sys.byteorder)
        return socket.inet_ntop(socket.AF_INET, packed)

    def set_outgoing_interface(self, interface: str | int) -> Deferred[int]:
        """Set it; with IPv4, the address may be a host's name. The Deferred fires with 1."""

        async def set_it() -> int:
            if self._family == socket.AF_INET6:
                self._set(self._names.interface, _number(interface))
            else:
                self._set(self._names.interface, await self._packed(interface))
            return 1

        return Deferred.fromCoroutine(set_it())

    def join(self, group: str, interface: str) -> Deferred[None]:
        """
        Receive what is sent to *group*.

        Args:
            group: Its address, or a name of that.
            interface: By which interface: an IPv4 address of it, or a name of that; with IPv6, the interface's name or
                number. If it is empty, or the unspecified address, the kernel chooses.

        Returns:
            A Deferred, which has fired unless a name is to be looked up. It may fail with ``MulticastJoinError``.
        """
        return self._change(self._names.join, group, interface)

    def leave(self, group: str, interface: str) -> Deferred[None]:
        """No longer receive it."""
        return self._change(self._names.leave, group, interface)

    def _change(self, option: int, group: str, interface: str) -> Deferred[None]:
        async def change() -> None:
            address = await self._packed(group)
            try:
                if self._family == socket.AF_INET6:
                    address += struct.pack("@I", _number(interface))
                else:
                    address += await self._packed(interface or "0.0.0.0")
                self._set(option, address)
            except OSError as error:
                raise MulticastJoinError(group, interface, *error.args) from error

        return Deferred.fromCoroutine(change())

    async def _packed(self, address: Any) -> bytes:
        try:
            return socket.inet_pton(self._family, await self._resolved(address))
        except OSError as error:
            family = socket.AddressFamily(self._family).name
            raise MulticastJoinError(f"invalid address literal for {family}: {address!r}") from error

    def _resolved(self, host: str) -> Deferred[str]:
        if isIPAddress(host) or isIPv6Address(host):
            return succeed(host)
        return as_deferred(self._look_up(host), loop=self._loop)

    async def _look_up(self, host: str) -> str:
        try:
            found = await self._loop.getaddrinfo(host, None, family=self._family, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise as_twisted_error(error) from error
        return str(found[0][4][0])

    def _get(self, option: int, *size: int) -> Any:
        with self._duplicate() as sock:
            return sock.getsockopt(self._names.level, option, *size)

    def _set(self, option: int, value: int | bytes) -> None:
        with self._duplicate() as sock:
            sock.setsockopt(self._names.level, option, value)


def _number(interface: str | int) -> int:
    """The number of an interface; 0 is the kernel's choice."""
    if isinstance(interface, int):
        return interface
    if interface in ("", "::"):
        return 0
    return int(interface) if interface.isdigit() else socket.if_nametoindex(interface)
