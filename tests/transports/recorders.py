"""Protocols that note what they are called with, and what values look like in a note."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import re
import socket
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .traces import Stage

PLACE: contextvars.ContextVar[str] = contextvars.ContextVar("PLACE", default="nowhere")
"""What protocols note with each callback if their stage is asked to watch contexts."""


class Boom(Exception):
    """What a protocol of ours raises."""


def describe(value: Any) -> str:
    """*value* as it stands in a trace."""
    if isinstance(value, OSError):
        return f"{type(value).__name__}({errno.errorcode.get(value.errno or 0, value.errno)})"
    if isinstance(value, BaseException):
        return type(value).__name__
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return repr(data) if len(data) <= 40 else f"{len(data)} bytes, crc {zlib.crc32(data):08x}"
    if isinstance(value, tuple) and len(value) in (2, 4) and isinstance(value[0], str) and isinstance(value[1], int):
        return f"address {value[0]} port {'N' if value[1] else 0} {value[2:]}"
    if isinstance(value, asyncio.BaseTransport | asyncio.BaseProtocol | asyncio.AbstractServer):
        return f"a {shape_of(value)}"
    if isinstance(value, asyncio.trsock.TransportSocket | socket.socket):
        return f"a socket: {socket.AddressFamily(value.family).name}, {socket.SocketKind(value.type).name}"
    return repr(value)


def shape_of(value: Any) -> str:
    """The ``repr()`` of *value*, a transport or another, without its class and its numbers."""
    text = re.sub(r"^<[\w.]+", "<Transport" if isinstance(value, asyncio.BaseTransport) else "<It", repr(value))
    return re.sub(r"bufsize=[1-9]\d*", "bufsize=N", re.sub(r"fd=\d+", "fd=N", text))


class Trace:
    """
    Lines of text, in order; data that came in pieces, with nothing between them, is one line.

    Attributes:
        changes: Counts what was added.
        by_actor: Whether the order counts only among the lines of each protocol, by its name, and among the rest: for
            where both ends of a connection are in the loop, and it is chance which of them is first.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[str, bytes | None]] = []
        self.changes = 0
        self.by_actor = False

    def note(self, line: str) -> None:
        """Add a line."""
        self.changes += 1
        self._entries.append((line, None))

    def data(self, source: str, piece: bytes) -> None:
        """Add data, to the line before if it can be."""
        self.changes += 1
        if self._entries and self._entries[-1][0] == source and (before := self._entries[-1][1]) is not None:
            self._entries[-1] = source, before + piece
        else:
            self._entries.append((source, piece))

    def lines(self) -> list[str]:
        """The whole trace."""
        lines = [text if data is None else f"{text} {describe(data)}" for text, data in self._entries]
        return sorted(lines, key=_actor_of) if self.by_actor else lines


def _actor_of(line: str) -> str:
    actor, separator, _ = line.partition(": ")
    return actor if separator else ""


