"""Transports that know nothing of ours, and both ends of connections by them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from .tls_ends import ProtocolEnd


class ForeignTransport(asyncio.Transport):
    """What a transport has to have, in short; how bytes are sent, its subclasses know."""

    def __init__(self) -> None:
        super().__init__({"peername": "elsewhere"})
        self._protocol: Any = None
        self._reading = True
        self._unread = bytearray()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        asyncio.get_running_loop().call_soon(self.deliver)

    def deliver(self, data: bytes = b"") -> None:
        """Hand *data* on, when the protocol wants to read it."""
        self._unread += data
        if self._reading and self._unread:
            data = bytes(self._unread)
            self._unread.clear()
            self._protocol.data_received(data)


class MemoryTransport(ForeignTransport):
    """One end of a connection that exists in memory only; the end of one end is the end of both."""

    peer: MemoryTransport

    def __init__(self) -> None:
        super().__init__()
        self._closing = False

    def write(self, data: Any) -> None:
        asyncio.get_running_loop().call_soon(self.peer.deliver, bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        for end in self, self.peer:
            if not end._closing:
                end._closing = True
                asyncio.get_running_loop().call_soon(end._lose)

    abort = close

    def _lose(self) -> None:
        self._protocol.connection_lost(None)


@contextlib.asynccontextmanager
async def memory_ends() -> AsyncIterator[tuple[ProtocolEnd, ProtocolEnd]]:
    """Both ends of a connection in memory, to be aborted afterwards."""
    transports = MemoryTransport(), MemoryTransport()
    transports[0].peer, transports[1].peer = transports[1], transports[0]
    async with _aborted(_ends(*transports)) as ends:
        yield ends


@contextlib.asynccontextmanager
async def _aborted(ends: tuple[ProtocolEnd, ProtocolEnd]) -> AsyncIterator[tuple[ProtocolEnd, ProtocolEnd]]:
    try:
        yield ends
    finally:
        for end in ends:
            end.transport.abort()
            await end.lost


def _ends(*transports: ForeignTransport) -> tuple[ProtocolEnd, ProtocolEnd]:
    ends = ProtocolEnd(), ProtocolEnd()
    for end, transport in zip(ends, transports, strict=True):
        transport.set_protocol(end)
        end.connection_made(transport)
    return ends


class PipesTransport(ForeignTransport):
    """A transport that joins the loop's transports of two pipes."""

    _in: Any
    _out: Any

    def __init__(self) -> None:
        super().__init__()
        self._left = 2

    @classmethod
    async def joining(cls, reading_fd: int, writing_fd: int) -> PipesTransport:
        """A transport that reads one descriptor and writes the other, which are its own from now on."""
        self = cls()
        loop = asyncio.get_running_loop()
        reading, writing = os.fdopen(reading_fd, "rb", 0), os.fdopen(writing_fd, "wb", 0)
        self._in = (await loop.connect_read_pipe(lambda: _PipeProtocol(self), reading))[0]
        self._out = (await loop.connect_write_pipe(lambda: _PipeProtocol(self), writing))[0]
        return self

    def pause_reading(self) -> None:
        super().pause_reading()
        self._in.pause_reading()

    def resume_reading(self) -> None:
        super().resume_reading()
        self._in.resume_reading()

    def write(self, data: Any) -> None:
        self._out.write(data)

    def get_write_buffer_size(self) -> int:
        size: int = self._out.get_write_buffer_size()
        return size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._out.set_write_buffer_limits(high, low)

    def is_closing(self) -> bool:
        closing: bool = self._out.is_closing()
        return closing

    def close(self) -> None:
        self._out.close()
        self._in.close()

    def abort(self) -> None:
        self._out.abort()
        self._in.close()

    def end(self) -> None:
        """The peer has ended."""
        if not self._protocol.eof_received():
            self.close()

    def lose(self, error: BaseException | None) -> None:
        """A pipe is lost, and so is the other one."""
        self._left -= 1
        self.close()
        if not self._left:
            self._protocol.connection_lost(error)


class _PipeProtocol(asyncio.Protocol):
    """The protocol of a pipe: what it is told, the transport's own protocol is told."""

    def __init__(self, joined: PipesTransport) -> None:
        self._joined = joined

    def data_received(self, data: bytes) -> None:
        self._joined.deliver(data)

    def eof_received(self) -> None:
        self._joined.end()

    def pause_writing(self) -> None:
        self._joined.get_protocol().pause_writing()

    def resume_writing(self) -> None:
        self._joined.get_protocol().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._joined.lose(exc)


@contextlib.asynccontextmanager
async def pipe_ends() -> AsyncIterator[tuple[ProtocolEnd, ProtocolEnd]]:
    """Both ends of a connection that is two pipes, to be aborted afterwards."""
    (read_a, write_b), (read_b, write_a) = os.pipe(), os.pipe()
    transports = await PipesTransport.joining(read_a, write_a), await PipesTransport.joining(read_b, write_b)
    async with _aborted(_ends(*transports)) as ends:
        yield ends
