"""
The Twisted datagram protocol that carries one of asyncio's. Its twin is `txasync.adapters._on_asyncio._datagram`.

==========================================  =======================================================================
Twisted's port calls                        and so asyncio's protocol is called
==========================================  =======================================================================
``startProtocol``                           ``connection_made``, once the port is connected to *remote_addr*, if any
``datagramReceived``                        ``datagram_received``
``connectionRefused``                       ``error_received``, with a ``ConnectionRefusedError``
``stopProtocol``                            ``connection_lost``
==========================================  =======================================================================
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IUNIXDatagramConnectedTransport
from twisted.internet.protocol import ConnectedDatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from ._datagram_port import extra_info
from ._datagram_transport import AsyncioDatagramTransport

__all__ = ["TwistedDatagramProtocol"]

_log = Logger()


class TwistedDatagramProtocol(ConnectedDatagramProtocol):
    """
    A Twisted datagram protocol, for any UDP or UNIX port: what it is told, a protocol of asyncio's is told.

    It can be given to another port when one has stopped; each gets a protocol of its own, in a context of its own.

    Args:
        protocol_factory: Called without arguments when the port starts; makes a ``DatagramProtocol``.
        remote_addr: The address to connect the port to: an IP address and a port, perhaps flow information and scope.
        loop: The loop that the protocol belongs to. Default: the one that runs when the port starts.

    Attributes:
        protocol: asyncio's protocol, once the port has started.
        asyncio_transport: Its transport, as long as the port is there.
    """

    noisy = False
    protocol: Any = None
    asyncio_transport: AsyncioDatagramTransport | None = None

    _refusal: BaseException | None = None

    def __init__(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        remote_addr: tuple[Any, ...] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._protocol_factory = protocol_factory
        self._remote_addr = remote_addr
        self._loop = loop
        self._context = contextvars.copy_context()

    def logPrefix(self) -> str:
        """The name that Twisted's log has for this protocol."""
        if self.protocol is not None:
            return type(self.protocol).__name__
        return getattr(self._protocol_factory, "__name__", type(self._protocol_factory).__name__)

    # The beginning

    def makeConnection(self, transport: Any) -> None:
        """A port has started; if asyncio's side refuses it, it is stopped, and whoever started it is told why."""
        super().makeConnection(transport)
        refusal, self._refusal = self._refusal, None
        if refusal is None:
            return
        if not IUNIXDatagramConnectedTransport.providedBy(transport):  # those stop by themselves
            transport.stopListening()
        try:
            raise refusal
        finally:
            del refusal  # its traceback holds this frame

    def startProtocol(self) -> None:
        """The port has started."""
        try:
            self._start()
        except BaseException as error:
            # Raised from here, Twisted would not count the port as started, nor be able to stop it.
            self._refusal = error

    def _start(self) -> None:
        itransport: Any = self.transport
        running = _running_loop()
        loop = self._loop or running
        if loop is None:
            raise RuntimeError(
                f"{itransport!r} has started, but no asyncio loop runs here: call txasync.install() before, and start "
                f"it when the reactor runs, or name the loop that {self._protocol_factory!r} belongs to (loop=)"
            )
        # A socket that was adopted may be connected already: then the port is to know, too.
        peer = self._remote_addr or extra_info(itransport)["peername"]
        if isinstance(peer, tuple):
            itransport.connect(*peer[:2])
        context = self._context.copy()
        self.protocol = context.run(self._protocol_factory)
        transport = self.asyncio_transport = AsyncioDatagramTransport(
            itransport, self.protocol, loop, context, self._remote_addr
        )
        if running is loop:
            transport.begin()
        else:
            # A protocol may look for its loop in connection_made(), and that is to be found only once it runs.
            loop.call_soon(transport.begin)

    def connectionFailed(self, failure: Failure) -> None:
        """A UNIX port could not be connected. Who has asked for it is told nothing, and so the log is."""
        _log.failure("{prefix} has no datagram port", failure=failure, prefix=self.logPrefix())

    # What Twisted's port tells

    def datagramReceived(self, datagram: bytes, addr: Any = None) -> None:
        """A datagram has come, from *addr* if the port is one that tells."""
        if self.asyncio_transport is not None:
            self.asyncio_transport.receive(datagram, addr)

    def connectionRefused(self) -> None:
        """A datagram that was sent has found nobody."""
        if self.asyncio_transport is not None:
            self.asyncio_transport.refuse()

    def stopProtocol(self) -> None:
        """The port is gone."""
        transport, self.asyncio_transport = self.asyncio_transport, None
        if transport is not None:
            transport.lose()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