class Recorder(asyncio.BaseProtocol):
    """
    Notes what it is called with, does what *on* says, and has an eye on the legal order of callbacks.

    ========================= ============================== =====================================
    callback                  legal when                     then
    ========================= ============================== =====================================
    connection_made           new                            open
    data, a datagram or error open, and is_reading()         open
    eof_received              open, and is_reading()         at its end
    pause_writing             open or at its end, unpaused   paused
    resume_writing            open or at its end, paused     unpaused
    connection_lost           open or at its end             lost; and not inside close() or abort()
    ========================= ============================== =====================================

    Args:
        stage: Where the notes go.
        name: Stands before each note, if several protocols play.
        state: The state to begin in: ``"open"`` for one that takes over a connection.
        on: What to do in a callback, after it was noted, with the callback's arguments; the result is the callback's.

    Attributes:
        transport: The transport, from `connection_made` on.
        log: The names of the callbacks so far.
        lost: Done when connection_lost was called.
    """

    def __init__(self, stage: Stage, name: str = "", *, state: str = "new", on: dict[str, Callable[..., Any]]) -> None:
        self.stage = stage
        self.prefix = f"{name}: " if name else ""
        self.state = state
        self.on = on
        self.paused: bool | None = False if state == "new" else None
        self.transport: Any = None
        self.log: list[str] = []
        self.lost: asyncio.Future[None] = stage.loop.create_future()

    def _called(self, callback: str, legal: bool, *args: Any) -> Any:
        self._check(callback, legal)
        self.stage.note(self._line(callback), *args)
        return self._do(callback, *args)

    def _received(self, callback: str, legal: bool, data: bytes, *args: Any) -> None:
        self._check(callback, legal)
        self.stage.trace.data(self._line(callback), data)
        self._do(callback, *args)

    def _check(self, callback: str, legal: bool) -> None:
        if not legal:
            self.stage.illegal.append(f"{self.prefix}{callback} when {self.state}, after {self.log[-10:]}")
        self.log.append(callback)

    def _line(self, callback: str) -> str:
        return f"{self.prefix}{callback}" + (f" in {PLACE.get()}" if self.stage.watches_contexts else "")

    def _do(self, callback: str, *args: Any) -> Any:
        action = self.on.get(callback)
        return None if action is None else action(*args)

    @property
    def _reads(self) -> bool:
        return self.state == "open" and (self.transport is None or self.transport.is_reading())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        legal, self.state = self.state == "new", "open"
        self.transport = transport
        self._check("connection_made", legal)
        self.stage.note(self._line("connection_made"))
        self._do("connection_made", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        legal, self.state = self.state in ("open", "at its end") and not self.stage.inside, "lost"
        if not self.lost.done():
            self.lost.set_result(None)
        self.stage.lost.add(id(self.transport))
        self._called("connection_lost", legal, exc)

    def pause_writing(self) -> None:
        legal, self.paused = self.state in ("open", "at its end") and self.paused is not True, True
        self._called("pause_writing", legal)

    def resume_writing(self) -> None:
        legal, self.paused = self.state in ("open", "at its end") and self.paused is not False, False
        self._called("resume_writing", legal)

    def attempt(self, method: str, *args: Any) -> Any:
        """Call *method* of the transport; note how it ended."""
        return self.stage.attempt(f"{self.prefix}{method}", getattr(self.transport, method), *args)

    def note_state(self) -> None:
        """Note what the transport says of itself."""
        transport = self.transport
        self.stage.note(
            f"{self.prefix}state: closing {transport.is_closing()}, "
            f"reading {transport.is_reading() if isinstance(transport, asyncio.ReadTransport) else None}, "
            f"limits {transport.get_write_buffer_limits()}"
        )


class Incoming(Recorder):
    """What both kinds of stream protocols do when the other side has ended."""

    def eof_received(self) -> bool | None:
        legal, self.state = self._reads, "at its end"
        keep_open: bool | None = self._called("eof_received", legal)
        return keep_open


class StreamRecorder(Incoming, asyncio.Protocol):
    """A stream protocol that takes bytes."""

    def data_received(self, data: bytes) -> None:
        self._received("data_received", self._reads, data, data)


class BufferedRecorder(Incoming, asyncio.BufferedProtocol):
    """A stream protocol that lends its buffer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.buffer = bytearray(4096)
        self._lent = False

    def get_buffer(self, sizehint: int) -> Any:
        # Not noted: it may be called any number of times. What get_buffer itself changes comes too late for the data.
        self._lent = self._reads
        if not self._lent:
            self.stage.illegal.append(f"{self.prefix}get_buffer when {self.state}, after {self.log[-10:]}")
        buffer = self._do("get_buffer", sizehint)
        return self.buffer if buffer is None else buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._received("buffer_updated", self._lent, bytes(self.buffer[:nbytes]), nbytes)


class DatagramRecorder(Recorder, asyncio.DatagramProtocol):
    """
    A datagram protocol.

    Attributes:
        hides_addresses: Whether the addresses are left out of the notes.
    """

    hides_addresses = False

    @property
    def _reads(self) -> bool:
        return self.state == "open" and not (self.transport and self.transport.is_closing())

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._check("datagram_received", self._reads)
        self.stage.note(self._line("datagram_received"), data, *([] if self.hides_addresses else [addr]))
        self._do("datagram_received", data, addr)

    def error_received(self, exc: Exception) -> None:
        self._called("error_received", self.state == "open", exc)
