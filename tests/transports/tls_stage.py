"""
Scenarios by TLS: a stage whose protocols are on one side of it, and the peers on the other, which speak it by hand.

What `traces` says of scenarios holds here. The peer's TLS is an ``ssl.SSLObject`` between memory and a plain socket, so
that a scenario decides when a record is sent, and what becomes of it on the way.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import socket
import ssl
import sys
import warnings
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import pytest

from txasync import ReactorEventLoop, _reactors

from ..conftest import POLLERS, REACTORS, Reports, Runner
from ..tls import contexts
from .combinations import COMBINATIONS, Combination
from .recorders import BufferedRecorder, StreamRecorder, describe
from .traces import Peer, Stage

SIDES = ("server", "client")

RECORD = 16 * 1024
"""The most that a record holds, in bytes."""

server_context = functools.cache(contexts.server_context)
client_context = functools.cache(contexts.client_context)

TLSScenario = Callable[["TLSStage"], Coroutine[Any, Any, None]]


class TLSPeer(Peer):
    """
    The other end of a connection, by TLS.

    Args:
        sock: The socket.
        server_side: Whether this end is the server.
        context: The context. Default: one that suits the other end's.

    Attributes:
        ssl: What encrypts and decrypts.
        greeted: Whether the handshake is done, as seen from here.
        arrived: How many bytes have come, as they are below TLS.
        ending: How the other end has ended, so far: ``"close_notify"``, ``"eof"``, an error.
    """

    def __init__(self, sock: socket.socket, *, server_side: bool, context: ssl.SSLContext | None = None) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = context or (server_context if server_side else client_context)("stdlib")
        name = None if server_side else "localhost"
        self.ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=name)
        self.greeted = False
        self.arrived = 0
        self._endings: list[str] = []
        self._hung_up = False

    # The handshake

    def go_on(self) -> None:
        """Go on with the handshake, as far as that is possible by now."""
        self._pull()
        if self.greeted or self._endings:
            return
        try:
            self.ssl.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._end(describe(error))
        else:
            self.greeted = True
        self.push()

    # Sending

    def encrypted(self, data: bytes) -> bytes:
        """The records of *data*, which is to be sent by hand."""
        self.push()
        self.ssl.write(data)
        return self._outgoing.read()

    def push(self) -> None:
        """Send what is encrypted."""
        if records := self._outgoing.read():
            try:
                super().send(records)
            except OSError as error:
                self._end(describe(error))

    def send(self, data: bytes) -> None:
        """Send *data*, all of which the kernel must take at once."""
        super().send(self.encrypted(data))

    def send_raw(self, data: bytes) -> None:
        """Send *data* as it is."""
        super().send(data)

    def goodbye(self) -> bytes:
        """A close_notify, which is to be sent by hand."""
        self.push()
        try:
            self.ssl.unwrap()
        except ssl.SSLError:
            pass  # the other end's has not come yet; or it is data that has
        return self._outgoing.read()

    def say_goodbye(self) -> None:
        """Send a close_notify, and nothing after it."""
        super().send(self.goodbye())

    def hang_up(self) -> None:
        """End the connection below TLS, in this direction; what comes in the other can still be read."""
        self.sock.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        """Say goodbye and hang up, at once."""
        self.say_goodbye()
        self.hang_up()

    # Receiving

    def receive(self) -> bytes:
        """Everything that has arrived by now, as far as it can be decrypted."""
        self._pull()
        pieces = []
        while not self._is_over():
            try:
                piece = self.ssl.read(1 << 20)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLEOFError:
                break  # which is noted where it is seen
            except ssl.SSLZeroReturnError:
                self._end("close_notify")
            except ssl.SSLError as error:
                self._end(describe(error))
            else:
                if not piece:
                    self._end("close_notify")
                pieces.append(piece)
        self.push()
        return b"".join(pieces)

    def _pull(self) -> None:
        while not self._hung_up:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                return
            except OSError as error:
                self._hang(describe(error))
            else:
                self._incoming.write(data)
                self.arrived += len(data)
                if not data:
                    self._hang("eof")

    def _is_over(self) -> bool:
        return any(ending != "eof" for ending in self._endings)

    def _hang(self, how: str) -> None:
        self._hung_up = True
        self._incoming.write_eof()
        self._end(how)

    def _end(self, how: str) -> None:
        # What TLS says comes first, wherever it was seen.
        self._endings.append(how)
        self._endings.sort(key=lambda ending: ending == "eof")
        self.ending = ", ".join(self._endings)


class _TLSRecorder:
    """
    What is different by TLS, and with asyncio's transports of it.

    The peer's end is told after ``close()``, too, if the peer answers; and asyncio cannot tell whether a transport
    reads that was closed twice, or is lost.
    """

    state: str
    transport: Any
    prefix: str
    stage: Stage
    log: list[str]
    _called: Callable[..., Any]

    @property
    def _reads(self) -> bool:
        return self.state == "open" and self._is("is_reading", True)

    def _is(self, method: str, otherwise: bool) -> bool:
        try:
            return self.transport is None or bool(getattr(self.transport, method)())
        except (AttributeError, RuntimeError):
            return otherwise

    def eof_received(self) -> bool | None:
        legal = self.state == "open" and (self._is("is_reading", True) or self._is("is_closing", True))
        self.state = "at its end"
        keep_open: bool | None = self._called("eof_received", legal)
        return keep_open

    def note_state(self) -> None:
        """Note what the transport says of itself, as long as it is open: after that, asyncio's has no opinion."""
        transport = self.transport
        closing = transport.is_closing()
        reading = "" if closing else f", reading {transport.is_reading()}, limits {transport.get_write_buffer_limits()}"
        self.stage.note(f"{self.prefix}state: closing {closing}{reading}")


