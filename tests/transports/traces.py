"""
Scenarios on transports, and their traces, which two loops can be compared by.

A scenario is a coroutine function that is given a `Stage`. There it makes protocols and connections and lets things
happen; whatever a user could notice becomes a line of the stage's trace, in its order. What may differ between two
right loops is no part of a trace: in how many pieces data comes, port and descriptor numbers, the class of a transport.

That a trace is the same each time rests on two things. The peers are plain sockets that the scenario works by hand,
and `Stage.quiet` waits until the loop has nothing left to do, so that nothing is in flight between two steps.

A step is a plain function call, so that a generator of scenarios can drive a stage as well as a written one.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import struct
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from txasync import ReactorEventLoop, _reactors

from ..conftest import POLLERS, REACTORS, Reports, Runner
from .combinations import COMBINATIONS, Combination
from .recorders import BufferedRecorder, DatagramRecorder, Recorder, StreamRecorder, Trace, describe

Scenario = Callable[["Stage"], Coroutine[Any, Any, None]]

SMALL = 4096
"""A size of a socket's buffer, in bytes, with which the kernel cannot take `MUCH` at once."""

MUCH = bytes(range(250)) * 1000

# A scenario that takes longer hangs.
LIMIT_S = 10.0

# Rounds of the loop in which nothing happens, before it counts as quiet. What follows from an event comes within two.
QUIET_ROUNDS = 4


