"""
The Twisted transport that stands on an asyncio one. Its twin is `txasync.adapters._on_twisted._transport`.

==================================================  ==========================================================
Twisted's protocol calls                            and so asyncio's transport is called
==================================================  ==========================================================
``write``, ``writeSequence``                        ``write``
``pauseProducing``, ``resumeProducing``             ``pause_reading``, ``resume_reading``
``loseWriteConnection``                             ``write_eof``, if it can, when there is no producer any more
``loseConnection``                                  ``pause_reading``; ``close``, when there is no producer
``abortConnection``                                 ``abort``
``startTLS``                                        nothing: Twisted's own TLS is put between
==================================================  ==========================================================

What ends the connection or its write side is called in the loop's next round: what is written in the same turn is sent,
as on Twisted's transports, and nothing calls back before it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    INegotiated,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from zope.interface import alsoProvides, implementer

from .._addresses import as_iaddress
from ._clock import LoopClock
from ._peer import negotiated_protocol, peer_certificate

__all__ = ["TwistedTransport"]

# With this as SO_LINGER, what was not sent is dropped, and the peer is told by a RST.
_NO_LINGERING = struct.pack("ii", 1, 0)


@implementer(ITCPTransport, ITLSTransport, IConsumer, IPushProducer, ISystemHandle)
class TwistedTransport:
    """
    A Twisted transport over any stream transport of asyncio's, of any loop.

    Over TLS it provides ``INegotiated`` as well, which is an ``ISSLTransport``.

    Args:
        transport: asyncio's transport.
        carrier: Whoever tells this object what happens there, a `_protocol.AsyncioProtocol`.
        is_client: Which side `startTLS` takes if it is to take the normal one.

    Attributes:
        protocol: Twisted's protocol. Another one that is put here takes over.
        producer: The producer that is registered, or None.
        streamingProducer: Whether that is a push producer.
        producerPaused: Whether it was asked to pause, and not yet to resume.
        connected: Whether there is a connection.
        disconnected: Whether nothing can be sent any more, because there is none, or the peer has ended it.
        disconnecting: Whether the connection is to end, because `loseConnection` or `abortConnection` was called.
        aborted: Whether it was `abortConnection`.
        paused: Whether the protocol does not want to be given data.

    Source:
        Twisted, ``ITransport``, ``ITCPTransport``, ``ITLSTransport``, ``IConsumer``, ``IPushProducer``.
    """

    protocol: Any = None
    producer: Any = None
    streamingProducer = False
    producerPaused = False
    connected = True
    disconnected = False
    disconnecting = False
    aborted = False
    paused = False

    _takes = True  # what is written goes to asyncio's transport
    _full = False  # which holds more than its high-water mark
    _has_written = False  # since the pull producer was asked last
    _half_closing = False  # `loseWriteConnection` was called
    _drains = False  # asyncio's transport sends what is left before our half-close
    _waiting: bytes | None = None  # data that has come in spite of a pause
    _tls: Any = None  # Twisted's TLS, if that stands between

    def __init__(self, transport: Any, carrier: Any, *, is_client: bool) -> None:
        self._transport = transport
        self._carrier = carrier
        self._is_client = is_client
        self._loop = asyncio.get_running_loop()
        # Some transports do not know these any more when the connection is lost.
        self._peer = as_iaddress(transport.get_extra_info("peername"))
        self._host = as_iaddress(transport.get_extra_info("sockname"))
        self._ssl_object = transport.get_extra_info("ssl_object")
        if self._ssl_object is not None:
            alsoProvides(self, INegotiated)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self._transport!r}>"

    # ITransport

    def write(self, data: bytes) -> None:
        """
        Send *data*. What is written after the end is dropped.

        Raises:
            TypeError: *data* is not ``bytes``, as on Twisted's transports.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"Twisted's transports write bytes, got {type(data).__name__}: encode or copy it first")
        if not data:
            return
        if self._takes:
            self._transport.write(data)
        elif self._tls is not None:
            self._tls.write(data)
        if self.producer is not None:
            self._producer_has_written()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send what is in *iovec*."""
        # Joined, as asyncio's writelines() has no high-water mark on some versions.
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Close the connection when all was sent, and the registered producer, if any, is unregistered."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if self._tls is None and self._ssl_object is None:
                # What the peer sends, its end included, is of no interest to a producer that has not finished.
                self._transport.pause_reading()
            if self.producer is None:
                self._close_soon()

    def _close_soon(self) -> None:
        if self._tls is not None:
            self._tls.loseConnection()
        else:
            self._loop.call_soon(self._close)

    def _close(self) -> None:
        if self.producer is None and self.connected:
            self._takes = False
            if self._ssl_object is not None:
                self._transport.resume_reading()  # for the peer's close_notify
            self._transport.close()

    def getPeer(self) -> Any:
        """The peer's address."""
        return self._peer

    def getHost(self) -> Any:
        """This side's address."""
        return self._host

    # ITCPTransport

    def abortConnection(self) -> None:
        """Close the connection at once; what was not sent is dropped, and over TCP the peer is told by a RST."""
        if self.connected and not self.aborted:
            self.disconnecting = self.aborted = True
            # Not TLS's own: that says goodbye first.
            (self.abort_soon if self._tls is None else self._tls.transport.abortConnection)()

    def abort_soon(self) -> None:
        """Have asyncio's transport end at once, whatever it is that calls."""
        self.disconnecting = True
        self._takes = False
        self._loop.call_soon(self._abort)

    def _abort(self) -> None:
        if self.connected:
            if self.aborted:
                with contextlib.suppress(OSError):
                    self._option(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
            self._transport.abort()

    def loseWriteConnection(self) -> None:
        """
        Close the connection for writing when all was sent, and the registered producer, if any, is unregistered.

        Where that cannot be, as with TLS, nothing is done.
        """
        if self._takes and not self._half_closing and self._transport.can_write_eof():
            self._half_closing = True
            if self.producer is None:
                self._loop.call_soon(self._write_eof)

    def _write_eof(self) -> None:
        if self._takes and not self.disconnecting and self.producer is None:
            self._takes = False
            self._transport.write_eof()
            # What is left to be sent is more than this, and that is told at once; and so is the end of it.
            self._transport.set_write_buffer_limits(0)
            self._drains = self._full
            if not self._full:
                self._write_has_ended()

    def _write_has_ended(self) -> None:
        self._drains = False
        listener = IHalfCloseableProtocol(self.protocol, None)
        if self.connected and not self.disconnecting and listener is not None:
            self._call(listener.writeConnectionLost)

    def getTcpNoDelay(self) -> bool:
        """Whether ``TCP_NODELAY`` is set; False where there is no TCP, as on Twisted's transports."""
        return self._is_tcp() and bool(self._option(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Set ``TCP_NODELAY``, or clear it; nothing is done where there is no TCP."""
        if self._is_tcp():
            self._option(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(enabled))

    def getTcpKeepAlive(self) -> bool:
        """Whether ``SO_KEEPALIVE`` is set."""
        return bool(self._option(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Set ``SO_KEEPALIVE``, or clear it."""
        self._option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(enabled))

    def _is_tcp(self) -> bool:
        view = self._transport.get_extra_info("socket")
        return view is not None and view.family in (socket.AF_INET, socket.AF_INET6)

    def _option(self, level: int, option: int, *value: int | bytes) -> int:
        view = self._transport.get_extra_info("socket")
        if view is None:
            raise OSError(f"{self._transport!r} has no socket, and so no option {option} of level {level}")
        # uvloop's stand-in for a socket has no options; a duplicate of the socket has them, and shares them.
        with socket.fromfd(view.fileno(), view.family, view.type) as duplicate:
            if value:
                duplicate.setsockopt(level, option, *value)
            return duplicate.getsockopt(level, option)

    # ISystemHandle

    def getHandle(self) -> Any:
        """What asyncio shows of the socket; over TLS, the ``ssl_object``, or pyOpenSSL's connection."""
        if self._tls is not None:
            return self._tls.getHandle()
        return self._ssl_object or self._transport.get_extra_info("socket")

    # IPushProducer: reading

    def pauseProducing(self) -> None:
        """Read no more, until `resumeProducing`."""
        if self._tls is not None:
            self._tls.pauseProducing()
        elif self.connected and not self.disconnecting:
            self.paused = True
            self._transport.pause_reading()

    def resumeProducing(self) -> None:
        """Read on."""
        if self._tls is not None:
            self._tls.resumeProducing()
        elif self.connected and not self.disconnecting:
            self.paused = False
            if self._waiting is None:
                self._transport.resume_reading()
            else:
                self._loop.call_soon(self._deliver_waiting)

    def keep(self, data: bytes) -> None:
        """
        *data* has come in spite of the pause.

        uvloop's transports, and asyncio's before 3.11.4, begin to read after ``connection_made()``, even if they were
        paused there (`cpython#103607 <https://github.com/python/cpython/issues/103607>`_).
        """
        self._waiting = data if self._waiting is None else self._waiting + data
        self._transport.pause_reading()

    def _deliver_waiting(self) -> None:
        if not self.paused and self._waiting is not None:
            data, self._waiting = self._waiting, None
            self._transport.resume_reading()
            if self.connected:
                self._carrier.data_received(data)

    def stopProducing(self) -> None:
        """`loseConnection`."""
        self.loseConnection()

    # IConsumer: writing

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let *producer* write as asyncio's water marks have it.

        Args:
            producer: What writes.
            streaming: Whether it writes of its own accord, and is asked to pause (``IPushProducer``), or only when it
                is asked to (``IPullProducer``).

        Raises:
            RuntimeError: There is one already.

        Context:
            The loop's thread. A pull producer is asked to write, and one that comes after the end to stop, before this
            returns.
        """
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer!r}, because producer {self.producer!r} was never unregistered."
            )
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer = producer
        self.streamingProducer = streaming
        self.producerPaused = self._has_written = False
        if self._tls is not None:
            self._tls.registerProducer(_WhatTLSTells(self), True)
        if self.producer is producer and not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """There is no producer any more; a connection that has waited for this to close does."""
        if self.producer is not None:
            self.producer = None
            if self._tls is not None:
                self._tls.unregisterProducer()
                self._full = False  # TLS will say so again to the next one
            if self.disconnecting and self.connected and not self.aborted:
                self._close_soon()
            elif self._half_closing:
                self._loop.call_soon(self._write_eof)

    def _producer_has_written(self) -> None:
        if self.streamingProducer:
            # Each time, as it may have been resumed by somebody else. TLS has told it itself.
            if self._full and self._tls is None:
                self._pause_producer()
        elif not self._has_written:
            # A pull producer that was asked may write later, and several times; then it is asked again, if there is
            # room.
            self._has_written = True
            self._loop.call_soon(self._pull)

    def _pull(self) -> None:
        if self._has_written and not (self.producer is None or self.streamingProducer or self._full or self.aborted):
            self._has_written = False
            self._call(self.producer.resumeProducing)

    def _pause_producer(self) -> None:
        self.producerPaused = True
        self.producer.pauseProducing()

    def _call(self, callback: Callable[[], object]) -> None:
        """Call the protocol or its producer; what it raises is the end of the connection, as natively."""
        try:
            callback()
        except Exception as error:
            self._carrier.fail(error)

    # What is told from below

    def hold_up(self) -> None:
        """asyncio's transport holds more than its high-water mark. It is in a write that it says so."""
        self._full = True

    def let_go(self) -> None:
        """What is below holds no more than its low-water mark."""
        self._full = False
        if self._drains:
            self._write_has_ended()
        if self.producer is None:
            return
        if not self.streamingProducer:
            self._loop.call_soon(self._pull)
        elif self.producerPaused:
            self.producerPaused = False
            self._call(self.producer.resumeProducing)

    def hold_up_producer(self) -> None:
        """TLS, which is below, holds more than it should. It may say so at any time."""
        self._full = True
        if self.producer is not None and self.streamingProducer:
            self._pause_producer()

    def end(self) -> None:
        """Nothing more is to be sent, not even by a producer."""
        self._takes = False
        self.disconnected = True
        producer, self.producer = self.producer, None
        if producer is not None:
            self._call(producer.stopProducing)

    def lose(self) -> None:
        """The connection is gone."""
        self.connected = False
        self.end()

    def forget(self) -> None:
        """The connection is gone, and all have been told."""
        self.protocol = self._carrier = self._tls = None

    # ITLSTransport, INegotiated

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """
        Begin TLS in the middle of the connection.

        It is Twisted's own TLS that is put between, whatever the loop, and so the protocol sees of it what it sees on
        Twisted's transports.

        Args:
            contextFactory: As for Twisted's transports: ``CertificateOptions``, ``optionsForClientTLS()``...
            normal: Whether this side has the part in TLS that it has in the connection: a client begins the handshake.

        Context:
            The loop's thread.
        """
        from twisted.protocols.tls import TLSMemoryBIOFactory

        producer, streaming = self.producer, self.streamingProducer
        self.producer = None
        below = TwistedTransport(self._transport, self._carrier, is_client=self._is_client)
        wrapped: Any = None  # as Twisted has it here: there is a protocol already
        clock = LoopClock(self._loop)
        factory: Any = TLSMemoryBIOFactory(contextFactory, self._is_client is normal, wrapped, clock=clock)
        below.protocol = tls = factory.protocol(factory, self.protocol, False)
        below._full, self._full = self._full, False
        below.paused, below._waiting = self.paused, self._waiting
        self._takes = False
        self._tls = tls
        alsoProvides(self, INegotiated)
        self._carrier.stand_on(below)
        tls.makeConnection(below)
        if producer is not None:
            self.registerProducer(producer, streaming)
            if below._full and below.producer is not None:
                below._pause_producer()  # so that it is resumed in time

    def getPeerCertificate(self) -> Any:
        """The peer's certificate, an ``OpenSSL.crypto.X509``; None if it has none, or this is not TLS."""
        return peer_certificate(self._ssl_object) if self._tls is None else self._tls.getPeerCertificate()

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """The protocol that ALPN has settled."""
        return negotiated_protocol(self._ssl_object) if self._tls is None else self._tls.negotiatedProtocol


@implementer(IPushProducer)
class _WhatTLSTells:
    """The producer that Twisted's TLS knows; what it is told, the transport above is told."""

    def __init__(self, transport: TwistedTransport) -> None:
        self._transport = transport

    def pauseProducing(self) -> None:
        self._transport.hold_up_producer()

    def resumeProducing(self) -> None:
        self._transport.let_go()

    def stopProducing(self) -> None:
        self._transport.end()
