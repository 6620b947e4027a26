"""
The asyncio protocol that carries one of Twisted's. Its twin is `txasync.adapters._on_twisted._protocol`.

==========================================  =======================================================================
asyncio's transport calls                   and so Twisted's protocol is called
==========================================  =======================================================================
``connection_made``                         ``makeConnection``; over TLS, ``handshakeCompleted`` as well
``data_received``                           ``dataReceived``
``eof_received``                            ``readConnectionLost``, if it has it and this is not TLS; else the
                                            connection is closed, as by Twisted's transports
``pause_writing``, ``resume_writing``       nothing: it is its registered producer that is asked
``connection_lost``                         ``connectionLost``
==========================================  =======================================================================

What Twisted's protocol raises is reported to the loop's exception handler, and is the reason of ``connectionLost``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, INegotiated
from twisted.python.failure import Failure

from .._errors import as_loss_reason
from ._transport import TwistedTransport

__all__ = ["AsyncioFactory", "AsyncioProtocol"]


class AsyncioProtocol(asyncio.Protocol):
    """
    An asyncio protocol, for any stream transport of any loop: what it is told, Twisted's protocol is told.

    Args:
        build_protocol: Makes Twisted's protocol, or None to refuse the connection; called with the peer's ``IAddress``.
        is_client: Which side ``startTLS()`` takes.
        lost: Called when the connection is lost, after Twisted's protocol.

    Attributes:
        protocol: Twisted's protocol, once there is a connection.
    """

    protocol: Any = None
    _transport: Any = None
    _itransport: TwistedTransport  # which is under TLS, once that has begun
    _uppermost: TwistedTransport
    _failure: Exception | None = None
    _is_at_end = False

    def __init__(
        self, build_protocol: Callable[[Any], Any], *, is_client: bool = False, lost: Callable[[], None] = lambda: None
    ) -> None:
        self._build_protocol = build_protocol
        self._is_client = is_client
        self._lost = lost

    def connection_made(self, transport: Any) -> None:
        """There is a connection."""
        self._transport = transport
        itransport = self._itransport = self._uppermost = TwistedTransport(transport, self, is_client=self._is_client)
        try:
            protocol = self._build_protocol(itransport.getPeer())
        except BaseException:
            transport.abort()
            raise
        if protocol is None:  # which is Twisted's way to refuse a connection
            transport.abort()
            return
        self.protocol = itransport.protocol = protocol
        try:
            protocol.makeConnection(itransport)
            is_secured = INegotiated.providedBy(itransport) and not itransport.aborted
            if is_secured and self._itransport is itransport and IHandshakeListener.providedBy(protocol):
                protocol.handshakeCompleted()
        except Exception as error:
            self.fail(error)

    def stand_on(self, itransport: TwistedTransport) -> None:
        """What happens is *itransport*'s from now on: there is TLS above it."""
        self._itransport = itransport

    def data_received(self, data: bytes) -> None:
        """Data has come."""
        itransport = self._itransport
        if itransport.disconnecting:
            return
        if itransport.paused:
            itransport.keep(data)
            return
        try:
            itransport.protocol.dataReceived(data)
        except Exception as error:
            self.fail(error)

    def eof_received(self) -> bool:
        """No more data will come."""
        itransport = self._itransport
        if not INegotiated.providedBy(itransport):
            if itransport.disconnecting or self._is_at_end:
                return True  # it is closed when all was sent; and after a pause asyncio may tell this twice
            listener = IHalfCloseableProtocol(itransport.protocol, None)
            if listener is not None:
                self._is_at_end = True
                try:
                    listener.readConnectionLost()
                except Exception as error:
                    self.fail(error)
                return True
        itransport.end()
        return False

    def pause_writing(self) -> None:
        """asyncio's transport holds more than its high-water mark."""
        self._itransport.hold_up()

    def resume_writing(self) -> None:
        """asyncio's transport holds no more than its low-water mark."""
        self._itransport.let_go()

    def fail(self, error: Exception) -> None:
        """
        Twisted's protocol or its producer has raised *error*: it is reported, and the end of the connection.

        asyncio's transports do this as well, but say nothing of an ``OSError``, and cannot tell it from the network's.
        """
        context = {
            "message": f"The Twisted protocol of a connection, or its producer, raised {type(error).__name__}",
            "exception": error,
            "transport": self._transport,
            "protocol": self.protocol,
        }
        asyncio.get_running_loop().call_exception_handler(context)
        if self._failure is None:
            self._failure = error
        self._itransport.abort_soon()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        itransport, uppermost = self._itransport, self._uppermost
        if sys.version_info < (3, 11):
            self._transport.close()  # asyncio's TLS warns there of a transport that nobody has closed, lost or not
        uppermost.lose()
        itransport.lose()
        reason = self._failure or as_loss_reason(exc, aborted=itransport.aborted)
        protocol, itransport.protocol = itransport.protocol, None
        try:
            if protocol is not None:
                protocol.connectionLost(Failure(reason, type(reason), reason.__traceback__))
        finally:
            self._failure = None
            itransport.forget()
            uppermost.forget()
            self._lost()


class AsyncioFactory:
    """
    An asyncio protocol factory: for each connection, *factory* makes a protocol of Twisted's.

    *factory* is started with its first connection, and stopped with its last one.

    Args:
        factory: Any ``IProtocolFactory``.
        is_client: Which side ``startTLS()`` takes.
    """

    def __init__(self, factory: Any, *, is_client: bool = False) -> None:
        self._factory = factory
        self._is_client = is_client

    def __call__(self) -> AsyncioProtocol:
        """A protocol for a new connection."""
        return AsyncioProtocol(self._build_protocol, is_client=self._is_client, lost=self._factory.doStop)

    def _build_protocol(self, address: Any) -> Any:
        self._factory.doStart()
        return self._factory.buildProtocol(address)
