"""
The Twisted datagram transports that stand on asyncio's. Their twin is
`txasync.adapters._on_twisted._datagram_transport`.

==================================================  ==========================================================
Twisted's protocol calls                            and so asyncio's transport is called
==================================================  ==========================================================
``write``, ``writeSequence``                        ``sendto``; an empty datagram is sent by the socket itself, for
                                                    not every loop sends it
``connect``                                         nothing: the socket itself is connected
``stopListening``                                   ``close``, in the loop's next round
``setBroadcastAllowed``, ``setTTL``...              nothing: they are options of the socket
==================================================  ==========================================================

What is to be done with the socket is done with a duplicate, because uvloop shows a stand-in for it that can do little.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import warnings
from collections.abc import Iterable
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, InvalidAddressError, MessageLengthError
from twisted.internet.interfaces import (
    IListeningPort,
    IMulticastTransport,
    ISystemHandle,
    IUNIXDatagramConnectedTransport,
    IUNIXDatagramTransport,
)
from zope.interface import implementer

from .._addresses import as_iaddress
from ._multicast import MulticastOptions

__all__ = [
    "ConnectedUNIXDatagramTransport",
    "TwistedDatagramTransport",
    "UDPTransport",
    "UNIXDatagramTransport",
]


@implementer(IListeningPort, ISystemHandle)
class TwistedDatagramTransport:
    """
    What Twisted's datagram transports have in common, over any datagram transport of asyncio's, of any loop.

    Args:
        transport: asyncio's transport.
        protocol: Twisted's protocol.

    Attributes:
        protocol: *protocol*.
        connected: Whether the socket is connected to a peer.
        stopping: Whether `stopListening` was called.

    Source:
        Twisted, ``IListeningPort``, ``IUDPTransport``.
    """

    connected = False
    stopping = False

    _lost = False
    _full = False  # asyncio's transport holds more than its high-water mark
    _writing = False
    _error: Exception | None = None  # what has become of a write

    def __init__(self, transport: Any, protocol: Any) -> None:
        self._transport = transport
        self.protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._host = as_iaddress(transport.get_extra_info("sockname"), "UDP")
        self._peername: Any = transport.get_extra_info("peername")
        self.connected = bool(self._peername)
        self._ends: list[Deferred[None]] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self._transport!r}>"

    def _duplicate(self) -> socket.socket:
        view = self._transport.get_extra_info("socket")
        if view is None:
            raise OSError(f"{self._transport!r} has no socket, and so nothing of what only a socket can do")
        return socket.fromfd(view.fileno(), view.family, view.type)

    # ISystemHandle, IListeningPort

    def getHandle(self) -> Any:
        """What asyncio shows of the socket."""
        return self._transport.get_extra_info("socket")

    def getHost(self) -> Any:
        """This side's address; at the end, what it was when it was asked for before."""
        if not self._lost:
            # It may have been bound since the beginning, by the first datagram that was sent.
            with self._duplicate() as sock:
                self._host = as_iaddress(sock.getsockname(), "UDP")
        return self._host

    def startListening(self) -> None:
        """
        Nothing that is not done.

        Raises:
            CannotListenError: It was stopped.
        """
        if self.stopping or self._lost:
            raise CannotListenError(None, self._host, OSError(f"{self!r} was stopped: make another endpoint"))

    def stopListening(self) -> Deferred[None] | None:
        """
        Receive no more; what was written is sent.

        Returns:
            A Deferred that fires when the protocol has been stopped, and the address is free. None if that is so.
        """
        if self._lost:
            return None
        if not self.stopping:
            self.stopping = True
            self._loop.call_soon(self._transport.close)  # on Twisted's ports, what is written in the same turn is sent
        end: Deferred[None] = Deferred()
        self._ends.append(end)
        return end

    def loseConnection(self) -> None:
        """`stopListening`, which Twisted would rather have called."""
        warnings.warn("Please use stopListening() to disconnect port", DeprecationWarning, stacklevel=2)
        self.stopListening()

    def abort(self) -> None:
        """Drop what was written, and stop at once."""
        self.stopping = True
        self._transport.abort()

    # Writing

    def _send(self, packet: Any, address: Any) -> None:
        if self._lost:
            raise AttributeError(f"{self!r} is closed, and has no socket any more")
        if type(packet) is not bytes:
            packet = bytes(memoryview(packet))
        if self._full:
            self._refuse()
            return
        if packet:
            self._error = None
            self._writing = True
            try:
                self._transport.sendto(packet, address)
            finally:
                self._writing = False
                error, self._error = self._error, None
        else:
            error = self._send_empty(address)
        if error is not None:
            self._raise(error)

    def _send_empty(self, address: Any) -> OSError | None:
        with self._duplicate() as sock:
            try:
                if address is None:
                    sock.send(b"")
                else:
                    sock.sendto(b"", address)
            except OSError as error:
                return error
        return None

    def _refuse(self) -> None:
        """Do what Twisted's ports do with a datagram that the kernel does not take."""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _raise(self, error: Exception) -> None:
        if isinstance(error, ConnectionRefusedError):
            if self.connected:
                self.protocol.connectionRefused()
        elif isinstance(error, OSError) and error.errno == errno.EMSGSIZE:
            raise MessageLengthError("message too long") from error
        else:
            raise error

    # What is told from below

    def take_error(self, error: Exception) -> bool:
        """Whether *error* is that of a write which has not returned, and raises it."""
        if self._writing:
            self._error = error
        return self._writing

    def hold_up(self) -> None:
        """asyncio's transport holds more than its high-water mark."""
        self._full = True

    def let_go(self) -> None:
        """asyncio's transport holds no more than its low-water mark."""
        self._full = False

    def lose(self) -> None:
        """The transport is gone; the protocol is about to be told."""
        self._lost = self.stopping = True
        self._loop.call_soon(self._tell_of_end)  # asyncio's transports close the socket only after that

    def _tell_of_end(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            end.callback(None)


@implementer(IMulticastTransport)
class UDPTransport(TwistedDatagramTransport):
    """
    A UDP port of Twisted's, over any datagram transport of asyncio's.

    Args:
        transport: asyncio's transport.
        protocol: Twisted's protocol.

    Source:
        Twisted, ``IUDPTransport``, ``IMulticastTransport``.
    """

    def __init__(self, transport: Any, protocol: Any) -> None:
        super().__init__(transport, protocol)
        view = transport.get_extra_info("socket")
        self._family = socket.AF_INET if view is None else view.family
        self._peer = self._peername[:2] if self._peername else None
        # Where datagrams go, as asyncio's transport is told; it knows of itself if it was made connected.
        self._destination: Any = None
        self._multicast = MulticastOptions(self._duplicate, self._family, self._loop)

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        """
        Send *packet*.

        Args:
            packet: The datagram.
            addr: To whom: an IP address, or ``"<broadcast>"``, and a port. None if this is connected.

        Raises:
            InvalidAddressError: The host is none of these, or of the other family.
            MessageLengthError: *packet* is too long.
            AssertionError: This is connected, and *addr* is another; or it is not, and there is no *addr*.
            BlockingIOError: What waits to be sent is more than the high-water mark of asyncio's transport.
            AttributeError: This was stopped.
        """
        self._send(packet, self._checked(addr))

    def writeSequence(self, seq: Iterable[bytes], addr: tuple[str, int] | None = None) -> None:
        """Send what is in *seq*, as one datagram."""
        self.write(b"".join(seq), addr)

    def _checked(self, addr: Any) -> Any:
        """*addr* as asyncio's transport takes it; what would be the end of that is refused here."""
        # Twisted has assertions here. These do not go away with python -O.
        if self._peer is not None:
            if addr is not None and addr != self._peer:
                raise AssertionError(f"{self!r} is connected to {self._peer!r}, and does not send to {addr!r}")
            return self._destination
        if addr is None:
            raise AssertionError(f"{self!r} is not connected: write() needs an address")
        host, port, *rest = addr
        is_ipv4 = isIPAddress(host) or host == "<broadcast>"
        if not is_ipv4 and not isIPv6Address(host):
            raise InvalidAddressError(host, "write() only accepts IP addresses, not hostnames")
        if is_ipv4 and self._family == socket.AF_INET6:
            raise InvalidAddressError(host, "IPv6 port write() called with IPv4 or broadcast address")
        if not is_ipv4 and self._family == socket.AF_INET:
            raise InvalidAddressError(host, "IPv4 port write() called with IPv6 address")
        if is_ipv4 and rest:
            raise TypeError(f"an IPv4 address is (host, port), got {addr!r}")
        if not 0 <= port <= 0xFFFF:
            raise OverflowError(f"a port must be 0-65535, got {port!r}")
        return ("255.255.255.255" if host == "<broadcast>" else host), port, *rest

    def connect(self, host: str, port: int) -> None:
        """
        Send to this address only, receive from it only, and hear it if nobody is there.

        It is the socket that is connected, as by Twisted; asyncio's transport knows nothing of it, has no ``peername``,
        and goes on to name the address with each datagram, which the kernel must let it do, as Linux does.

        Args:
            host: An IP address.
            port: The port.

        Raises:
            InvalidAddressError: *host* is no IP address.
            RuntimeError: This is connected.
            OSError: The kernel does not know how to get there.
        """
        if self._peer is not None:
            raise RuntimeError("already connected, reconnecting is not currently supported")
        if not isIPAddress(host) and not isIPv6Address(host):
            raise InvalidAddressError(host, "not an IPv4 or IPv6 address.")
        with self._duplicate() as sock:
            sock.connect((host, port))
            self._destination = self._peername = sock.getpeername()
        self._peer = host, port
        self.connected = True

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """Set whether datagrams can be sent to everybody."""
        with self._duplicate() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, enabled)

    def getBroadcastAllowed(self) -> bool:
        """Whether they can."""
        with self._duplicate() as sock:
            return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST))

    # IMulticastTransport

    def getOutgoingInterface(self) -> str | int:
        """The interface by which datagrams go to groups: an IPv4 address of it, or with IPv6 its number."""
        return self._multicast.outgoing_interface

    def setOutgoingInterface(self, addr: str | int) -> Deferred[int]:
        """Set it; the Deferred fires with 1."""
        return self._multicast.set_outgoing_interface(addr)

    def getLoopbackMode(self) -> bool:
        """Whether this machine gets what it sends to groups that it has joined."""
        return self._multicast.loopback

    def setLoopbackMode(self, mode: bool) -> None:
        """Set whether it does."""
        self._multicast.loopback = mode

    def getTTL(self) -> int:
        """The time to live, or with IPv6 the hop limit, of what is sent to groups."""
        return self._multicast.hops

    def setTTL(self, ttl: int) -> None:
        """Set it."""
        self._multicast.hops = ttl

    def joinGroup(self, addr: str, interface: str = "") -> Deferred[None]:
        """
        Receive what is sent to the group *addr*.

        Args:
            addr: The address of the group.
            interface: By which interface: an IPv4 address of it; with IPv6, its name or its number. Default: the
                kernel's choice.

        Returns:
            A Deferred. It fails with ``MulticastJoinError`` if the kernel refuses.
        """
        return self._multicast.join(addr, interface)

    def leaveGroup(self, addr: str, interface: str = "") -> Deferred[None]:
        """No longer receive it."""
        return self._multicast.leave(addr, interface)


