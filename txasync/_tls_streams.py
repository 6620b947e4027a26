"""The loop's TLS transports: over sockets, and over transports that there are already."""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections.abc import Callable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from .tls import EngineMaker, engine_maker
from .transports import LoopServices, StreamTransport, TimeLimits

if TYPE_CHECKING:
    from .transports import LayeredSSLTransport, SocketSSLTransport, SSLTransport

__all__ = ["TLSSettings", "TLSStreams", "check_time_limits", "take_unread", "waking"]

# As asyncio's.
HANDSHAKE_TIMEOUT_S = 60.0
SHUTDOWN_TIMEOUT_S = 30.0


class TLSSettings(NamedTuple):
    """
    How connections are secured: what makes their engines, and the limits of the time that they may take.

    What they need is imported with the settings, so that no connection waits for that, or finds no descriptor for it.
    """

    engine: EngineMaker
    server_side: bool
    handshake_limits: TimeLimits
    shutdown_limits: TimeLimits
    on_socket: type[SocketSSLTransport]
    """The transport of an engine that has a socket."""
    layered: type[LayeredSSLTransport]
    """The transport of any other engine."""


def check_time_limits(arguments: Mapping[str, Any]) -> None:
    """
    Check what *arguments* say of the time that a handshake and the end may take, before anything is connected or bound.

    What is no number is refused later, where it is used: as with asyncio, whose tests want to see it come that far.

    Raises:
        ValueError: One of them is not positive.
    """
    for name in "ssl_handshake_timeout", "ssl_shutdown_timeout":
        timeout_s = arguments.get(name)
        if isinstance(timeout_s, Real) and timeout_s <= 0:
            raise ValueError(f"{name} should be a positive number, got {timeout_s}")


class TLSStreams:
    """
    Makes TLS transports for one loop.

    Args:
        services: The loop.
    """

    def __init__(self, services: LoopServices) -> None:
        self._services = services
        # What is left of a lost transport stays here until the number of its socket comes again (as in `Sockets`).
        self._on_sockets: dict[int, weakref.ref[SSLTransport]] = {}
        self._on_others: weakref.WeakSet[SSLTransport] = weakref.WeakSet()

    def all(self) -> list[SSLTransport]:
        """The transports that are not lost."""
        transports = [*self._on_others, *(reference() for reference in self._on_sockets.values())]
        return [transport for transport in transports if transport is not None and not transport.is_lost()]

    def settings(
        self,
        given: Any,
        server_side: bool,
        server_hostname: str | None,
        handshake_timeout_s: float | None,
        shutdown_timeout_s: float | None,
    ) -> TLSSettings:
        """
        The settings of an ``ssl=`` argument, and of those that go with it.

        Raises:
            TypeError: *given* is not accepted; or a timeout is no number.
            ValueError: *given* needs a *server_hostname*; or a timeout is not positive.
        """
        limits = {"ssl_handshake_timeout": handshake_timeout_s, "ssl_shutdown_timeout": shutdown_timeout_s}
        for name, timeout_s in limits.items():
            if timeout_s is not None and not isinstance(timeout_s, Real):
                raise TypeError(f"{name} should be a positive number of seconds, got {timeout_s!r}")
        check_time_limits(limits)
        from .transports import LayeredSSLTransport, SocketSSLTransport

        return TLSSettings(
            engine_maker(given, server_side=server_side, server_hostname=server_hostname),
            server_side,
            TimeLimits(self._services, handshake_timeout_s or HANDSHAKE_TIMEOUT_S),
            TimeLimits(self._services, shutdown_timeout_s or SHUTDOWN_TIMEOUT_S),
            SocketSSLTransport,
            LayeredSSLTransport,
        )

    def connect(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        settings: TLSSettings,
        concluded: Callable[[BaseException | None], None],
        stream: Callable[[asyncio.BaseProtocol], StreamTransport],
    ) -> SSLTransport:
        """
        A transport over the connected *sock*.

        Args:
            sock: The socket.
            protocol: The protocol.
            settings: How it is secured.
            concluded: See `SSLTransport`.
            stream: Makes the transport below, which owns *sock*, of its protocol.
        """
        transport = self._transport(settings, sock, protocol, concluded, call_connection_made=True)
        transport.stand_on(stream(transport.below_protocol()))
        return transport

    async def upgrade(
        self, below: Any, protocol: asyncio.BaseProtocol, settings: TLSSettings, read_before: bytes
    ) -> SSLTransport:
        """
        A transport over *below*, which has been *protocol*'s so far; returns when the handshake is done.

        Args:
            below: A transport for reading and writing, of any kind.
            protocol: The protocol; it is not told of the connection once more.
            settings: How it is secured.
            read_before: What was read already that belongs to the handshake.

        Raises:
            RuntimeError: *below* takes nothing more, since its ``write_eof()`` was called.
            ConnectionError: *below* is closing, or was lost before the handshake was done.
            OSError: The handshake failed. *below* is closed then, as it is if this is cancelled.
        """
        if below.is_closing():
            raise ConnectionAbortedError(f"TLS cannot be started on {below!r}, which is closing")
        if isinstance(below, StreamTransport) and below.has_written_eof():
            raise RuntimeError(f"TLS cannot be started on {below!r} after its write_eof()")
        waiter = self._services.create_future()
        idle = below.idle_socket() if isinstance(below, StreamTransport) and not read_before else None
        transport = self._transport(settings, idle, protocol, waking(waiter), call_connection_made=False)
        # Nothing may come before the handshake has begun.
        below.pause_reading()
        protocol_below = transport.below_protocol()
        below.set_protocol(protocol_below)
        transport.stand_on(below)
        call_soon = self._services.call_soon
        steps = [call_soon(protocol_below.connection_made, below)]
        if read_before:
            assert isinstance(protocol_below, asyncio.Protocol)
            steps.append(call_soon(protocol_below.data_received, read_before))
        steps.append(call_soon(below.resume_reading))
        try:
            await waiter
        except BaseException:
            transport.abort()
            for step in steps:
                step.cancel()
            del waiter  # it has the exception, whose traceback has this frame
            raise
        return transport

    def _transport(
        self,
        settings: TLSSettings,
        sock: socket.socket | None,
        protocol: asyncio.BaseProtocol,
        concluded: Callable[[BaseException | None], None],
        call_connection_made: bool,
    ) -> SSLTransport:
        engine = settings.engine(sock)
        on_socket = sock is not None and engine.wire is None
        transport = (settings.on_socket if on_socket else settings.layered)(
            self._services,
            engine,
            protocol,
            concluded,
            call_connection_made=call_connection_made,
            server_side=settings.server_side,
            handshake_limits=settings.handshake_limits,
            shutdown_limits=settings.shutdown_limits,
        )
        if sock is not None and on_socket:
            self._on_sockets[sock.fileno()] = weakref.ref(transport)
        else:
            self._on_others.add(transport)
        return transport


def waking(waiter: asyncio.Future[None] | None) -> Callable[[BaseException | None], None]:
    """What gives *waiter* the result of a handshake."""

    def conclude(error: BaseException | None) -> None:
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    return conclude


def take_unread(protocol: asyncio.BaseProtocol) -> bytes:
    """
    What a server's stream has received and its user has not read: the beginning of a handshake.

    Source:
        python/cpython#142352, which CPython has mended for its own loop in 3.14 and 3.15.
    """
    if not isinstance(protocol, asyncio.StreamReaderProtocol):
        return b""
    reader: Any = protocol._stream_reader  # type: ignore[attr-defined]
    if reader is None:
        return b""
    unread = bytes(reader._buffer)
    reader._buffer.clear()
    return unread
