"""The loop's socket transports: how they are made, on both ends of a connection, and how they send files."""

from __future__ import annotations

import asyncio
import asyncio.constants
import contextlib
import contextvars
import socket
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ._connections import Connections
from ._tls_streams import TLSSettings, TLSStreams
from .transports import (
    UNKNOWN,
    DatagramTransport,
    Listener,
    LoopServices,
    SocketTransport,
    StreamTransport,
    set_nodelay,
)

if TYPE_CHECKING:
    from .transports import SSLTransport

__all__ = ["Sockets"]


class Sockets:
    """
    Makes transports for one loop, and knows which descriptors are theirs.

    Args:
        services: The loop.

    Attributes:
        tls: Makes those of TLS.
    """

    def __init__(self, services: LoopServices) -> None:
        self._services = services
        self.tls = TLSStreams(services)
        # What is left of a lost transport stays here until its number comes again. A dictionary that forgets it at once
        # would cost each connection as much as its peer's address does.
        self._by_descriptor: dict[int, weakref.ref[SocketTransport]] = {}

    def stream(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        peername: Any = UNKNOWN,
        server: Any = None,
        context: contextvars.Context | None = None,
    ) -> StreamTransport:
        """A transport for the connected *sock*; *server* is told when it is made, and when it is lost."""
        set_nodelay(sock)
        connections = None if server is None else Connections(server, self.all)
        return self._connect(sock, protocol, waiter, peername, connections, context)

    def tls_stream(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        settings: TLSSettings,
        concluded: Callable[[BaseException | None], None],
        *,
        peername: Any = UNKNOWN,
        server: Any = None,
        context: contextvars.Context | None = None,
    ) -> SSLTransport:
        """As `stream`, by TLS; *concluded* is called as `SSLTransport` says."""

        def stream(below: asyncio.BaseProtocol) -> StreamTransport:
            return self.stream(sock, below, peername=peername, server=server, context=context)

        return self.tls.connect(sock, protocol, settings, concluded, stream)

    def _connect(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None,
        peername: Any,
        connections: Connections | None,
        context: contextvars.Context | None,
    ) -> StreamTransport:
        transport = StreamTransport(self._services, sock, protocol, waiter, peername, connections, context)
        self._by_descriptor[sock.fileno()] = weakref.ref(transport)
        if connections is not None:
            connections.add()
        return transport

    def datagram(
        self, sock: socket.socket, protocol: asyncio.BaseProtocol, address: Any, waiter: asyncio.Future[None] | None
    ) -> DatagramTransport:
        """A transport for the datagrams of *sock*."""
        transport = DatagramTransport(self._services, sock, protocol, address, waiter)
        self._by_descriptor[sock.fileno()] = weakref.ref(transport)
        return transport

    def owner(self, fd: int) -> SocketTransport | None:
        """The transport that *fd* belongs to: not one that is closing, or whose socket somebody else has closed."""
        reference = self._by_descriptor.get(fd)
        transport = reference() if reference is not None else None
        return transport if transport is not None and transport.owns(fd) else None

    @contextlib.contextmanager
    def lent(self, transport: SocketTransport, fd: int) -> Iterator[None]:
        """Let others watch *fd*, which is *transport*'s."""
        reference = self._by_descriptor.pop(fd)
        try:
            yield
        finally:
            if transport.owns(fd):
                self._by_descriptor[fd] = reference

    def all(self) -> list[SocketTransport]:
        """The transports that are not lost."""
        transports = [reference() for reference in self._by_descriptor.values()]
        return [transport for transport in transports if transport is not None and not transport.is_lost()]

    def serve(
        self,
        sock: socket.socket,
        backlog: int,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: Any,
        *,
        tls: TLSSettings | None,
        context: contextvars.Context | None,
        watch: Callable[[Callable[[], object]], object],
        unwatch: Callable[[], object],
    ) -> None:
        """
        Accept the connections that come to *sock*.

        Args:
            sock: The listening socket, which is *server*'s.
            backlog: The most connections to accept at once.
            protocol_factory: Makes each connection's protocol.
            server: The server, which is told of each connection and its end.
            tls: How the connections are secured, if they are.
            context: What each connection's callbacks run in a copy of, all in the same. Default: copies of the one in
                which a connection is accepted.
            watch: Has a callable called when *sock* is ready.
            unwatch: Undoes that.
        """

        def listen() -> None:
            if sock.fileno() != -1:
                watch(listener.accept)

        def exhausted() -> None:
            unwatch()
            self._services.call_later(asyncio.constants.ACCEPT_RETRY_DELAY, listen)

        accepted = self._accepting(protocol_factory, server, tls, context)
        listener = Listener(self._services, sock, backlog, accepted=accepted, exhausted=exhausted)
        listen()

    def _accepting(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: Any,
        tls: TLSSettings | None,
        context: contextvars.Context | None,
    ) -> Callable[[socket.socket, Any], None]:
        """What makes a transport of an accepted socket and its peer's address."""
        connections = Connections(server, self.all)

        def make_plain(
            sock: socket.socket, protocol: asyncio.BaseProtocol, peername: Any, given: contextvars.Context | None
        ) -> None:
            self._connect(sock, protocol, None, peername, connections, given)

        def make_tls(
            sock: socket.socket, protocol: asyncio.BaseProtocol, peername: Any, given: contextvars.Context | None
        ) -> None:
            def stream(below: asyncio.BaseProtocol) -> StreamTransport:
                return self._connect(sock, below, None, peername, connections, given)

            assert tls is not None
            self.tls.connect(sock, protocol, tls, self._handshake_concluded, stream)

        make = make_plain if tls is None else make_tls

        def accepted(connection: socket.socket, peername: Any) -> None:
            own_context = contextvars.copy_context() if context is None else context.copy()
            own_context.run(connect, connection, peername, None if context is None else own_context)

        def connect(connection: socket.socket, peername: Any, given: contextvars.Context | None) -> None:
            try:
                make(connection, protocol_factory(), peername, given)
            except BaseException as error:
                connection.close()
                if isinstance(error, SystemExit | KeyboardInterrupt):
                    raise
                self._report_connection(error)

        return accepted

    def _handshake_concluded(self, error: BaseException | None) -> None:
        # Whoever can connect could fill the log with it.
        if error is not None and self._services.get_debug():
            self._report_connection(error)

    def _report_connection(self, error: BaseException) -> None:
        self._services.call_exception_handler(
            {"message": "Error on transport creation for incoming connection", "exception": error}
        )
