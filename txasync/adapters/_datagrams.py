"""The converters of datagram protocols, from either world to the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address

from ._on_asyncio import AsyncioDatagramProtocol
from ._on_twisted import TwistedDatagramProtocol

__all__ = ["as_asyncio_datagram_protocol", "as_twisted_datagram_protocol"]


def as_twisted_datagram_protocol(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    *,
    remote_addr: tuple[Any, ...] | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> TwistedDatagramProtocol:
    """
    Return a Twisted datagram protocol that carries one of asyncio's: for ``listenUDP()``, ``adoptDatagramPort()``...

    Args:
        protocol_factory: Called without arguments when the port starts; makes a ``DatagramProtocol``.
        remote_addr: The address to connect the port to, as for ``create_datagram_endpoint()``, but that the host is an
            IP address: Twisted's ports look up no names. To a link-local one, only a socket can be connected that is
            bound to its interface, and adopted.
        loop: The loop that the protocol belongs to. Default: the one that runs when the port starts. For a port that is
            started before the reactor runs, it must be given; ``connection_made()`` is called when it runs.

    Returns:
        A ``DatagramProtocol``, which serves for ports of UNIX datagrams and for multicast as well. asyncio's protocol
        is its ``protocol``; it is made, and called, in a copy of the present context. Its transport has Twisted's port
        as ``get_extra_info("twisted_transport")``.

    Raises:
        TypeError: *protocol_factory* cannot be called, or *remote_addr* is no address.
        ValueError: The host of *remote_addr* is no IP address.

    Context:
        The thread of the reactor that has the port, in which *loop* runs.

    Source:
        asyncio, "Transports and Protocols", "Datagram Protocols"; Twisted, ``IReactorUDP``, ``IUDPTransport``.
    """
    if not callable(protocol_factory):
        raise TypeError(
            f"as_twisted_datagram_protocol() takes a callable that makes asyncio protocols, got {protocol_factory!r}"
        )
    if remote_addr is not None:
        _check_address(remote_addr)
    return TwistedDatagramProtocol(protocol_factory, remote_addr=remote_addr, loop=loop)


def as_asyncio_datagram_protocol(iprotocol: Any) -> AsyncioDatagramProtocol:
    """
    Return an asyncio protocol that carries one of Twisted's: for ``create_datagram_endpoint()`` of any loop.

    Args:
        iprotocol: A ``DatagramProtocol``, or a ``ConnectedDatagramProtocol`` for an endpoint of UNIX datagrams that is
            connected.

    Returns:
        A ``DatagramProtocol`` of asyncio's. *iprotocol* is its ``protocol``. Its transport is an
        ``IMulticastTransport``, or the one that Twisted has for UNIX datagrams. With a ``remote_addr=``, *iprotocol*
        finds itself connected; ``transport.connect()`` connects the socket later.

    Raises:
        TypeError: *iprotocol* is no datagram protocol of Twisted's.

    Context:
        The loop's thread. No reactor is needed.

    Source:
        asyncio, "Transports and Protocols", "Datagram Protocols"; Twisted, ``IUDPTransport``, ``IMulticastTransport``.
    """
    if not (hasattr(iprotocol, "makeConnection") and hasattr(iprotocol, "datagramReceived")):
        raise TypeError(f"as_asyncio_datagram_protocol() takes a DatagramProtocol of Twisted's, got {iprotocol!r}")
    return AsyncioDatagramProtocol(iprotocol)


def _check_address(address: Any) -> None:
    if not isinstance(address, tuple) or len(address) not in (2, 4) or not isinstance(address[1], int):
        raise TypeError(
            f"remote_addr is (host, port), or (host, port, flow information, scope) for IPv6; got {address!r}"
        )
    host = address[0]
    if not isinstance(host, str) or not (isIPAddress(host) or isIPv6Address(host)):
        raise ValueError(f"the host of remote_addr must be an IP address, got {host!r}: look up its address first")
