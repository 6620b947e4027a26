"""A stage for scenarios of Twisted's datagram protocols, which play on Twisted's ports and on asyncio's endpoints."""

from __future__ import annotations

import asyncio
import functools
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from txasync import ReactorEventLoop
from txasync.adapters import as_asyncio_datagram_protocol

from ..conftest import POLLERS, Reports, Runner, disposable_reactor
from ..transports.combinations import Combination
from ..transports.traces import Stage

__all__ = ["PortScenarios", "PortStage", "RecordingPort", "play_adapted", "play_both"]

PortScenario = Callable[["PortStage"], Coroutine[Any, Any, None]]

# On the reactors that poll, Twisted's ports do not survive an unreachable peer (twisted#5377).
NATIVE = Combination("select", "own", "asyncio-first")


class RecordingPort(DatagramProtocol):
    """
    A Twisted datagram protocol that notes what it is called with, and does what *on* says.

    Attributes:
        log: The names of the callbacks so far.
        state: ``"new"``, ``"started"`` or ``"stopped"``.
        itransport: The transport, also when Twisted has taken it away.
        address: Its address.
    """

    noisy = False

    def __init__(self, stage: PortStage, name: str, on: dict[str, Callable[..., Any]]) -> None:
        self.stage = stage
        self.prefix = f"{name}: " if name else ""
        self.on = on
        self.log: list[str] = []
        self.state = "new"
        self.itransport: Any = None
        self.address: tuple[str, int] = ("", 0)

    def _called(self, callback: str, legal: str, *args: Any) -> None:
        if self.state != legal:
            self.stage.illegal.append(f"{self.prefix}{callback} when {self.state}, after {self.log[-10:]}")
        if self.stage.inside and callback == "stopProtocol":
            self.stage.illegal.append(f"{self.prefix}{callback} inside {self.stage.inside}")
        self.log.append(callback)
        self.stage.note(f"{self.prefix}{callback}", *args)

    def _do(self, callback: str, *args: Any) -> None:
        action = self.on.get(callback)
        if action is not None:
            action(*args)

    def startProtocol(self) -> None:
        self._called("startProtocol", "new")
        self.state = "started"
        self.itransport = self.transport
        host = self.itransport.getHost()
        self.address = host.host, host.port
        self._do("startProtocol")

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._called("datagramReceived", "started", datagram, addr)
        self._do("datagramReceived", datagram, addr)

    def connectionRefused(self) -> None:
        self._called("connectionRefused", "started")
        self._do("connectionRefused")

    def stopProtocol(self) -> None:
        self._called("stopProtocol", "started")
        self.state = "stopped"
        self._do("stopProtocol")

    def attempt(self, method: str, *args: Any) -> Any:
        """Call *method* of the transport; note how it ended, and what becomes of a Deferred."""
        what = f"{self.prefix}{method}"
        self.stage.inside.append(what)
        try:
            result = getattr(self.itransport, method)(*args)
        except Exception as error:
            self.stage.note(f"{what} raised", error)
            return None
        finally:
            self.stage.inside.pop()
        if isinstance(result, Deferred):
            self.stage.note(f"{what} gave a Deferred, called: {bool(result.called)}")
            result.addCallbacks(
                lambda value: self.stage.note(f"{what} fired", value),
                lambda failure: self.stage.note(f"{what} failed", failure.value),
            )
        elif method == "getLoopbackMode":  # an int before Twisted 26
            self.stage.note(what, bool(result))
        elif method not in ("write", "writeSequence"):  # which may tell a number
            self.stage.note(what, result)
        else:
            self.stage.note(what)
        return result

    async def calls(self, callback: str, times: int = 1) -> None:
        """Wait until *callback* was called so many times, and nothing happens any more."""
        await self.stage.until(lambda: self.log.count(callback) >= times)


class World(Protocol):
    """Where ports come from."""

    async def start(self, protocol: Any, interface: str) -> None:
        """Start *protocol* on a UDP port."""


class TwistedPorts:
    """Twisted's own ports."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    async def start(self, protocol: Any, interface: str) -> None:
        self._reactor.listenMulticast(0, protocol, interface=interface, maxPacketSize=65536)


class AsyncioEndpoints:
    """The endpoints of an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def start(self, protocol: Any, interface: str) -> None:
        await self._loop.create_datagram_endpoint(
            lambda: as_asyncio_datagram_protocol(protocol), local_addr=(interface, 0)
        )


class PortStage(Stage):
    """
    Where a scenario plays.

    Args:
        loop: The loop that is played on.
        world: Where the ports come from.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, world: World) -> None:
        super().__init__(loop)
        self._world = world
        self._ports: list[RecordingPort] = []

    def port(self, name: str = "", **on: Callable[..., Any]) -> RecordingPort:
        """A protocol."""
        self._ports.append(protocol := RecordingPort(self, name, on))
        return protocol

    async def start(self, protocol: RecordingPort, interface: str = "127.0.0.1") -> None:
        """Start *protocol* on a port of its own."""
        await self._world.start(protocol, interface)

    async def play(self, scenario: Any) -> list[str]:
        observer: Any = self._logged_by_twisted
        globalLogPublisher.addObserver(observer)
        try:
            return await super().play(scenario)
        finally:
            globalLogPublisher.removeObserver(observer)

    async def _clear(self) -> None:
        for port in self._ports:
            port.on = {}
            if port.state == "started":
                await _fired(port.itransport.stopListening())
        await super()._clear()
        self._ports.clear()

    def _logged_by_twisted(self, event: Any) -> None:
        failure: Failure | None = event.get("log_failure") or event.get("failure")  # as log.err() has it
        if failure is not None:
            self.note("in Twisted's log:", failure.value)
            traceback.clear_frames(failure.getTracebackObject())


async def _fired(deferred: Any) -> None:
    if deferred is None:
        return
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    deferred.addBoth(lambda result: done.cancelled() or done.set_result(None))
    await done


def _play_on_ours(scenario: PortScenario, combination: Combination, *, natively: bool) -> list[str]:
    with disposable_reactor(combination.reactor) as reactor:
        loop = ReactorEventLoop(reactor, poller_factory=POLLERS[combination.poller])
        world = TwistedPorts(reactor) if natively else AsyncioEndpoints(loop)
        try:
            return Runner(combination.mode, reactor, loop)(lambda: PortStage(loop, world).play(scenario))
        finally:
            loop.close()


@functools.cache
def play_natively(scenario: PortScenario) -> list[str]:
    """The trace of *scenario* on Twisted's own ports."""
    return _play_on_ours(scenario, NATIVE, natively=True)


def play_adapted(scenario: PortScenario, host: Any) -> list[str]:
    """The trace of *scenario* on the endpoints of a loop of *host*, which is `any_loop`'s."""
    if isinstance(host, Combination):
        return _play_on_ours(scenario, host, natively=False)
    loop = host()
    try:
        lines: list[str] = loop.run_until_complete(PortStage(loop, AsyncioEndpoints(loop)).play(scenario))
        return lines
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def play_both(scenario: PortScenario, host: Any, reports: Reports) -> tuple[list[str], list[str]]:
    """The traces of *scenario* on the endpoints of *host*, and on Twisted's ports, which are to be the same."""
    expected = play_natively(scenario)
    played = play_adapted(scenario, host)
    reports.clear()  # they are part of the traces
    return played, expected


class PortScenarios:
    """A collection of scenarios; used as a decorator, it adds one."""

    def __init__(self) -> None:
        self.all: list[PortScenario] = []

    def __call__(self, scenario: PortScenario) -> PortScenario:
        self.all.append(scenario)
        return scenario

    def every(self, test: Callable[..., None]) -> Callable[..., None]:
        """Decorate a test so that it gets each ``scenario``."""
        names = [getattr(scenario, "__name__", "?") for scenario in self.all]
        decorated: Callable[..., None] = pytest.mark.parametrize("scenario", self.all, ids=names)(test)
        return decorated