class TLSRecorder(_TLSRecorder, StreamRecorder):
    """A stream protocol that takes bytes."""


class BufferedTLSRecorder(_TLSRecorder, BufferedRecorder):
    """
    A stream protocol that lends its buffer.

    It lends a view: asyncio reads into a copy of part of a bytearray (python/cpython#156275). And it may be asked
    for it at any time: asyncio does so to find out whether there is anything to read.
    """

    def get_buffer(self, sizehint: int) -> Any:
        self._lent = self._reads
        buffer = self._do("get_buffer", sizehint)
        return memoryview(self.buffer) if buffer is None else buffer


class TLSStage(Stage):
    """
    Where a scenario plays by TLS.

    Args:
        loop: The loop it plays on.
        side: Of `SIDES`: which one the protocols are on.
        kind: What kind of context they have: one of `contexts.SERVER_KINDS` or `contexts.CLIENT_KINDS`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, side: str, kind: str) -> None:
        super().__init__(loop)
        self.side = side
        self.kind = kind

    @property
    def context(self) -> Any:
        """What ``ssl=`` is given."""
        return (server_context if self.side == "server" else client_context)(self.kind)

    def protocol(self, name: str = "", *, state: str = "new", **on: Callable[..., Any]) -> TLSRecorder:
        self._recorders.append(recorder := TLSRecorder(self, name, state=state, on=on))
        return recorder

    def buffered_protocol(self, name: str = "", *, state: str = "new", **on: Callable[..., Any]) -> BufferedTLSRecorder:
        self._recorders.append(recorder := BufferedTLSRecorder(self, name, state=state, on=on))
        return recorder

    def tls_peer(self, peer: Peer, **options: Any) -> TLSPeer:
        """*peer*, speaking TLS."""
        return TLSPeer(peer.sock, server_side=self.side == "client", **options)

    def secured(self, protocol: Any, ours: socket.socket, **options: Any) -> Coroutine[Any, Any, Any]:
        """The call that makes a TLS transport for *protocol* of the connected socket *ours*."""
        options.setdefault("ssl", self.context)
        if self.side == "server":
            return self.loop.connect_accepted_socket(lambda: protocol, ours, **options)
        options.setdefault("server_hostname", "localhost")
        return self.loop.create_connection(lambda: protocol, sock=ours, **options)

    def upgraded(self, protocol: Any, **options: Any) -> Coroutine[Any, Any, Any]:
        """The call that upgrades *protocol*'s transport."""
        options.setdefault("sslcontext", self.context)
        if self.side == "client":
            options.setdefault("server_hostname", "localhost")
        return self.loop.start_tls(protocol.transport, protocol, server_side=self.side == "server", **options)

    async def connect(self, protocol: Any, *, sndbuf: int | None = None, **options: Any) -> TLSPeer:
        """Connect *protocol* over a pair of UNIX sockets, by TLS; a small *sndbuf* has the transport buffer early."""
        ours, plain = self.pair(sndbuf)
        peer = self.tls_peer(plain)
        await self.meet(peer, self.secured(protocol, ours, **options))
        return peer

    async def connect_tcp(
        self, protocol: Any, *, peers_context: ssl.SSLContext | None = None, **options: Any
    ) -> TLSPeer:
        """Connect *protocol* over TCP, by TLS."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ours = socket.create_connection(listening.getsockname())
            ours.setblocking(False)
            peer = self.tls_peer(Peer(self.keep(listening.accept()[0])), context=peers_context)
        await self.meet(peer, self.secured(protocol, ours, **options))
        return peer

    async def drain(self, peer: Peer, *, until: asyncio.Future[Any] | None = None) -> None:
        """Let *peer* read all that there is to come, at least until *until* is done, and note it."""
        if not isinstance(peer, TLSPeer):
            await super().drain(peer, until=until)
            return
        read = bytearray()
        arrived, is_done = -1, False
        while arrived != peer.arrived or not is_done:
            while arrived != peer.arrived:
                arrived = peer.arrived
                read += peer.receive()
                await self.a_round()
            # Looked at before: what follows from the end of *until* is waited for only by a quiet that begins after it.
            is_done = until is None or until.done()
            await self.quiet()
            read += peer.receive()
        self.note("the peer has read", read, peer.ending)

    async def meet(self, peer: TLSPeer, connecting: Coroutine[Any, Any, Any]) -> Any:
        """Have *peer* do its part of the handshake, and note how *connecting* ends."""
        task = self.loop.create_task(self.attempt_to_await("connected", connecting))
        await self.greet(peer, task)
        return await task

    async def greet(self, peer: TLSPeer, until: asyncio.Future[Any]) -> None:
        """Have *peer* do its part of the handshake, at least until *until* is done."""
        while not (until.done() and (peer.greeted or peer.ending)):
            peer.go_on()
            await self.a_round()
        await self.quiet()


class Way(NamedTuple):
    """How a scenario is played."""

    side: str
    kind: str
    combination: Combination = COMBINATIONS[0]

    def __str__(self) -> str:
        return f"{self.side}-{self.kind}-" + "-".join(self.combination)


WAYS = (
    Way("server", "stdlib"),
    Way("client", "stdlib", COMBINATIONS[1]),
    Way("server", "memory", COMBINATIONS[3]),
    Way("client", "memory", COMBINATIONS[2]),
    Way("server", "options", COMBINATIONS[1]),
    Way("server", "stdlib", COMBINATIONS[2]),
)
"""Each kind of transport on each side, and among them each combination."""

EVERY_KIND = tuple(
    Way(side, kind, COMBINATIONS[(number + number // 4) % 4])
    for number, (side, kind) in enumerate(
        [("server", kind) for kind in contexts.SERVER_KINDS] + [("client", kind) for kind in contexts.CLIENT_KINDS]
    )
)
"""Each kind of context on each side, and among them each combination on both."""

_DIFFERENT = {("server", "stdlib"), ("server", "context"), ("client", "stdlib"), ("client", "memory")}

SOME_KINDS = tuple(way for way in EVERY_KIND if (way.side, way.kind) in _DIFFERENT)
"""A way of each kind of transport, on each combination, for what takes its time."""

every_kind = pytest.mark.parametrize("way", EVERY_KIND, ids=str)
some_kinds = pytest.mark.parametrize("way", SOME_KINDS, ids=str)


def play_on_ours(scenario: TLSScenario, way: Way) -> list[str]:
    """The trace of *scenario* on our loop."""
    reactor: Any = REACTORS[way.combination.reactor]()
    loop = ReactorEventLoop(reactor, poller_factory=POLLERS[way.combination.poller])
    try:
        run = Runner(way.combination.mode, reactor, loop)
        lines = run(lambda: TLSStage(loop, way.side, way.kind).play(scenario))  # type: ignore[arg-type]
        assert not reactor.getDelayedCalls()
    finally:
        loop.close()
        _reactors.release_threads(reactor)
        _reactors.dispose_private_reactor(reactor)
    # Of pyOpenSSL's contexts, errors have a class of their own, which is an SSLError.
    return [line.replace("TLSError(", "SSLError(") for line in lines]


@functools.cache
def play_on_stock(scenario: TLSScenario, side: str) -> list[str]:
    """The trace of *scenario* on asyncio's own loop."""
    with warnings.catch_warnings():
        if sys.version_info < (3, 11):
            warnings.simplefilter("ignore", ResourceWarning)  # a transport that is lost calls itself unclosed
        loop = asyncio.SelectorEventLoop()
        try:
            return loop.run_until_complete(TLSStage(loop, side, "stdlib").play(scenario))  # type: ignore[arg-type]
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            gc.collect()


