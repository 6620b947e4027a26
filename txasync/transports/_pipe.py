"""The pipe transports: one to read and one to write, over a pipe, a socket or a character device."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
import stat
import sys
from collections.abc import Mapping
from typing import Any

from ..polling import READ, WRITE
from ._bytes import BytesLike, as_bytes_like
from ._flow import WRITES_DROPPED_IN_SILENCE, WriteFlow
from ._pipe_end import Pipe, PipeTransport, logger
from ._services import LoopServices
from ._stream import FIRST_READ_SIZE, LARGEST_READ_SIZE

__all__ = ["ReadPipeTransport", "WritePipeTransport", "tells_of_its_reader"]


class ReadPipeTransport(PipeTransport, asyncio.ReadTransport):
    """
    The end of a pipe from which we read.

    Args:
        services: The loop.
        pipe: A file object, which is the transport's from now on, unless this raises.
        protocol: The protocol.
        waiter: Given a result when ``connection_made()`` has been called.
        extra: What ``get_extra_info()`` is to know besides ``"pipe"``.

    Raises:
        ValueError: *pipe* is neither a pipe nor a socket nor a character device.

    Source:
        asyncio, "Transports and Protocols", "Read-only Transports". An exception out of ``data_received()`` is reported
        and the pipe stays open, as in asyncio's pipes, and unlike its sockets.
    """

    __slots__ = ("_paused", "_read_size")

    _refusal = "Pipe transport is for pipes/sockets only."

    def __init__(
        self,
        services: LoopServices,
        pipe: Pipe,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._paused = False
        self._read_size = FIRST_READ_SIZE
        super().__init__(services, pipe, protocol, waiter, extra)

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        if self.is_reading():
            self._paused = True
            self._forget(self._services.poller.remove_reader)
            if self._services.get_debug():
                logger.debug("%r pauses reading", self)

    def resume_reading(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self._watch_reading(contextvars.copy_context())
            if self._services.get_debug():
                logger.debug("%r resumes reading", self)

    def _watch_reading(self, context: contextvars.Context) -> None:
        if self.is_reading():
            super()._watch_reading(context)

    def _readable(self) -> None:
        assert self._context is not None
        try:
            data = os.read(self._fd, self._read_size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._context.run(self._fail, error, "Fatal read error on pipe transport")
            return
        if not data:
            self._context.run(self._end_of_file)
            return
        if len(data) == self._read_size:
            self._read_size = LARGEST_READ_SIZE
        try:
            self._context.run(self._protocol.data_received, data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(error, "protocol.data_received() failed")

    def _end_of_file(self) -> None:
        if self._services.get_debug():
            logger.info("%r was closed by peer", self)
        self._forget(self._services.poller.remove_reader)
        self._services.call_soon(self._tell, "eof_received")
        self._end(None)

    def close(self) -> None:
        if not self._closing:
            self._force_close(None)

    def _is_ordinary(self, error: BaseException) -> bool:
        # This is how the master of a pseudo-terminal tells, on Linux, that nobody has the other side open.
        return isinstance(error, OSError) and error.errno == errno.EIO

    def _force_close(self, error: BaseException | None) -> None:
        self._forget(self._services.poller.remove_reader)
        self._end(error)

    def _shown(self, interest: int) -> list[str]:
        return ["polling" if interest & READ else "idle"]


class WritePipeTransport(PipeTransport, asyncio.WriteTransport):
    """
    The end of a pipe to which we write.

    What is written goes out at once; the poller watches for writing only while something is left.

    Args:
        services: The loop.
        pipe: A file object, which is the transport's from now on, unless this raises.
        protocol: The protocol.
        waiter: Given a result when ``connection_made()`` has been called.
        extra: What ``get_extra_info()`` is to know besides ``"pipe"``.

    Raises:
        ValueError: *pipe* is neither a pipe nor a socket nor a character device.

    Source:
        asyncio, "Transports and Protocols", "Write-only Transports". Unlike asyncio's, it asks the protocol to resume
        as soon as the buffer is down to the low-water mark, not only when it is empty.
    """

    __slots__ = ("_buffer", "_dropped", "_flow", "_write_context")

    _refusal = "Pipe transport is only for pipes, sockets and character devices"

    def __init__(
        self,
        services: LoopServices,
        pipe: Pipe,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._buffer = bytearray()
        self._flow = WriteFlow()
        self._dropped = 0
        self._write_context: contextvars.Context | None = None
        super().__init__(services, pipe, protocol, waiter, extra)

    # A pipe's writing end becomes readable when nobody reads from it any more.

    def _watch_reading(self, context: contextvars.Context) -> None:
        status = os.fstat(self._fd)
        if tells_of_its_reader(status.st_mode, status.st_nlink, sys.platform):
            super()._watch_reading(context)

    def _readable(self) -> None:
        assert self._context is not None
        self._context.run(self._peer_closed)

    def _peer_closed(self) -> None:
        if self._services.get_debug():
            logger.info("%r was closed by peer", self)
        self._force_close(BrokenPipeError() if self._buffer else None)

    # Writing

    def write(self, data: BytesLike) -> None:
        chunk = as_bytes_like(data)
        if not chunk:
            return
        if self._closing:
            self._drop_write()
            return
        if not self._buffer:
            try:
                written = os.write(self._fd, chunk)
            except (BlockingIOError, InterruptedError):
                written = 0
            except OSError as error:
                self._dropped += 1
                self._fail(error, "Fatal write error on pipe transport")
                return
            if written == len(chunk):
                return
            if not self._watch_writing():
                return
            chunk = memoryview(chunk)[written:]
        self._buffer += chunk
        self._pause_if_full()

    def _drop_write(self) -> None:
        if self._dropped >= WRITES_DROPPED_IN_SILENCE:
            logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
        self._dropped += 1

    def _watch_writing(self) -> bool:
        self._write_context = contextvars.copy_context()
        try:
            self._services.poller.set_writer(self._fd, self._writable)
        except OSError as error:
            self._fail(error, "Fatal write error on pipe transport")
            return False
        return True

    def _writable(self) -> None:
        assert self._write_context is not None
        self._write_context.run(self._write_buffered)

    def _write_buffered(self) -> None:
        try:
            written = os.write(self._fd, self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._dropped += 1
            self._fail(error, "Fatal write error on pipe transport")
            return
        del self._buffer[:written]
        if not self._buffer:
            self._forget(self._services.poller.remove_writer)
        if self._flow.must_resume(len(self._buffer)):
            self._tell("resume_writing")  # which may write, or close
        if self._closing and not self._buffer and not self._ending:
            self._finish(None)

    # The water marks

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._flow.low, self._flow.high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._flow.set_marks(high, low)
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        if self._flow.must_pause(len(self._buffer)):
            self._tell("pause_writing")

    # The end

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._buffer:
                self._finish(None)

    def abort(self) -> None:
        self._force_close(None)

    def _is_ordinary(self, error: BaseException) -> bool:
        return isinstance(error, OSError)

    def _force_close(self, error: BaseException | None) -> None:
        if not self._ending:
            if self._buffer:
                self._forget(self._services.poller.remove_writer)
                self._buffer.clear()
            self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        """Nothing is left to write."""
        self._forget(self._services.poller.remove_reader)
        self._end(error)

    def _lose(self, error: BaseException | None) -> None:
        self._write_context = None
        super()._lose(error)

    def _shown(self, interest: int) -> list[str]:
        return ["polling" if interest & WRITE else "idle", f"bufsize={len(self._buffer)}"]


def tells_of_its_reader(mode: int, links: int, platform: str) -> bool:
    """
    Whether the writing end of a pipe becomes readable when, and only when, the other end is closed.

    Args:
        mode: The ``st_mode`` of the descriptor.
        links: Its ``st_nlink``: 0 for an anonymous pipe on the systems below, more for one that has a name.
        platform: ``sys.platform``.
    """
    if not stat.S_ISFIFO(mode):
        return stat.S_ISSOCK(mode)
    if platform in ("darwin", "ios", "tvos", "watchos", "sunos5"):
        # There, one with a name is readable while there is something in it (python/cpython#145030).
        return links == 0
    return not platform.startswith("aix")
