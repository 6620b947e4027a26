"""
The Twisted protocol that carries one of asyncio's. Its twin is `txasync.adapters._on_asyncio._protocol`.

==========================================  =======================================================================
Twisted's transport calls                   and so asyncio's protocol is called
==========================================  =======================================================================
``connectionMade``                          ``connection_made``; over TLS, when the handshake is done
``dataReceived``                            ``data_received``, or ``get_buffer`` and ``buffer_updated``
``readConnectionLost``                      ``eof_received``
``pauseProducing``, ``resumeProducing``     ``pause_writing``, ``resume_writing``, by asyncio's marks
``connectionLost``                          ``connection_lost``; before it, ``eof_received`` if the peer has closed
                                            and this was not told, as over TLS
==========================================  =======================================================================
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from ...transports import report
from .._errors import as_loss
from ._calls import ProtocolCalls
from ._transport import AsyncioTransport

__all__ = ["TwistedFactory", "TwistedProtocol"]

# As asyncio's. Twisted has no such limit.
HANDSHAKE_TIMEOUT_S = 60.0


@implementer(IHalfCloseableProtocol)
class TwistedProtocol(Protocol):
    """
    A Twisted protocol, for any stream transport of Twisted's: what it is told, *protocol* is told.

    Args:
        protocol: A ``Protocol`` or ``BufferedProtocol`` of asyncio's, that is not connected yet.
        loop: The loop that *protocol* belongs to. Default: the one that runs when the connection is made.
        context: The context in which *protocol* is called. Default: a copy of the present one.
        connected: Called with the asyncio transport once *protocol* has it, or with what kept it from that.

    Attributes:
        protocol: *protocol*.
        asyncio_transport: Its transport, once it has one.
        lost: Called with this object when the connection is lost, after *protocol*.
    """

    lost: Callable[[TwistedProtocol], None] = staticmethod(lambda protocol: None)

    asyncio_transport: AsyncioTransport | None = None
    _handshake_limit: asyncio.TimerHandle | None = None
    _refusal: BaseException | None = None

    def __init__(
        self,
        protocol: asyncio.BaseProtocol,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        context: contextvars.Context | None = None,
        connected: Callable[[AsyncioTransport | BaseException], None] = lambda outcome: None,
    ) -> None:
        self.protocol = protocol
        self._loop = loop
        self._context = context or contextvars.copy_context()
        self._connected = connected

    def logPrefix(self) -> str:
        """The name that Twisted's log has for this connection."""
        return type(self.protocol).__name__

    # The beginning

    def connectionMade(self) -> None:
        """Twisted's transport is connected."""
        self._loop = self._loop or self._running_loop()
        if _awaits_handshake(self.transport):
            self._listen_to_handshake()
            self._handshake_limit = self._loop.call_later(HANDSHAKE_TIMEOUT_S, self._give_up_handshake)
        else:
            self._begin()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            self._end_itransport()
            raise RuntimeError(
                f"{self.protocol!r} was connected by {self.transport!r}, but no asyncio loop runs here: call "
                f"txasync.install() before, or name the loop that it belongs to (loop=)"
            ) from None

    def _listen_to_handshake(self) -> None:
        # Declared for this object only, and only now: of the interfaces of a protocol, Twisted's endpoints pass on just
        # one, because each directlyProvides() takes back the one before; and without TLS that has to be half-closing.
        listener: Any = self.transport.wrappedProtocol  # type: ignore[union-attr]
        alsoProvides(self, IHandshakeListener)
        if listener is not self and hasattr(listener, "handshakeCompleted"):
            alsoProvides(listener, IHandshakeListener)

    def handshakeCompleted(self) -> None:
        """The handshake of TLS is done, perhaps once more."""
        # Twisted 24.7 checks whom a certificate is for when the handshake has ended, and tells of that end even if it
        # has just refused the peer.
        if self.asyncio_transport is None and not self.transport.disconnecting:  # type: ignore[union-attr]
            self._begin()

    def _give_up_handshake(self) -> None:
        self._handshake_limit = None
        self._refusal = ConnectionAbortedError(
            f"SSL handshake is taking longer than {HANDSHAKE_TIMEOUT_S} seconds: aborting the connection"
        )
        self._end_itransport()

    def _end_itransport(self) -> None:
        itransport: Any = self.transport
        getattr(itransport, "abortConnection", itransport.loseConnection)()

    def _begin(self) -> None:
        loop = self._loop
        assert loop is not None
        self._end_handshake_limit()
        transport = self.asyncio_transport = AsyncioTransport(self.transport, self.protocol, loop, self._context)
        transport.set_up()
        vars(self)["dataReceived"] = transport.receive  # not by way of the method: a call less for each message
        try:
            # Before 3.15, what it sets is not seen by other callbacks of asyncio's own transports.
            context = self._context if sys.version_info >= (3, 15) else self._context.copy()
            context.run(self.protocol.connection_made, transport)
        except (SystemExit, KeyboardInterrupt) as error:
            ProtocolCalls(loop, self._context).leave(error)
        except BaseException as error:
            report(loop.call_exception_handler, transport, error, "protocol.connection_made() failed")
        self._connected(transport)

    def _end_handshake_limit(self) -> None:
        if self._handshake_limit is not None:
            self._handshake_limit.cancel()
            self._handshake_limit = None

    # What Twisted's transport tells

    def dataReceived(self, data: bytes) -> None:
        """Data has come."""
        if self.asyncio_transport is None:
            self._begin()  # the handshake is done, and whoever stands between TLS and us has not passed that on
        self.asyncio_transport.receive(data)  # type: ignore[union-attr]

    def readConnectionLost(self) -> None:
        """No more will come."""
        if self.asyncio_transport is not None:
            self.asyncio_transport.receive_eof()

    def writeConnectionLost(self) -> None:
        """All was sent before our half-close, and that too."""
        if self.asyncio_transport is not None:
            self.asyncio_transport.let_go()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone."""
        error: Any = self._refusal or reason.value
        if self.asyncio_transport is not None:
            self.asyncio_transport.lose(error)
        else:
            self._end_handshake_limit()
            self._connected(
                as_loss(error) or ConnectionResetError("the connection was closed during the TLS handshake")
            )
        self.lost(self)

    def close(self) -> None:
        """Close the connection, even if asyncio's protocol has not heard of it yet."""
        if self.asyncio_transport is not None:
            self.asyncio_transport.close()
        else:
            self._end_itransport()

    def abort(self) -> None:
        """Abort the connection, likewise."""
        if self.asyncio_transport is not None:
            self.asyncio_transport.abort()
        else:
            self._end_itransport()