class Peer:
    """The other end of a connection: a socket that never blocks, and that is worked by hand."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.ending = ""

    def send(self, data: bytes) -> None:
        """Send *data*, all of which the kernel must take at once."""
        sent = self.sock.send(data)
        assert sent == len(data), f"the kernel takes {sent} bytes only, of {len(data)}"

    def receive(self) -> bytes:
        """Everything that has arrived by now."""
        pieces: list[bytes] = []
        while not self.ending:
            try:
                pieces.append(self.sock.recv(1 << 20))
            except BlockingIOError:
                break
            except OSError as error:
                self.ending = describe(error)
            else:
                if not pieces[-1]:
                    self.ending = "eof"
        return b"".join(pieces)

    def reset(self) -> None:
        """Close a TCP connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Stage:
    """
    Where a scenario plays.

    Attributes:
        loop: The loop it plays on.
        trace: What was noted.
        illegal: Callbacks that came when they must not.
        inside: The transport's methods that are being called, by way of `attempt`.
        watches_contexts: Whether protocols note the context that they are called in.
        lost: The ``id()`` of each transport whose protocol was called with connection_lost.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.trace = Trace()
        self.illegal: list[str] = []
        self.inside: list[str] = []
        self.watches_contexts = False
        self.lost: set[int] = set()
        self._recorders: list[Recorder] = []
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._bell = socket.socketpair()
        self._rung: asyncio.Future[None] | None = None

    # What scenarios are made of: the cast

    def protocol(self, name: str = "", *, state: str = "new", **on: Callable[..., Any]) -> StreamRecorder:
        """A stream protocol."""
        self._recorders.append(recorder := StreamRecorder(self, name, state=state, on=on))
        return recorder

    def buffered_protocol(self, name: str = "", *, state: str = "new", **on: Callable[..., Any]) -> BufferedRecorder:
        """A stream protocol with a buffer of its own."""
        self._recorders.append(recorder := BufferedRecorder(self, name, state=state, on=on))
        return recorder

    def datagram_protocol(self, name: str = "", **on: Callable[..., Any]) -> DatagramRecorder:
        """A datagram protocol."""
        self._recorders.append(recorder := DatagramRecorder(self, name, on=on))
        return recorder

    def keep(self, sock: socket.socket) -> socket.socket:
        """Have *sock* closed when the scenario is over."""
        self._sockets.append(sock)
        return sock

    def pair(self, sndbuf: int | None = None) -> tuple[socket.socket, Peer]:
        """A connection of two UNIX sockets: one for a transport, and the peer."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        if sndbuf is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        self.keep(theirs)
        return ours, Peer(theirs)

    async def connect(self, protocol: Any, *, sndbuf: int | None = None) -> Peer:
        """Connect *protocol* over a pair of UNIX sockets; a small *sndbuf* has the transport buffer early."""
        ours, peer = self.pair(sndbuf)
        transport, _ = await self.loop.create_connection(lambda: protocol, sock=ours)
        assert isinstance(transport, asyncio.Transport)
        return peer

    async def connect_tcp(self, protocol: Any, **options: Any) -> Peer:
        """Connect *protocol* over TCP."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            await self.loop.create_connection(lambda: protocol, *listening.getsockname(), **options)
            return Peer(self.keep(listening.accept()[0]))

    async def serve(self, factory: Callable[[], asyncio.BaseProtocol], **options: Any) -> asyncio.Server:
        """Serve on a port that the kernel picks."""
        server = await self.loop.create_server(factory, "127.0.0.1", 0, **options)
        return self.keep_server(server)

    def keep_server(self, server: asyncio.Server) -> asyncio.Server:
        """Have *server* closed when the scenario is over."""
        self._servers.append(server)
        return server

    def client_of(self, server: asyncio.Server) -> Peer:
        """A connection to *server*: one that the kernel has made, and the server may not have accepted yet."""
        address = server.sockets[0].getsockname()
        family = server.sockets[0].family
        sock = self.keep(socket.socket(family, socket.SOCK_STREAM))
        sock.connect(address)
        return Peer(sock)

    # What scenarios are made of: the action

    def note(self, what: str, *details: Any) -> None:
        """Add a line."""
        self.trace.note(" ".join([what, *map(describe, details)]))

    def note_soon(self, what: str) -> None:
        """Add a line in the loop's next round: to see what comes before and after."""
        self.loop.call_soon(self.trace.note, what)

    def attempt(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call *function* and note that it returned, and what, or raised."""
        self.inside.append(what)
        try:
            result = function(*args)
        except Exception as error:
            self.note(f"{what} raised", error)
            return None
        else:
            self.note(what, *([result] if result is not None else []))
            return result
        finally:
            self.inside.pop()

    async def attempt_to_await(self, what: str, awaitable: Awaitable[Any]) -> Any:
        """Await, and note that it returned or raised."""
        try:
            result = await awaitable
        except Exception as error:
            self.note(f"{what} raised", error)
            return None
        self.note(what)
        return result

    async def a_round(self) -> None:
        """Wait until the loop has looked at every descriptor once."""
        self._rung = self.loop.create_future()
        self._bell[0].send(b"!")
        await self._rung

    def _rings(self) -> None:
        self._bell[1].recv(100)
        if self._rung is not None and not self._rung.done():
            self._rung.set_result(None)

    async def quiet(self) -> None:
        """Wait until nothing happens any more. Not for TCP, where the kernel may take its time."""
        calm, changes = 0, self.trace.changes
        while calm < QUIET_ROUNDS:
            await self.a_round()
            calm = calm + 1 if changes == self.trace.changes else 0
            changes = self.trace.changes

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until *condition* holds, and then until nothing happens any more."""
        while not condition():
            await self.a_round()
        await self.quiet()

    async def drain(self, peer: Peer, *, until: asyncio.Future[Any] | None = None) -> None:
        """Let *peer* read all that there is to come, at least until *until* is done, and note it."""
        read = bytearray()
        while True:
            read += (piece := peer.receive())
            if piece or (until is not None and not until.done()):
                await self.a_round()
                continue
            await self.quiet()
            if not (piece := peer.receive()):
                break
            read += piece
        self.note("the peer has read", read, peer.ending)

    async def expect(self, peer: Peer, size: int | None = None) -> None:
        """Let *peer* read *size* bytes, or all until the connection's end, however long it takes, and note it."""
        read = bytearray()
        while not peer.ending and (size is None or len(read) < size):
            read += peer.receive()
            await self.a_round()
        self.note("the peer has read", read, peer.ending)

    # Before and after

    async def play(self, scenario: Scenario) -> list[str]:
        """Play *scenario* and return its trace; leave nothing behind."""
        log = logging.getLogger("asyncio")
        log.addFilter(self._logged)
        self.loop.set_exception_handler(self._reported)
        self.loop.add_reader(self._bell[1], self._rings)
        task = self.loop.create_task(scenario(self))
        watchdog = self.loop.call_later(LIMIT_S, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            raise AssertionError("the scenario hangs; its trace:\n" + "\n".join(self.trace.lines())) from None
        finally:
            watchdog.cancel()
            lines = self.trace.lines()
            await self._clear()
            self.loop.set_exception_handler(None)
            log.removeFilter(self._logged)
        assert not self.illegal, "\n".join([*self.illegal, "in this trace:", *lines])
        return lines

    async def _clear(self) -> None:
        """Close everything."""
        for server in self._servers:
            server.close()
        for recorder in self._recorders:
            recorder.on = {}
            # asyncio's own, before 3.14, cannot bear abort() after a closing transport has sent the last of its buffer.
            if recorder.transport is not None and id(recorder.transport) not in self.lost:
                recorder.transport.abort()
        for sock in self._sockets:
            sock.close()
        await self.quiet()
        self._recorders.clear()
        self.loop.remove_reader(self._bell[1])
        for sock in self._bell:
            sock.close()

    def _reported(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.note(f"reported, from {_callback_in(context)}:", error)
        if error is not None:
            traceback.clear_frames(error.__traceback__)

    def _logged(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            self.note(f"logged as {record.levelname}: {record.getMessage()}")
        return True


CALLBACKS = (
    "connection_made",
    "data_received",
    "get_buffer",
    "buffer_updated",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "datagram_received",
    "error_received",
    "connection_lost",
)


def _callback_in(context: dict[str, Any]) -> str | None:
    """Which callback of a protocol an error comes from, by its traceback or its message."""
    error = context.get("exception")
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)] if error is not None else []
    for callback in CALLBACKS:
        if callback in frames or f"protocol.{callback}()" in context["message"]:
            return callback
    return None


def play_with(run: Runner, scenario: Scenario) -> list[str]:
    """The trace of *scenario* on the loop, and in the mode, that *run* has."""
    return run(lambda: Stage(run.loop).play(scenario))


def play_on_ours(scenario: Scenario, combination: Combination = COMBINATIONS[0]) -> list[str]:
    """The trace of *scenario* on our loop."""
    reactor: Any = REACTORS[combination.reactor]()
    loop = ReactorEventLoop(reactor, poller_factory=POLLERS[combination.poller])
    try:
        return Runner(combination.mode, reactor, loop)(lambda: Stage(loop).play(scenario))
    finally:
        loop.close()
        _reactors.release_threads(reactor)
        _reactors.dispose_private_reactor(reactor)


def play_on_stock(scenario: Scenario) -> list[str]:
    """The trace of *scenario* on asyncio's own loop."""
    loop = asyncio.SelectorEventLoop()
    try:
        return loop.run_until_complete(Stage(loop).play(scenario))
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


_play_on_stock_once = functools.cache(play_on_stock)


def play_on_both(scenario: Scenario, combination: Combination, reports: Reports) -> tuple[list[str], list[str]]:
    """The traces of *scenario* on our loop and on asyncio's, which are to be the same."""
    expected = _play_on_stock_once(scenario)
    traced = play_on_ours(scenario, combination)
    reports.asyncio.clear()  # they are part of the traces
    return traced, expected


class Scenarios:
    """A collection of scenarios; used as a decorator, it adds one."""

    def __init__(self) -> None:
        self.all: list[Scenario] = []

    def __call__(self, scenario: Scenario) -> Scenario:
        self.all.append(scenario)
        return scenario

    def since(self, *version: int) -> Callable[[Scenario], Scenario]:
        """Decorate a scenario that asyncio plays right from *version* on; it is left out before."""
        return self if sys.version_info >= version else lambda scenario: scenario

    def every(self, test: Callable[..., None]) -> Callable[..., None]:
        """Decorate a test so that it gets each ``scenario``."""
        names = [getattr(scenario, "__name__", "?") for scenario in self.all]
        decorated: Callable[..., None] = pytest.mark.parametrize("scenario", self.all, ids=names)(test)
        return decorated
