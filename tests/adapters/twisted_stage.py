"""
A stage for scenarios of Twisted protocols, which play over Twisted's own transports and over asyncio's.

The connections come from a `World`; what else there is, peers that are worked by hand, traces and waiting, is as for
the transports: see `tests.transports.traces`.
"""

from __future__ import annotations

import asyncio
import functools
import shutil
import socket
import tempfile
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import pytest
from twisted.logger import globalLogPublisher

from txasync import ReactorEventLoop
from txasync.adapters import as_asyncio_factory

from ..conftest import POLLERS, Reports, Runner, disposable_reactor
from ..transports.combinations import COMBINATIONS, Combination
from ..transports.traces import SMALL, Peer, Stage
from .twisted_recorders import Actions, HalfCloseableRecorder, RecordingFactory, TwistedRecorder

TwistedScenario = Callable[["TwistedStage"], Coroutine[Any, Any, None]]

KINDS = ("tcp", "unix")

CALLBACKS = (
    "buildProtocol",
    "connectionMade",
    "dataReceived",
    "readConnectionLost",
    "writeConnectionLost",
    "connectionLost",
    "pauseProducing",
    "resumeProducing",
    "stopProducing",
)


class World(Protocol):
    """Where connections come from. Addresses are those that ``socket.connect()`` takes."""

    async def serve(self, factory: Any, path: str | None) -> tuple[Any, Callable[[], object]]:
        """Serve at *path*, or on a TCP port; the address, and what stops it."""

    def connect(self, address: Any, factory: Any) -> None:
        """Begin to connect."""


class NativeWorld:
    """Twisted's own transports."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    async def serve(self, factory: Any, path: str | None) -> tuple[Any, Callable[[], object]]:
        if path is not None:
            return path, self._reactor.listenUNIX(path, factory).stopListening
        port = self._reactor.listenTCP(0, factory, interface="127.0.0.1")
        return ("127.0.0.1", port.getHost().port), port.stopListening

    def connect(self, address: Any, factory: Any) -> None:
        if isinstance(address, str):
            self._reactor.connectUNIX(address, factory)
        else:
            self._reactor.connectTCP(*address, factory)


class AdaptedWorld:
    """The transports of an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._connecting: Any = None

    async def serve(self, factory: Any, path: str | None) -> tuple[Any, Callable[[], object]]:
        carriers = as_asyncio_factory(factory)
        if path is not None:
            server = await self._loop.create_unix_server(carriers, path)
            return path, server.close
        server = await self._loop.create_server(carriers, "127.0.0.1", 0)
        return server.sockets[0].getsockname(), server.close

    def connect(self, address: Any, factory: Any) -> None:
        carriers = as_asyncio_factory(factory, is_client=True)
        if isinstance(address, str):
            connecting = self._loop.create_unix_connection(carriers, address)
        else:
            connecting = self._loop.create_connection(carriers, *address)
        self._connecting = self._loop.create_task(connecting)


