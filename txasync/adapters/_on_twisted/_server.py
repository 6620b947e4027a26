"""A listening port of Twisted's, as a server of asyncio's."""

from __future__ import annotations

import asyncio
import sys
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred

from ...bridge import as_future
from .._addresses import as_sockaddr
from ._protocol import TwistedFactory, TwistedProtocol

__all__ = ["EndpointServer", "ServerFactory"]


class ServerFactory(TwistedFactory):
    """
    A factory that knows its connections. Arguments are those of `TwistedFactory`.

    Attributes:
        connections: Those that are not lost.
        none_left: Called when the last one is lost.
    """

    def __init__(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        super().__init__(protocol_factory, loop=loop)
        self.connections: set[TwistedProtocol] = set()
        self.none_left: Callable[[], None] = lambda: None

    def buildProtocol(self, addr: Any) -> TwistedProtocol | None:  # type: ignore[override]  # None is Twisted's refusal
        try:
            protocol = super().buildProtocol(addr)
        except Exception as error:
            loop = self._loop or asyncio.get_running_loop()
            message = "Error on transport creation for incoming connection"
            loop.call_exception_handler({"message": message, "exception": error})
            return None  # the connection is closed
        protocol.lost = self._lost
        self.connections.add(protocol)
        return protocol

    def _lost(self, protocol: TwistedProtocol) -> None:
        self.connections.discard(protocol)
        if not self.connections:
            self.none_left()


class EndpointServer(asyncio.AbstractServer):
    """
    What `txasync.serve` returns: it listens by an endpoint of Twisted's, and is used as ``asyncio.Server`` is.

    Args:
        port: What the endpoint listens with.
        factory: Makes its protocols.

    Attributes:
        port: As given: an ``IListeningPort``.

    Context:
        The loop's thread.

    Source:
        asyncio, "Server Objects"; Twisted, ``IListeningPort``.
    """

    def __init__(self, port: Any, factory: ServerFactory) -> None:
        self.port = port
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._sockname = as_sockaddr(port.getHost())
        self._serving = True
        self._has_stopped = False
        self._forever: asyncio.Future[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        factory.none_left = self._wake_waiters

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._sockname!r} serving={self._serving} port={self.port!r}>"

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that its protocols belong to."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return self._serving

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """The listening socket, while it listens and if the port shows one."""
        listening = getattr(self.port, "socket", None) if self._serving else None
        return () if listening is None else (TransportSocket(listening),)

    @property
    def sockname(self) -> Any:
        """Where it listens, or has listened, as ``getsockname()`` has it; None if Twisted has no such address."""
        return self._sockname

    def close(self) -> None:
        """Stop listening; connections stay. `wait_closed` waits for the end of it."""
        if not self._serving:
            return
        self._serving = False
        # That of StandardIOEndpoint is no port, but its one connection.
        stop = getattr(self.port, "stopListening", lambda: None)
        stopping = as_future(maybeDeferred(stop), loop=self._loop)
        stopping.add_done_callback(self._port_has_stopped)
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()

    def _port_has_stopped(self, stopping: asyncio.Future[Any]) -> None:
        error = None if stopping.cancelled() else stopping.exception()
        if error is not None:
            self._loop.call_exception_handler(
                {"message": f"{self.port!r} could not stop listening", "exception": error, "server": self}
            )
        self._has_stopped = True
        self._wake_waiters()

    def close_clients(self) -> None:
        """Close all connections that it has accepted."""
        for protocol in list(self._factory.connections):
            protocol.close()

    def abort_clients(self) -> None:
        """Abort all connections that it has accepted."""
        for protocol in list(self._factory.connections):
            protocol.abort()

    async def start_serving(self) -> None:
        """
        Nothing that is not done: Twisted's endpoints listen from the beginning.

        Raises:
            RuntimeError: The server is closed.

        Cancellation:
            Nothing changes.
        """
        if not self._serving:
            raise RuntimeError(f"server {self!r} is closed")
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """
        Serve until this is cancelled, or the server is closed: then, and there, CancelledError is raised.

        Raises:
            RuntimeError: The server is closed, or this is being awaited elsewhere.

        Cancellation:
            Closes the server and waits as `wait_closed` does; from Python 3.14 on, closes the connections, too.
        """
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if not self._serving:
            raise RuntimeError(f"server {self!r} is closed")
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            if sys.version_info >= (3, 14):
                self.close_clients()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    async def wait_closed(self) -> None:
        """
        Wait until the server is closed and listens no more, and until its connections are lost.

        Before Python 3.12, connections are not waited for if the server is closed already.

        Cancellation:
            Nothing changes.
        """
        is_patient = self._serving or sys.version_info >= (3, 12)
        while not self._has_stopped or (is_patient and self._factory.connections):
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
