"""
Both ends of connections in memory.

A `MemoryTransport` is the program's end: Twisted's ``StringTransport``, which does what a connection does besides. At
the other end there is another one, if the program has connected to itself, or a `MemoryPeer` that a test plays.

What an end writes is in the other's queue at once, as far as there is room, and its protocol gets it in a later turn of
the clock. The rest is what Twisted's TCP does (``twisted.internet.abstract.FileDescriptor``): a producer is paused
above 64 KiB, a close waits for what is unsent and for a producer, and so on.
"""

from __future__ import annotations

import abc
import collections
import sys
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.testing import StringTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["End", "MemoryPeer", "MemoryTransport"]

# How much is on its way to an end that does not read; about what a kernel holds.
ROOM = 2**16

_EOF = object()

_log = Logger()


class End(abc.ABC):
    """What one end of a connection is to the other."""

    @abc.abstractmethod
    def room(self) -> int:
        """How many bytes it takes now."""

    @abc.abstractmethod
    def take(self, data: bytes) -> None:
        """*data* comes."""

    @abc.abstractmethod
    def take_eof(self) -> None:
        """Nothing more comes."""

    @abc.abstractmethod
    def take_loss(self, error: BaseException) -> None:
        """The connection breaks."""

    @abc.abstractmethod
    def is_gone(self) -> bool:
        """Whether it was closed, so that what is written to it breaks the connection."""

    @abc.abstractmethod
    def room_was_made(self) -> None:
        """The other end takes something again."""


@implementer(ITCPTransport)
class MemoryTransport(StringTransport, End):
    """
    The program's end of a connection.

    Args:
        clock: What calls later.
        host: The address of this end.
        peer: That of the other.

    Attributes:
        far: The other end; to be set before anything is written.
        protocol: The program's protocol, once it is connected.
        lost: Called with the reason when the connection is lost, after the protocol.
    """

    far: End
    protocol: Any = None

    def __init__(self, clock: Any, host: Any, peer: Any) -> None:
        super().__init__(host, peer, lenient=True)
        self._clock = clock
        self._incoming: collections.deque[Any] = collections.deque()
        self._unsent = bytearray()
        self._is_told_to_pause = self._ends_writing = self._has_ended_writing = False
        self._turn: Any = None
        self.lost: Any = lambda reason: None

    def __repr__(self) -> str:
        state = "open" if self.connected else "closed"
        return f"<{type(self).__name__} {state} from {self.getHost()} to {self.getPeer()}>"

    def connect(self, protocol: Any) -> None:
        """Connect *protocol*."""
        self.protocol = protocol
        self._call(protocol.makeConnection, self)

    # What the program calls: ITransport, ITCPTransport

    def write(self, data: bytes) -> None:
        super().write(data)  # which checks it, and keeps it for value()
        if self.connected and not self._has_ended_writing:
            self._unsent += data
            self._send()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._come_again()

    def loseWriteConnection(self) -> None:
        self._ends_writing = True
        self._come_again()

    def abortConnection(self) -> None:
        self.disconnected = self.disconnecting = True
        if self.connected:
            self._unsent.clear()
            self.far.take_loss(ConnectionLost())
            self._clock.callLater(0, self.lose, ConnectionAborted())

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    # IConsumer, IPushProducer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        if not self.connected:
            producer.stopProducing()
        elif not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        super().unregisterProducer()
        self._is_told_to_pause = False
        self._come_again()

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self._come_again()

    def stopProducing(self) -> None:
        super().stopProducing()
        self.loseConnection()

    # What the other end calls

    def room(self) -> int:
        return max(0, ROOM - sum(len(item) for item in self._incoming if isinstance(item, bytes)))

    def take(self, data: bytes) -> None:
        self._incoming.append(data)
        self._come_again()

    def take_eof(self) -> None:
        self._incoming.append(_EOF)
        self._come_again()

    def take_loss(self, error: BaseException) -> None:
        self._incoming.append(error)
        self._come_again()

    def is_gone(self) -> bool:
        return not self.connected

    def room_was_made(self) -> None:
        self._come_again()

    # Turns

    def _come_again(self) -> None:
        """Have a turn of the clock, in which the protocol can be called."""
        if self._turn is None and self.connected:
            self._turn = self._clock.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        self._deliver()
        if self.connected:
            self._send()
        if self.connected and not self._unsent:
            self._all_is_sent()

    def _deliver(self) -> None:
        while self._incoming and self.connected and (self.disconnecting or self.producerState == "producing"):
            item = self._incoming.popleft()
            if isinstance(item, BaseException):
                self.lose(item)
            elif self.disconnecting:
                pass  # nobody reads it any more
            elif item is _EOF:
                self._read_eof()
            else:
                self._call(self.protocol.dataReceived, item)
                self.far.room_was_made()

    def _read_eof(self) -> None:
        half_closeable = IHalfCloseableProtocol(self.protocol, None)
        if half_closeable is None:
            self.lose(ConnectionDone())
        else:
            self._call(half_closeable.readConnectionLost)

    def _send(self) -> None:
        if self._unsent and self.far.is_gone():
            self._unsent.clear()
            self._clock.callLater(0, self.lose, ConnectionLost())
            return
        sends = False
        while self._unsent and (room := self.far.room()):
            self.far.take(bytes(self._unsent[:room]))
            del self._unsent[:room]
            sends = True
        producer: Any = self.producer
        if len(self._unsent) > FileDescriptor.bufferSize and self.streaming and not self._is_told_to_pause:
            self._is_told_to_pause = True
            producer.pauseProducing()
        elif sends:
            self._come_again()

    def _all_is_sent(self) -> None:
        if self.producer is not None and (not self.streaming or self._is_told_to_pause):
            self._is_told_to_pause = False
            self.producer.resumeProducing()
        elif self.disconnecting:
            self.lose(ConnectionDone())
        elif self._ends_writing and not self._has_ended_writing:
            self._has_ended_writing = True
            self.far.take_eof()
            half_closeable = IHalfCloseableProtocol(self.protocol, None)
            if half_closeable is not None:
                self._call(half_closeable.writeConnectionLost)

    def _call(self, callback: Any, *args: Any) -> None:
        """Call the protocol; what it raises is logged, and the end of the connection, as a reactor has it."""
        try:
            callback(*args)
        except Exception as error:
            _log.failure("Unhandled Error", Failure(error))
            self.far.take_loss(ConnectionLost())
            self.lose(error)

    def lose(self, error: BaseException) -> None:
        """The connection is lost."""
        if not self.connected:
            return
        self.connected = False
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._incoming.clear()
        self._unsent.clear()
        if not self._has_ended_writing:
            self._has_ended_writing = True
            self.far.take_eof()
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        reason = Failure(error)
        try:
            self.protocol.connectionLost(reason)
        except Exception as failure:
            _log.failure("Unhandled Error", Failure(failure))
        self.lost(reason)


