"""The stream transport: TCP and UNIX sockets."""

from __future__ import annotations

import asyncio
import asyncio.constants
import collections
import contextlib
import contextvars
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from ._bytes import BytesLike, as_bytes_like
from ._services import LoopServices
from ._socket import UNKNOWN, SocketTransport, logger

__all__ = ["FIRST_READ_SIZE", "LARGEST_READ_SIZE", "ReadinessProtocol", "StreamTransport"]

# A read takes this much, and more after a full one. Reading 16 KiB at a time would double the cost of messages of
# 64 KiB; beginning with 256 KiB makes glibc map and unmap memory for every message (docs/benchmarks).
FIRST_READ_SIZE = 64 * 1024
LARGEST_READ_SIZE = 256 * 1024

# glibc maps, and unmaps, memory for each block of this size, until one has been freed whole: what is received is mostly
# less, and freed in part. It makes a message of 64 KiB four times as dear.
bytes(LARGEST_READ_SIZE)

# After a full read there is more, most likely. So many are made before other descriptors have their turn.
READS_IN_A_ROW = 16

IOV_MAX = max(16, os.sysconf("SC_IOV_MAX"))


class ReadinessProtocol(asyncio.BaseProtocol):
    """
    A protocol that reads and writes its transport's socket itself, and is told when that can be done.

    Attributes:
        read_ready: Called when there is something to read, while the transport reads.
        write_ready: Called when something can be written, after the transport's `watch_writing`.
    """

    __slots__ = ("read_ready", "write_ready")

    read_ready: Callable[[], None]
    write_ready: Callable[[], None]


