"""
The asyncio datagram protocol that carries one of Twisted's. Its twin is `txasync.adapters._on_twisted._datagram`.

==========================================  =======================================================================
asyncio's transport calls                   and so Twisted's protocol is called
==========================================  =======================================================================
``connection_made``                         ``makeConnection``, and so ``startProtocol``
``datagram_received``                       ``datagramReceived``
``error_received``                          ``connectionRefused``, if it is that, and the transport is connected; what
                                            comes of a ``write()`` is raised there, and the rest is logged
``pause_writing``, ``resume_writing``       nothing: in between, ``write()`` raises ``BlockingIOError``
``connection_lost``                         ``doStop``, and so ``stopProtocol``
==========================================  =======================================================================

What Twisted's protocol raises is logged to ``twisted.logger``, as Twisted's ports do; only asyncio knows how to end a
program, and so ``SystemExit`` and ``KeyboardInterrupt`` go there.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import ConnectedDatagramProtocol
from twisted.logger import Logger

from ._datagram_transport import (
    ConnectedUNIXDatagramTransport,
    TwistedDatagramTransport,
    UDPTransport,
    UNIXDatagramTransport,
)

__all__ = ["AsyncioDatagramProtocol"]

_log = Logger()


class AsyncioDatagramProtocol(asyncio.DatagramProtocol):
    """
    An asyncio datagram protocol, for the endpoints of any loop: what it is told, Twisted's protocol is told.

    Args:
        iprotocol: A ``DatagramProtocol`` of Twisted's, or a ``ConnectedDatagramProtocol``.

    Attributes:
        protocol: *iprotocol*.
    """

    _itransport: TwistedDatagramTransport
    _started = False

    def __init__(self, iprotocol: Any) -> None:
        self.protocol = iprotocol
        self._takes_no_address = isinstance(iprotocol, ConnectedDatagramProtocol)

    def connection_made(self, transport: Any) -> None:
        """There is a transport."""
        kind: type[TwistedDatagramTransport] = UDPTransport
        if _is_unix(transport):
            kind = ConnectedUNIXDatagramTransport if self._takes_no_address else UNIXDatagramTransport
        self._itransport = kind(transport, self.protocol)
        try:
            self.protocol.makeConnection(self._itransport)
        except BaseException:
            transport.abort()  # Twisted's port would not have begun to read
            raise
        self._started = True

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """A datagram has come."""
        if self._itransport.stopping:
            return
        if self._takes_no_address:
            self._call(self.protocol.datagramReceived, data)
        else:
            self._call(self.protocol.datagramReceived, data, addr[:2] if isinstance(addr, tuple) else addr)

    def error_received(self, exc: Exception) -> None:
        """Sending a datagram, or receiving one, has failed."""
        itransport = self._itransport
        if itransport.take_error(exc):
            return
        if not isinstance(exc, ConnectionRefusedError):
            _log.error("{transport} goes on after {error!r}", transport=itransport, error=exc)
        elif itransport.connected and not itransport.stopping:
            if not self._call(self.protocol.connectionRefused):
                itransport.abort()  # as Twisted's ports end then

    def pause_writing(self) -> None:
        """asyncio's transport holds more than its high-water mark."""
        self._itransport.hold_up()

    def resume_writing(self) -> None:
        """asyncio's transport holds no more than its low-water mark."""
        self._itransport.let_go()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The transport is gone."""
        self._itransport.lose()
        if self._started:
            self._started = False
            self._call(self.protocol.doStop)

    def _call(self, callback: Callable[..., Any], *args: Any) -> bool:
        """Whether *callback* has not failed; if it has, Twisted's log has it."""
        try:
            callback(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            _log.failure("Unhandled Error")
            return False
        return True


def _is_unix(transport: Any) -> bool:
    sock = transport.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX
