"""The datagram transport: UDP and UNIX sockets."""

from __future__ import annotations

import asyncio
import collections
import socket
import sys
from collections.abc import Callable
from typing import Any

from .._burst import Burst
from ._bytes import BytesLike, as_bytes_like
from ._reports import call_protocol
from ._services import LoopServices
from ._socket import SocketTransport

__all__ = ["DatagramTransport"]

# No UDP datagram is larger than 64 KiB; one of a UNIX socket may be.
LARGEST_UDP_DATAGRAM = 64 * 1024
LARGEST_DATAGRAM = 256 * 1024

# The most that is received before others have their turn.
LARGEST_BURST = 64

# From Python 3.13 on an empty datagram is sent, and each one in the buffer counts for some bytes more than it has, or
# empty ones would count for nothing.
SENDS_EMPTY = sys.version_info >= (3, 13)
HEADER_SIZE = 8 if SENDS_EMPTY else 0


class DatagramTransport(SocketTransport, asyncio.DatagramTransport):
    """
    Datagrams over a socket, not blocking, and the transport's from now on.

    Args:
        services: The loop.
        sock: The socket.
        protocol: The protocol.
        address: The one peer, if ``create_datagram_endpoint()`` was given one.
        waiter: Given a result when ``connection_made()`` has been called.

    Source:
        asyncio, "Transports and Protocols", "Datagram Transports".
    """

    __slots__ = ("_address", "_buffer", "_burst", "_largest")

    def __init__(
        self,
        services: LoopServices,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
    ) -> None:
        self._address = address
        self._buffer: collections.deque[tuple[bytes, Any]] = collections.deque()
        self._burst = Burst(LARGEST_BURST)
        self._largest = LARGEST_UDP_DATAGRAM if sock.family != socket.AF_UNIX else LARGEST_DATAGRAM
        super().__init__(services, sock, protocol, waiter)
        self.get_extra_info("sockname")  # as it is now: the first datagram gives a socket that is not bound a port

    # Reading

    def _receiver(self) -> Callable[[], None]:
        return self._receive

    def _receive(self) -> None:
        receive = self._sock.recvfrom
        largest = self._largest
        burst = self._burst
        for count in range(burst.size):
            try:
                data, address = receive(largest)
            except (BlockingIOError, InterruptedError):
                burst.found_only(count)
                return
            except OSError as error:
                call_protocol(self._services.call_exception_handler, self, "error_received", error)
            else:
                try:
                    self._protocol.datagram_received(data, address)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._report(error, "protocol.datagram_received() failed")
            if self._closing or self._paused:
                return
        burst.was_full()

    # Writing

    def sendto(self, data: BytesLike, addr: Any = None) -> None:
        chunk = data if type(data) is bytes else as_bytes_like(data)
        if not chunk and not SENDS_EMPTY:
            return
        if self._address:
            if addr not in (None, self._address):
                raise ValueError(f"Invalid address: must be None or {self._address}")
            addr = self._address
        if self._ending and (self._address or not self._open):
            self._drop_write()
            return
        if not self._buffer:
            try:
                self._send(chunk, addr)
                return
            except (BlockingIOError, InterruptedError):
                self._watch_writing()
            except OSError as error:
                self._protocol.error_received(error)
                return
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # an address that is none
                self._fail(error, "Fatal write error on datagram transport")
                return
        self._buffer.append((bytes(chunk), addr))
        self._buffered += len(chunk) + HEADER_SIZE
        self._pause_if_full()

    def _send(self, chunk: bytes | memoryview, address: Any) -> None:
        if self._peername:
            self._sock.send(chunk)
        else:
            self._sock.sendto(chunk, address)

    def _send_buffered(self) -> None:
        buffer = self._buffer
        while buffer and not self._ending:
            chunk, address = buffer[0]
            error = None
            try:
                self._send(chunk, address)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as refused:
                error = refused
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as failure:
                self._fail(failure, "Fatal write error on datagram transport")
                return
            buffer.popleft()
            self._buffered -= len(chunk) + HEADER_SIZE
            if error is not None:
                call_protocol(self._services.call_exception_handler, self, "error_received", error)
        if self._ending:
            return
        self._resume_if_drained()  # which may send, or close
        if not buffer and not self._ending:
            self._unwatch_writing()
            if self._closing:
                self._lose_now()

    def _forget_buffered(self) -> None:
        self._buffer.clear()
        self._buffered = 0
