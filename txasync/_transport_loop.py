"""asyncio's event loop with our rounds and transports on a poller. What drives it is its subclass's business."""

from __future__ import annotations

import asyncio
import functools
import socket
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from . import transports
from ._child_watchers import chosen_exits
from ._rounds import Rounds
from ._shutdown import OpenTransports
from ._sockets import Sockets
from ._threadsafe import ThreadsafeLoop
from ._tls_streams import check_time_limits, take_unread, waking
from .polling import Poller, PollerSelector
from .tls import check_accepted, default_server_hostname
from .transports import UNKNOWN, ChildExits, LoopServices, StreamTransport

if TYPE_CHECKING:
    from contextvars import Context

__all__ = ["TransportLoop"]

_TransportT = TypeVar("_TransportT", bound=asyncio.BaseTransport)


class TransportLoop(ThreadsafeLoop):
    """
    An event loop whose transports are ours.

    Each override hands over to one collaborator: `Rounds` runs what is ready, `Sockets` makes transports of sockets,
    and the transports themselves know the loop as `LoopServices`.

    Args:
        poller: The loop's descriptors, which are its own from now on.
    """

    def __init__(self, poller: Poller) -> None:
        self._fresh_handles: set[asyncio.Handle] = set()
        super().__init__(PollerSelector(poller, lambda key, event: self._rounds.run_event(key, event)))
        self._rounds = Rounds(self, self._timers, poller, self._fresh_handles)
        self._services = LoopServices(
            poller=poller,
            call_soon=self.call_soon,
            call_soon_threadsafe=self.call_soon_threadsafe,
            call_later=self.call_later,
            time=self.time,
            create_future=self.create_future,
            call_exception_handler=self.call_exception_handler,
            get_debug=self.get_debug,
            is_closed=self.is_closed,
            ready=self._ready,
        )
        self._sockets = Sockets(self._services)
        self._child_exits = ChildExits(self._services)
        self._servers: weakref.WeakSet[asyncio.AbstractServer] = weakref.WeakSet()
        self._open = OpenTransports(self._sockets.tls.all, self._sockets.all)

    # Descriptors

    def _add_reader(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
        handle = super()._add_reader(*args, **kwargs)
        self._fresh_handles.add(handle)
        return handle

    def _add_writer(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
        handle = super()._add_writer(*args, **kwargs)
        self._fresh_handles.add(handle)
        return handle

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        super()._ensure_fd_no_transport(fd)  # asyncio's own transports
        owner = self._sockets.owner(fd if isinstance(fd, int) else fd.fileno())
        if owner is not None:
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {owner!r}")

    # What ssl= may be, beyond what asyncio takes

    async def create_connection(
        self, protocol_factory: Any, *args: Any, ssl: Any = None, server_hostname: str | None = None, **kwargs: Any
    ) -> Any:
        check_accepted(ssl, server_side=False)
        check_time_limits(kwargs)
        kwargs["server_hostname"] = default_server_hostname(ssl, server_hostname)
        return await super().create_connection(protocol_factory, *args, ssl=ssl, **kwargs)

    async def create_unix_connection(
        self, protocol_factory: Any, *args: Any, ssl: Any = None, server_hostname: str | None = None, **kwargs: Any
    ) -> Any:
        check_accepted(ssl, server_side=False)
        check_time_limits(kwargs)
        kwargs["server_hostname"] = default_server_hostname(ssl, server_hostname)
        return await super().create_unix_connection(protocol_factory, *args, ssl=ssl, **kwargs)

    async def create_server(self, protocol_factory: Any, *args: Any, ssl: Any = None, **kwargs: Any) -> Any:
        check_accepted(ssl, server_side=True)
        check_time_limits(kwargs)
        return await super().create_server(protocol_factory, *args, ssl=ssl, **kwargs)

    async def create_unix_server(self, protocol_factory: Any, *args: Any, ssl: Any = None, **kwargs: Any) -> Any:
        check_accepted(ssl, server_side=True)
        check_time_limits(kwargs)
        return await super().create_unix_server(protocol_factory, *args, ssl=ssl, **kwargs)

    async def connect_accepted_socket(self, protocol_factory: Any, *args: Any, ssl: Any = None, **kwargs: Any) -> Any:
        check_accepted(ssl, server_side=True)
        check_time_limits(kwargs)
        return await super().connect_accepted_socket(protocol_factory, *args, ssl=ssl, **kwargs)

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        server_hostname = default_server_hostname(sslcontext, server_hostname)
        settings = self._sockets.tls.settings(
            sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"transport {transport!r} is not supported by start_tls(): it must be an asyncio.Transport")
        unread = take_unread(protocol) if server_side else b""
        return await self._sockets.tls.upgrade(transport, protocol, settings, unread)

    # Transports, and servers: all of them are noted, to be closed at the end

    def _start_serving(
        self,
        protocol_factory: Any,
        sock: Any,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        *,
        context: Context | None = None,
    ) -> None:
        self._servers.add(server)
        for_handles = {} if context is None else {"context": context}
        tls = None
        if sslcontext is not None:
            tls = self._sockets.tls.settings(sslcontext, True, None, ssl_handshake_timeout, ssl_shutdown_timeout)
        self._sockets.serve(
            sock,
            backlog,
            protocol_factory,
            server,
            tls=tls,
            context=context,
            watch=lambda accept: self._add_reader(sock.fileno(), accept, **for_handles),
            unwatch=lambda: self._remove_reader(sock.fileno()),
        )

    async def _create_connection_transport(
        self, sock: socket.socket, protocol_factory: Callable[[], asyncio.BaseProtocol], *args: Any, **kwargs: Any
    ) -> Any:
        def factory() -> asyncio.BaseProtocol:
            try:
                return protocol_factory()
            except BaseException:
                sock.close()  # which was given to us; python/cpython#153133
                raise

        return await super()._create_connection_transport(sock, factory, *args, **kwargs)

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: Context | None = None,
    ) -> asyncio.Transport:
        self._ensure_fd_no_transport(sock)
        peername = (extra or {}).get("peername", UNKNOWN)
        return self._sockets.stream(sock, protocol, waiter, peername=peername, server=server, context=context)

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: Any = None,
    ) -> asyncio.DatagramTransport:
        self._ensure_fd_no_transport(sock)
        return self._sockets.datagram(sock, protocol, address, waiter)

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        if not isinstance(transp, StreamTransport):
            return await super()._sendfile_native(transp, file, offset, count)
        async with transp.lend_socket() as sock:
            with self._sockets.lent(transp, sock.fileno()):
                return await self.sock_sendfile(sock, file, offset, count, fallback=False)

    async def _sendfile_fallback(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        if not isinstance(transp, transports.CopyTarget):
            return await super()._sendfile_fallback(transp, file, offset, count)
        in_thread = functools.partial(self.run_in_executor, None)
        return await transports.copy_file(self._services, transp, file, offset, count, in_thread)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        context: Context | None = None,
    ) -> asyncio.Transport:
        self._ensure_fd_no_transport(rawsock)
        try:
            return self._sockets.tls_stream(
                rawsock,
                protocol,
                self._sockets.tls.settings(
                    sslcontext or True, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
                ),
                waking(waiter),
                peername=(extra or {}).get("peername", UNKNOWN),
                server=server,
                context=context,
            )
        except BaseException:
            rawsock.close()
            raise

    def _make_read_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> asyncio.ReadTransport:
        return self._keep(transports.ReadPipeTransport(self._services, pipe, protocol, waiter, extra))

    def _make_write_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> asyncio.WriteTransport:
        return self._keep(transports.WritePipeTransport(self._services, pipe, protocol, waiter, extra))

    async def _make_subprocess_transport(
        self, protocol: Any, args: Any, shell: Any, stdin: Any, stdout: Any, stderr: Any, bufsize: Any, **kwargs: Any
    ) -> asyncio.SubprocessTransport:
        with chosen_exits(self._services, self._child_exits) as exits:
            transport = await transports.start_process(
                self._services, protocol, args, shell, stdin, stdout, stderr, bufsize, exits=exits, **kwargs
            )
        for pipe in map(transport.get_pipe_transport, range(3)):
            if pipe is not None:
                self._keep(pipe)
        return self._keep(transport)

    def _keep(self, transport: _TransportT) -> _TransportT:
        self._open.others.add(transport)
        return transport
