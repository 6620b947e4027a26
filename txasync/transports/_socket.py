"""
What stream and datagram transports have in common: a socket, a protocol, reading, and the way to the end.

A transport's life has these states. Reading and writing have states of their own, in the first two rows only:

=========  =============================================  ====================================================
state      meaning                                        next
=========  =============================================  ====================================================
open       neither ``close()`` nor an error so far        closing: ``close()``; ending: ``abort()``, an error
closing    ``close()`` was called, the buffer drains      ending: all is sent, ``abort()``, an error
ending     ``connection_lost()`` is scheduled             lost
lost       ``connection_lost()`` was called, the socket
           is closed
=========  =============================================  ====================================================

Readiness comes from the poller, not through a ``Handle``; so it is the transport that gives its callables the context
that asyncio's handle would have: a copy of the one in which reading, or writing, was begun. A callable that runs
another in a context is a method of the context's ``run``: that costs half of what a partial does.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
import types
import warnings
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

from ._flow import WRITES_DROPPED_IN_SILENCE, WriteFlow
from ._reports import call_protocol, report
from ._services import LoopServices

__all__ = ["UNKNOWN", "SocketTransport", "logger"]

logger = logging.getLogger("asyncio")

UNKNOWN: Any = object()
"""An address that is to be asked for."""


class SocketTransport(asyncio.Transport):
    """
    A transport over *sock*, which it owns from now on.

    Args:
        services: The loop.
        sock: The socket, not blocking.
        protocol: The protocol.
        waiter: Given a result when ``connection_made()`` has been called.
        peername: The peer's address, if it is known already.
        connections: Whoever counts it among others: ``discard()`` is called when it is lost.
        context: The context of every callback. Default: copies of the one that is current when a callback is scheduled.

    Attributes:
        connections: As given; None when the transport is lost.
    """

    __slots__ = (
        "__weakref__",
        "_buffered",
        "_closing",
        "_context",
        "_dropped",
        "_ending",
        "_fd",
        "_flow",
        "_given_context",
        "_open",
        "_paused",
        "_peername",
        "_protocol",
        "_reader",
        "_services",
        "_sock",
        "_sockname",
        "_view",
        "_writer",
        "connections",
    )

    _protocol: Any
    _context: contextvars.Context
    _reader: Callable[[], None] | None
    _writer: Callable[[], None] | None

    def __init__(
        self,
        services: LoopServices,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        peername: Any = UNKNOWN,
        connections: Any = None,
        context: contextvars.Context | None = None,
    ) -> None:
        self._open = True
        self._services = services
        self._sock = sock
        self._fd = sock.fileno()
        self.connections = connections
        self._given_context = context
        self._reader = self._writer = None
        self._flow: WriteFlow | None = None
        self._buffered = 0
        self._dropped = 0
        self._paused = self._closing = self._ending = False
        self._view: TransportSocket | None = None
        self._sockname = UNKNOWN
        # Now, because a peer that goes away takes its name with it.
        self._peername = _address(sock.getpeername) if peername is UNKNOWN else peername
        self._protocol = protocol
        services.call_soon(self._begin, waiter, context=context)

    def _begin(self, waiter: asyncio.Future[None] | None) -> None:
        context = self._given_context or contextvars.copy_context()
        try:
            self._protocol.connection_made(self)
        finally:
            if not (self._closing or self._paused):
                self._watch_reading(context)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    # What asyncio.BaseTransport promises

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            if self._view is None:
                self._view = TransportSocket(self._sock)
            return self._view
        if name == "sockname":
            if self._sockname is UNKNOWN:
                self._sockname = _address(self._sock.getsockname)
            return self._sockname
        if name == "peername":
            return self._peername
        return default

    def is_lost(self) -> bool:
        """Whether ``connection_lost()`` has been called."""
        return not self._open

    def owns(self, fd: int) -> bool:
        """Whether *fd* is this transport's: it is not closing, and nobody else has closed its socket."""
        return not self._closing and self._sock.fileno() == fd

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if not self._open:
            info.append("closed")
        elif self._closing:
            info.append("closing")
        info.append(f"fd={self._fd}")
        if self._open and not self._services.is_closed():
            info.append("read=polling" if self._reader else "read=idle")
            info.append(f"write=<{'polling' if self._writer else 'idle'}, bufsize={self.get_write_buffer_size()}>")
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        # The loop is left alone: it may be closed, or run in another thread (python/cpython#114177).
        if self._open:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._sock.close()
            if self.connections is not None:
                self.connections.discard()

    # Reading

    def is_reading(self) -> bool:
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        if self.is_reading():
            self._paused = True
            self._unwatch_reading()
            if self._services.get_debug():
                logger.debug("%r pauses reading", self)

    def resume_reading(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self._watch_reading(self._given_context or contextvars.copy_context())
            if self._services.get_debug():
                logger.debug("%r resumes reading", self)

    def _watch_reading(self, context: contextvars.Context) -> None:
        self._context = context
        self._reader = types.MethodType(context.run, self._receiver())
        try:
            self._services.poller.set_reader(self._fd, self._reader)
        except Exception as error:
            # Its owner has closed the socket, or it has never been one.
            self._reader = None
            self._fail(error, "Fatal read error on socket transport")

    def _unwatch_reading(self) -> None:
        # If its owner has closed the socket, the number, and what the poller has for it, may be another's.
        if self._reader is not None:
            self._services.poller.remove_reader(self._fd, self._reader)
            self._reader = None

    def _receiver(self) -> Callable[[], None]:
        """What the poller is to call when there is something to read."""
        raise NotImplementedError

    # Writing

    def get_write_buffer_size(self) -> int:
        return self._buffered

    def get_write_buffer_limits(self) -> tuple[int, int]:
        flow = self._marks()
        return flow.low, flow.high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._marks().set_marks(high, low)
        self._pause_if_full()

    def is_writing_paused(self) -> bool:
        """Whether the protocol was asked to pause writing, and not yet to resume."""
        return self._flow is not None and self._flow.paused

    def _marks(self) -> WriteFlow:
        # Most connections never have anything to buffer.
        if self._flow is None:
            self._flow = WriteFlow()
        return self._flow

    def _pause_if_full(self) -> None:
        if self._marks().must_pause(self._buffered):
            call_protocol(self._services.call_exception_handler, self, "pause_writing")

    def _resume_if_drained(self) -> None:
        if self._flow is not None and self._flow.must_resume(self._buffered):
            call_protocol(self._services.call_exception_handler, self, "resume_writing")

    def _watch_writing(self) -> None:
        context = self._given_context or contextvars.copy_context()
        self._writer = types.MethodType(context.run, self._sender())
        self._services.poller.set_writer(self._fd, self._writer)

    def _unwatch_writing(self) -> None:
        if self._writer is not None:
            self._services.poller.remove_writer(self._fd, self._writer)
            self._writer = None

    def _sender(self) -> Callable[[], None]:
        """What the poller is to call when the socket takes something."""
        return self._send_buffered

    def _send_buffered(self) -> None:
        """Send what the socket takes."""
        raise NotImplementedError

    def _forget_buffered(self) -> None:
        """Drop what was to be sent."""
        raise NotImplementedError

    def _drop_write(self) -> None:
        self._dropped += 1
        if self._dropped >= WRITES_DROPPED_IN_SILENCE:
            logger.warning("socket.send() raised exception.")

    # The end

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self._reader is not None:
            self._unwatch_reading()
        if not self._buffered:
            self._end(None)

    def abort(self) -> None:
        self._force_close(None)

    def _fail(self, error: BaseException, message: str) -> None:
        """*error* is the end of the connection; one that is not the peer's or the network's is reported as well."""
        if not isinstance(error, OSError):
            self._report(error, message)
        elif self._services.get_debug():
            logger.debug("%r: %s", self, message, exc_info=True)
        self._force_close(error)

    def _report(self, error: BaseException, message: str) -> None:
        report(self._services.call_exception_handler, self, error, message)

    def _force_close(self, error: BaseException | None) -> None:
        """End at once. asyncio's TLS calls this, by this name, on the transport under it."""
        if self._ending:
            return
        self._closing = True
        self._unwatch_reading()
        self._forget_buffered()
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._ending = True
        if self._writer is not None:
            self._unwatch_writing()
        self._services.call_soon(self._lose, error, context=self._given_context)

    def _lose_now(self) -> None:
        """All is sent that was to be sent before the end: this is it, without another round."""
        try:
            self._lose(None)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(error, "Fatal error: protocol.connection_lost() call failed.")

    def _lose(self, error: BaseException | None) -> None:
        self._ending = True
        try:
            self._protocol.connection_lost(error)
        finally:
            if self._sockname is UNKNOWN:
                self._sockname = _address(self._sock.getsockname)
            self._open = False
            self._sock.close()
            self._protocol = None
            connections, self.connections = self.connections, None
            if connections is not None:
                connections.discard()


def _address(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except OSError:
        return None