class Part(NamedTuple):
    """
    A scenario and a way to play it.

    Attributes:
        scenario: The scenario.
        way: The way to play it on our loop.
        side: The side that asyncio plays it on.
        since: The first version of asyncio that plays it right.
    """

    scenario: TLSScenario
    way: Way
    side: str
    since: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.scenario.__name__}-{self.way}"


class TLSScenarios:
    """
    A collection of scenarios; used as a decorator, it adds one.

    Args:
        written: Traces that asyncio plays in some versions only, 3.10 not among them, by the scenario's name.
    """

    def __init__(self, written: dict[str, list[str]]) -> None:
        self.parts: list[Part] = []
        self._written = written

    def __call__(self, scenario: TLSScenario, sides: Sequence[str] = SIDES, **asyncios: Any) -> TLSScenario:
        """
        Add *scenario*, to be played on *sides*; asyncio plays it right on one *side* only, or *since* some version.

        It is left out where there is nothing to compare it with.
        """
        for way in WAYS:
            side = asyncios.get("side", way.side)
            written = self._written_for(scenario, side)
            since = asyncios.get("since", (3, 10) if written is None else (3, 11))
            if way.side in sides and (written is not None or sys.version_info >= since):
                self.parts.append(Part(scenario, way, side, since))
        return scenario

    def on(self, *sides: str) -> Callable[[TLSScenario], TLSScenario]:
        """Decorate a scenario of some sides only."""
        return functools.partial(self, sides=sides)

    def that(self, **asyncios: Any) -> Callable[[TLSScenario], TLSScenario]:
        """Decorate a scenario that asyncio plays right on one *side* only, or *since* some version."""
        return functools.partial(self, **asyncios)

    def every(self, test: Callable[..., None]) -> Callable[..., None]:
        """Decorate a test so that it gets each ``part``."""
        decorated: Callable[..., None] = pytest.mark.parametrize("part", self.parts, ids=str)(test)
        return decorated

    def expected(self, part: Part) -> list[str]:
        """What *part* is to be like."""
        written = self._written_for(part.scenario, part.side)
        if sys.version_info < part.since:
            assert written is not None
            return written
        played = play_on_stock(part.scenario, part.side)
        assert written is None or played == written, "what is written is not what asyncio plays"
        return played

    def _written_for(self, scenario: TLSScenario, side: str) -> list[str] | None:
        name: str = scenario.__name__
        return self._written.get(name, self._written.get(f"{name}, {side}"))


def play_on_both(scenarios: TLSScenarios, part: Part, reports: Reports) -> tuple[list[str], list[str]]:
    """The traces of *part* on our loop and on asyncio's, which are to be the same."""
    expected = scenarios.expected(part)
    traced = play_on_ours(part.scenario, part.way)
    reports.asyncio.clear()  # they are part of the traces
    return traced, expected