class MemoryPeer:
    """
    The far end of a connection of the program's, played by a test.

    What the program writes can be read at once; what the peer does reaches the program in a later turn of the clock:
    while `MemoryNetwork.run` runs, or at the next `MemoryNetwork.advance`.

    Get one from `MemoryNetwork.accept` or `MemoryNetwork.connect`.

    Attributes:
        transport: Twisted's transport at the program's end, a ``StringTransport``: ``transport.value()`` is all that
            was ever written to it.

    Context:
        The thread of the memory loop, inside of its callbacks or outside.

    Source:
        Twisted, ``twisted.internet.testing``; asyncio, "Transports".
    """

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self._end = transport.far = _PlayedEnd(transport)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.transport!r}>"

    def write(self, data: bytes) -> None:
        """
        Send *data* to the program.

        Raises:
            RuntimeError: After `write_eof`, `close` or `reset`.
        """
        if self._end.has_ended:
            raise RuntimeError(f"{self!r} cannot write any more: write_eof(), close() or reset() was called")
        if data:
            self.transport.take(bytes(data))

    def write_eof(self) -> None:
        """Send an end of file, and go on reading: a half-close."""
        if not self._end.has_ended:
            self._end.has_ended = True
            self.transport.take_eof()

    def close(self) -> None:
        """Close the connection: the program reads an end of file; what it writes from then on breaks it."""
        self.write_eof()
        self._end.is_closed = True
        self.transport.room_was_made()

    def reset(self, error: BaseException | None = None) -> None:
        """
        Break the connection.

        Args:
            error: What the program's end is lost with. Default: Twisted's ``ConnectionLost``, for which asyncio's
                protocols get a ``ConnectionResetError``.
        """
        if not self._end.is_closed:
            self._end.has_ended = self._end.is_closed = True
            self.transport.take_loss(error or ConnectionLost())

    def read(self) -> bytes:
        """Return what the program has written since the last call."""
        received = bytes(self._end.received)
        self._end.received.clear()
        return received

    def at_eof(self) -> bool:
        """Whether the program has ended its writing, by a half-close, by closing the connection or by aborting it."""
        return self._end.at_eof

    def is_lost(self) -> bool:
        """Whether the connection has ended at the program's end."""
        return not self.transport.connected

    def pause_reading(self) -> None:
        """Take nothing any more, so that what the program writes stays with its transport."""
        self._end.reads = False

    def resume_reading(self) -> None:
        """Take what the program has written, and will write."""
        self._end.reads = True
        self.transport.room_was_made()


class _PlayedEnd(End):
    """A `MemoryPeer`, as the program's end knows it."""

    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport
        self.received = bytearray()
        self.reads = True
        self.at_eof = self.has_ended = self.is_closed = False

    def room(self) -> int:
        return sys.maxsize if self.reads else 0

    def take(self, data: bytes) -> None:
        self.received += data

    def take_eof(self) -> None:
        self.at_eof = True

    def take_loss(self, error: BaseException) -> None:
        self.at_eof = self.is_closed = True

    def is_gone(self) -> bool:
        return self.is_closed

    def room_was_made(self) -> None:
        """A peer holds nothing back."""