class StreamTransport(SocketTransport):
    """
    A connection over a stream socket, connected, not blocking, and the transport's from now on.

    What is written is sent at once; the poller watches for writing only while something is left. Arguments are those of
    `SocketTransport`.

    Source:
        asyncio, "Transports and Protocols", "Transports".
    """

    __slots__ = ("_buffer", "_clear_to_send", "_eof_written", "_read_size", "_sent_waiter")

    # asyncio's loop looks at these before it upgrades a transport, or sends a file over it.
    _start_tls_compatible = True
    _sendfile_compatible = asyncio.constants._SendfileMode.TRY_NATIVE

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
        self._buffer: collections.deque[bytes | memoryview] | None = None
        self._clear_to_send = True
        self._eof_written = False
        self._sent_waiter: asyncio.Future[None] | None = None
        self._read_size = FIRST_READ_SIZE
        super().__init__(services, sock, protocol, waiter, peername, connections, context)

    # Reading

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        super().set_protocol(protocol)
        if self._reader is not None:
            self._watch_reading(self._context)

    def _receiver(self) -> Callable[[], None]:
        if isinstance(self._protocol, ReadinessProtocol):
            return self._protocol.read_ready
        return self._receive_into_buffer if isinstance(self._protocol, asyncio.BufferedProtocol) else self._receive

    def _receive(self, reads: int = 1) -> None:
        try:
            data = self._sock.recv(self._read_size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error, "Fatal read error on socket transport")
            return
        if not data:
            self._receive_eof()
            return
        reader = None
        if len(data) == self._read_size:
            self._read_size = LARGEST_READ_SIZE
            reader = self._reader
        try:
            self._protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error, "Fatal error: protocol.data_received() call failed.")
            return
        if reader is not None and self._may_read_on(reader, reads):
            del data  # sixteen blocks at once are more than glibc keeps: it would map and unmap them each time
            self._receive(reads + 1)

    def _receive_into_buffer(self, reads: int = 1) -> None:
        reader = self._reader
        protocol = self._protocol
        try:
            buffer = protocol.get_buffer(-1)
            size = len(buffer)
            if not size:
                raise RuntimeError("get_buffer() returned an empty buffer")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error, "Fatal error: protocol.get_buffer() call failed.")
            return
        try:
            received = self._sock.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # also that of a buffer that cannot be written to
            self._fail(error, "Fatal read error on socket transport")
            return
        if not received:
            self._receive_eof()
            return
        try:
            protocol.buffer_updated(received)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error, "Fatal error: protocol.buffer_updated() call failed.")
            return
        # A protocol may well ask for just what it needs next: where that is little, another read, which would most
        # likely be in vain, is dearer than another poll.
        if received == size >= FIRST_READ_SIZE and self._may_read_on(reader, reads):
            self._receive_into_buffer(reads + 1)

    def _may_read_on(self, reader: Callable[[], None] | None, reads: int) -> bool:
        """Whether the next read would still be *reader*'s, and is nobody else's turn, as far as the loop knows."""
        return reads < READS_IN_A_ROW and self._reader is reader and not self._services.ready

    def _receive_eof(self) -> None:
        if self._services.get_debug():
            logger.debug("%r received EOF", self)
        try:
            keep_open = self._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error, "Fatal error: protocol.eof_received() call failed.")
            return
        if keep_open:
            self._unwatch_reading()
        else:
            self.close()

    # Writing

    def idle_socket(self) -> socket.socket | None:
        """The socket, for a `ReadinessProtocol`; None while there is something to be sent before anything of its."""
        return None if self._buffered or self._closing or self._sent_waiter else self._sock

    def watch_writing(self) -> None:
        """Tell the `ReadinessProtocol` when the socket takes something."""
        if self._writer is None and not self._ending:
            self._watch_writing()

    def unwatch_writing(self) -> None:
        """Do not tell it any more."""
        self._unwatch_writing()

    def _sender(self) -> Callable[[], None]:
        return self._protocol.write_ready if isinstance(self._protocol, ReadinessProtocol) else self._send_buffered

    def write(self, data: BytesLike) -> None:
        chunk: bytes | memoryview
        if type(data) is bytes and data and self._clear_to_send:
            chunk = data
        else:
            chunk = as_bytes_like(data)
            if not self._may_write("write", chunk):
                return
            if self._buffer:
                self._keep(chunk)
                self._pause_if_full()
                return
        try:
            sent = self._sock.send(chunk)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._fail(error, "Fatal write error on socket transport")
            return
        if sent < len(chunk):
            self._watch_writing()
            self._keep(chunk[sent:] if type(chunk) is memoryview else memoryview(chunk)[sent:])
            self._pause_if_full()

    def writelines(self, list_of_data: Iterable[BytesLike]) -> None:
        chunks = [chunk for chunk in map(as_bytes_like, list_of_data) if chunk]
        if not self._may_write("writelines", chunks):
            return
        sent = 0
        if not self._buffer:
            try:
                sent = self._sock.sendmsg(chunks[:IOV_MAX])
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self._fail(error, "Fatal write error on socket transport")
                return
            if sent == sum(map(len, chunks)):
                return
            self._watch_writing()
        for chunk in chunks:
            if sent < len(chunk):
                self._keep(chunk[sent:])
            sent = max(0, sent - len(chunk))
        self._pause_if_full()

    def _may_write(self, call: str, something: object) -> bool:
        """Whether there is something to send, and a connection to send it over."""
        if self._eof_written:
            raise RuntimeError(f"Cannot call {call}() after write_eof()")
        if self._sent_waiter is not None:
            raise RuntimeError(f"unable to {call}; sendfile is in progress")
        if something and self._ending:
            self._drop_write()
            return False
        return bool(something)

    def _may_send_at_once(self) -> bool:
        """Whether there is nothing to look at before what is written is sent."""
        return not (self._buffered or self._eof_written or self._closing or self._sent_waiter)

    def _keep(self, chunk: bytes | memoryview) -> None:
        """Put the rest of a write in the buffer, and see to it that it does not change any more."""
        if self._buffer is None:
            self._buffer = collections.deque()
        if type(chunk) is memoryview and type(chunk.obj) is not bytes:
            chunk = bytes(chunk)
        self._buffer.append(chunk)
        self._buffered += len(chunk)
        self._clear_to_send = False

    def _send_buffered(self) -> None:
        buffer = self._buffer
        assert buffer
        try:
            sent = self._sock.sendmsg(list(itertools.islice(buffer, IOV_MAX)))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error, "Fatal write error on socket transport")
            return
        self._buffered -= sent
        while sent:
            chunk = buffer.popleft()
            if len(chunk) > sent:
                buffer.appendleft(memoryview(chunk)[sent:])
                break
            sent -= len(chunk)
        self._clear_to_send = self._may_send_at_once()
        self._resume_if_drained()  # which may write, or close
        if not self._buffered and not self._ending:
            self._all_is_sent()

    def _all_is_sent(self) -> None:
        self._unwatch_writing()
        # An empty deque still holds room for 64 entries, more than the rest of an idle transport.
        self._buffer = None
        self._clear_to_send = self._may_send_at_once()
        if self._sent_waiter is not None and not self._sent_waiter.done():
            self._sent_waiter.set_result(None)
        if self._closing:
            self._lose_now()
        elif self._eof_written:
            self._shut_down_writing()

    def _forget_buffered(self) -> None:
        self._buffer = None
        self._buffered = 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._closing or self._eof_written:
            return
        self._eof_written = True
        self._clear_to_send = False
        if not self._buffered:
            self._sock.shutdown(socket.SHUT_WR)

    def has_written_eof(self) -> bool:
        """Whether nothing more can be written, since ``write_eof()`` was called."""
        return self._eof_written

    def _shut_down_writing(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._fail(error, "Fatal write error on socket transport")

    @contextlib.asynccontextmanager
    async def lend_socket(self) -> AsyncIterator[socket.socket]:
        """
        The socket, once all that was written is sent: for a caller who sends by itself. Nothing is read meanwhile.

        Raises:
            RuntimeError: It is lent already. Also what a ``write()`` raises meanwhile.
            ConnectionError: The connection was lost before all was sent.
        """
        if self._sent_waiter is not None:
            raise RuntimeError("unable to send a file; sendfile is in progress")
        was_reading = self.is_reading()
        self.pause_reading()
        self._sent_waiter = self._services.create_future()
        self._clear_to_send = False
        try:
            if self._buffered:
                await self._sent_waiter
            yield self._sock
        finally:
            self._sent_waiter = None
            self._clear_to_send = self._may_send_at_once()
            if was_reading:
                self.resume_reading()

    # The end

    def _end(self, error: BaseException | None) -> None:
        self._clear_to_send = False
        super()._end(error)
        if self._sent_waiter is not None:
            self._services.call_soon(self._disappoint, self._sent_waiter, error)

    @staticmethod
    def _disappoint(waiter: asyncio.Future[None], error: BaseException | None) -> None:
        if not waiter.done():
            waiter.set_exception(error or ConnectionError("Connection is closed by peer"))
