"""Back-pressure, from a fast producer of Twisted's to a slow reader: what is held is bounded, and all of it arrives."""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import termios
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from twisted.internet.interfaces import IPullProducer, IPushProducer
from zope.interface import implementer

from txasync.adapters import as_asyncio_protocol

from ..transports.traces import SMALL
from .any_loop import Perform, host, perform
from .test_twisted_transport import End

__all__ = ["host", "perform"]

HIGH = 64 * 1024
"""asyncio's high-water mark, if it is not told otherwise."""

CHUNK = bytes(range(250)) * 40
COUNT = 100


class Meter:
    """
    How much of what was written is neither read nor in the kernel.

    Attributes:
        written: In bytes.
        read: In bytes.
        most: The most that was held.
        checksum: Of what was read.
    """

    def __init__(self, transport: Any, peer: socket.socket) -> None:
        self.written = self.read = self.most = self.checksum = 0
        self._transport = transport
        self._peer = peer

    def write(self) -> None:
        """Write a chunk."""
        self._transport.write(CHUNK)
        self.written += len(CHUNK)
        waiting = array.array("i", [0])
        fcntl.ioctl(self._peer, termios.FIONREAD, waiting)  # a UNIX connection has one queue in the kernel
        self.most = max(self.most, self.written - self.read - waiting[0])

    async def drain(self) -> AsyncIterator[int]:
        """Read a little at a time, to the end."""
        while True:
            try:
                piece = self._peer.recv(SMALL)
            except BlockingIOError:
                await asyncio.sleep(0)
                continue
            if not piece:
                return
            self.read += len(piece)
            self.checksum = zlib.crc32(piece, self.checksum)
            yield self.read
            await asyncio.sleep(0)


@implementer(IPushProducer)
class FastPushProducer:
    """Writes at once whatever it may."""

    def __init__(self, transport: Any, meter: Any) -> None:
        self._transport = transport
        self._meter = meter
        self.left = COUNT
        self.is_stopped = self._is_paused = False

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = False
        while self.left and not self._is_paused:
            self.left -= 1
            self._meter.write()
        if not self.left:
            self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.is_stopped = self._is_paused = True


@implementer(IPullProducer)
class FastPullProducer:
    """Writes a chunk each time that it is asked."""

    def __init__(self, transport: Any, meter: Any) -> None:
        self._transport = transport
        self._meter = meter
        self.left = COUNT
        self.is_stopped = False

    def resumeProducing(self) -> None:
        self.left -= 1
        self._meter.write()
        if not self.left:
            self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.is_stopped = True


async def narrow_pair() -> tuple[End, Any, socket.socket]:
    """A protocol on a connection that takes little at once, asyncio's transport of it, and the peer."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    theirs.setblocking(False)
    end = End()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: as_asyncio_protocol(end), sock=ours)
    return end, transport, theirs


def begin(end: End, peer: socket.socket, *, streaming: bool) -> tuple[Any, Meter]:
    """Have a fast producer begin."""
    meter = Meter(end.transport, peer)
    producer = (FastPushProducer if streaming else FastPullProducer)(end.transport, meter)
    end.transport.registerProducer(producer, streaming)
    if streaming:
        producer.resumeProducing()
    return producer, meter


@pytest.mark.parametrize("streaming", [True, False], ids=["push", "pull"])
def test_what_is_held_for_a_slow_reader_is_bounded(streaming: bool, perform: Perform) -> None:
    """No more than the high-water mark and one chunk is held, nothing is lost, and the connection closes."""

    async def main() -> None:
        end, _, peer = await narrow_pair()
        with peer:
            _, meter = begin(end, peer, streaming=streaming)
            end.transport.loseConnection()
            async for _ in meter.drain():
                pass
            await end.lost
            assert meter.read == meter.written == COUNT * len(CHUNK)
            assert meter.checksum == zlib.crc32(CHUNK * COUNT)
            assert meter.most <= HIGH + len(CHUNK)

    perform(main)


@pytest.mark.parametrize("streaming", [True, False], ids=["push", "pull"])
def test_the_marks_of_asyncios_transport_hold(streaming: bool, perform: Perform) -> None:
    """A high-water mark that was set at asyncio's transport is kept."""

    async def main() -> None:
        end, transport, peer = await narrow_pair()
        transport.set_write_buffer_limits(high=1)
        with peer:
            _, meter = begin(end, peer, streaming=streaming)
            end.transport.loseConnection()
            async for _ in meter.drain():
                pass
            await end.lost
            assert meter.read == COUNT * len(CHUNK)
            assert meter.most <= 1 + len(CHUNK)

    perform(main)


def shut_down(end: End, peer: socket.socket) -> None:
    """The peer ends it."""
    peer.shutdown(socket.SHUT_RDWR)


def abort(end: End, peer: socket.socket) -> None:
    """Our side does."""
    end.transport.abortConnection()


@pytest.mark.parametrize("streaming", [True, False], ids=["push", "pull"])
@pytest.mark.parametrize("leave", [shut_down, abort], ids=["the peer", "we"])
def test_a_producer_never_keeps_a_dead_connection(
    leave: Callable[[End, socket.socket], None], streaming: bool, perform: Perform
) -> None:
    """A producer that waits for a reader who leaves is stopped, and the connection is lost."""

    async def main() -> None:
        end, _, peer = await narrow_pair()
        with peer:
            producer, _ = begin(end, peer, streaming=streaming)
            end.transport.loseConnection()
            leave(end, peer)
            await end.lost
            assert producer.is_stopped

    perform(main)