class TwistedStage(Stage):
    """
    Where a scenario plays.

    Args:
        loop: The loop that is played on.
        world: Where the connections come from.
        kind: One of `KINDS`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, world: World, kind: str) -> None:
        super().__init__(loop)
        self.world = world
        self.kind = kind
        self._directory = Path(tempfile.mkdtemp(prefix="txasync"))
        self._stops: list[Callable[[], object]] = []
        self._twisted: list[TwistedRecorder] = []

    # The cast

    def recorder(self, **on: Callable[..., Any]) -> TwistedRecorder:
        """A protocol."""
        return self.kept(TwistedRecorder(self, on))

    def half_closeable(self, **on: Callable[..., Any]) -> HalfCloseableRecorder:
        """A protocol that stays when one side has ended."""
        recorder = HalfCloseableRecorder(self, on)
        self.kept(recorder)
        return recorder

    def kept(self, recorder: TwistedRecorder) -> TwistedRecorder:
        """Have the connection of *recorder* aborted when the scenario is over."""
        self._twisted.append(recorder)
        return recorder

    async def listen(self, factory: Any) -> tuple[Any, Callable[[], object]]:
        """Serve *factory*; the address, and what stops it."""
        path = str(self._directory / f"{len(self._stops)}") if self.kind == "unix" else None
        address, stop = await self.world.serve(factory, path)
        self._stops.append(stop)
        return address, stop

    def dial(self, address: Any, *, rcvbuf: int | None = None) -> Peer:
        """A connection to *address*: one that the kernel has made, and nobody may have accepted yet."""
        sock = self.keep(socket.socket(socket.AF_UNIX if self.kind == "unix" else socket.AF_INET))
        if rcvbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        sock.connect(address)
        return Peer(sock)

    async def meet(self, recorder: TwistedRecorder, *, is_narrow: bool = False) -> Peer:
        """
        Have *recorder* serve one connection, which is the peer's.

        Args:
            recorder: The protocol.
            is_narrow: Whether the kernel is to take little of what is written.
        """
        if is_narrow:
            action = recorder.on.get("connectionMade", lambda: None)
            recorder.on["connectionMade"] = lambda: (narrow(recorder.transport), action())
        address, _ = await self.listen(RecordingFactory(self, recorder, is_quiet=True))
        peer = self.dial(address, rcvbuf=SMALL if is_narrow else None)
        await self.until(lambda: recorder.state != "new")
        return peer

    async def call(self, recorder: TwistedRecorder) -> Peer:
        """Have *recorder* connect to the peer."""
        family = socket.AF_UNIX if self.kind == "unix" else socket.AF_INET
        address: Any = str(self._directory / "peer") if self.kind == "unix" else ("127.0.0.1", 0)
        with socket.create_server(address, family=family) as listening:
            self.world.connect(listening.getsockname(), RecordingFactory(self, recorder, is_quiet=True))
            await self.until(lambda: recorder.state != "new")
            return Peer(self.keep(listening.accept()[0]))

    async def end_of(self, recorder: TwistedRecorder) -> None:
        """Wait until *recorder* has lost its connection, and then until nothing happens any more."""
        await self.until(lambda: recorder.state == "lost")

    # Before and after

    async def play(self, scenario: Any) -> list[str]:
        observer: Any = self._logged_by_twisted
        globalLogPublisher.addObserver(observer)
        try:
            return await super().play(scenario)
        finally:
            globalLogPublisher.removeObserver(observer)
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _clear(self) -> None:
        for stop in self._stops:
            stop()
        for recorder in self._twisted:
            recorder.on = {}
            if recorder.state == "open":
                recorder.transport.abortConnection()
        await super()._clear()
        self._twisted.clear()

    def _reported(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._note_report(error, error.__traceback__ if error is not None else None)

    def _logged_by_twisted(self, event: Any) -> None:
        failure = event.get("log_failure") or event.get("failure")  # the latter is log.err()'s
        if failure is not None:
            self._note_report(failure.value, failure.getTracebackObject())

    def _note_report(self, error: BaseException | None, trace: Any) -> None:
        frames = [frame.name for frame in traceback.extract_tb(trace)]
        inside = [name for name in frames if name in CALLBACKS]
        self.note(f"reported, from {inside[-1] if inside else frames}:", error)
        if error is not None:
            traceback.clear_frames(error.__traceback__)


def narrow(transport: Any) -> None:
    """Have the kernel take little of what *transport* writes."""
    view = transport.getHandle()
    with socket.fromfd(view.fileno(), view.family, view.type) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)


# Playing


def _play_on_ours(scenario: TwistedScenario, kind: str, combination: Combination, *, natively: bool) -> list[str]:
    with disposable_reactor(combination.reactor) as reactor:
        loop = ReactorEventLoop(reactor, poller_factory=POLLERS[combination.poller])
        world = NativeWorld(reactor) if natively else AdaptedWorld(loop)
        try:
            return Runner(combination.mode, reactor, loop)(lambda: TwistedStage(loop, world, kind).play(scenario))
        finally:
            loop.close()


def _play_on_foreign(scenario: TwistedScenario, kind: str, loop: asyncio.AbstractEventLoop) -> list[str]:
    try:
        return loop.run_until_complete(TwistedStage(loop, AdaptedWorld(loop), kind).play(scenario))
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@functools.cache
def play_natively(scenario: TwistedScenario, kind: str) -> list[str]:
    """The trace of *scenario* over Twisted's own transports."""
    return _play_on_ours(scenario, kind, COMBINATIONS[0], natively=True)


def play_adapted(scenario: TwistedScenario, kind: str, host: Any) -> list[str]:
    """The trace of *scenario* over the transports of a loop of *host*, which is `any_loop`'s."""
    if isinstance(host, Combination):
        return _play_on_ours(scenario, kind, host, natively=False)
    return _play_on_foreign(scenario, kind, host())


class TwistedScenarios:
    """A collection of scenarios; used as a decorator, it adds one, for connections of both kinds."""

    def __init__(self) -> None:
        self._all: list[tuple[TwistedScenario, str]] = []

    def __call__(self, scenario: TwistedScenario) -> TwistedScenario:
        self._all += [(scenario, kind) for kind in KINDS]
        return scenario

    def of(self, *kinds: str) -> Callable[[TwistedScenario], TwistedScenario]:
        """Decorate a scenario that plays over *kinds* only."""

        def decorate(scenario: TwistedScenario) -> TwistedScenario:
            self._all += [(scenario, kind) for kind in kinds]
            return scenario

        return decorate

    def every(self, test: Callable[..., None]) -> Callable[..., None]:
        """Decorate a test so that it gets each ``scenario``, and its ``kind``."""
        names = [f"{getattr(scenario, '__name__', '?')}-{kind}" for scenario, kind in self._all]
        decorated: Callable[..., None] = pytest.mark.parametrize(("scenario", "kind"), self._all, ids=names)(test)
        return decorated


def play_both(scenario: TwistedScenario, kind: str, host: Any, reports: Reports) -> tuple[list[str], list[str]]:
    """The traces of *scenario* over the transports of *host*, and over Twisted's own, which are to be the same."""
    expected = play_natively(scenario, kind)
    played = play_adapted(scenario, kind, host)
    reports.clear()  # they are part of the traces
    return played, expected


__all__ = [
    "KINDS",
    "Actions",
    "TwistedScenarios",
    "TwistedStage",
    "narrow",
    "play_adapted",
    "play_both",
    "play_natively",
]