class TwistedFactory(ClientFactory):
    """
    A Twisted factory, for servers and clients: for each connection, it makes a protocol of asyncio's.

    Args:
        protocol_factory: Called without arguments; makes a ``Protocol`` or ``BufferedProtocol``.
        loop: As for `TwistedProtocol`.
    """

    noisy = False

    def __init__(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._protocol_factory = protocol_factory
        self._loop = loop
        self._context = contextvars.copy_context()

    def logPrefix(self) -> str:
        """The name that Twisted's log has for this factory."""
        return getattr(self._protocol_factory, "__name__", type(self._protocol_factory).__name__)

    def buildProtocol(self, addr: Any) -> TwistedProtocol:
        """The protocol of a new connection."""
        context = self._context.copy()
        protocol = TwistedProtocol(context.run(self._protocol_factory), loop=self._loop, context=context)
        protocol.factory = self
        return protocol


def _awaits_handshake(itransport: Any) -> bool:
    """
    Whether *itransport* is TLS, will call ``handshakeCompleted()``, and has not yet.

    Only Twisted's own TLS protocol calls that, and only on the protocol right above it (twisted#12007).
    """
    tls: Any = sys.modules.get("twisted.protocols.tls")
    if tls is None or not isinstance(itransport, tls.TLSMemoryBIOProtocol):
        return False
    return itransport.getHandle().get_cipher_name() is None