@implementer(IUNIXDatagramTransport)
class UNIXDatagramTransport(TwistedDatagramTransport):
    """
    A port of Twisted's for UNIX datagrams, over any datagram transport of asyncio's.

    Args:
        transport: asyncio's transport.
        protocol: Twisted's protocol.

    Source:
        Twisted, ``IUNIXDatagramTransport``.
    """

    def write(self, packet: bytes, addr: str) -> None:
        """Send *packet* to the socket at the path *addr*; it is dropped if too much waits to be sent."""
        self._send(packet, addr)

    def writeSequence(self, seq: Iterable[bytes], addr: str) -> None:
        """Send what is in *seq*, as one datagram."""
        self.write(b"".join(seq), addr)

    def _refuse(self) -> None:
        """Drop it."""


@implementer(IUNIXDatagramConnectedTransport)
class ConnectedUNIXDatagramTransport(TwistedDatagramTransport):
    """
    A port of Twisted's for UNIX datagrams that is connected to a peer.

    Args:
        transport: asyncio's transport.
        protocol: Twisted's protocol.

    Source:
        Twisted, ``IUNIXDatagramConnectedTransport``.
    """

    def write(self, packet: bytes) -> None:
        """Send *packet*; it is dropped if too much waits to be sent."""
        self._send(packet, None)

    def getPeer(self) -> Any:
        """The peer's address."""
        return as_iaddress(self._peername)

    def _refuse(self) -> None:
        """Drop it."""
