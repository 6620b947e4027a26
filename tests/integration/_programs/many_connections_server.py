"""
An echo server whose clients are connected to asyncio's transports and to Twisted's own, in one process on one reactor.

    python -m tests.integration._programs.many_connections_server KIND

KIND is one of `KINDS`. Each connection is greeted with one byte, so that its client knows that it was accepted. The
first line that is printed has the ports, by kind of transport. When the last connection is lost the server ends, and
prints how late the calls came, of asyncio's and of Twisted's, that were due every 10 ms while the server was loaded.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

import txasync

PERIOD_S = 0.01
GREETING = b"."
BACKLOG = 1000

# What asyncio's own transports receive into. glibc maps and unmaps memory for each message until such a block has been
# freed whole, as it is at the end of any connection: no server stays in that state for long.
bytes(256 * 1024)


class Load:
    """
    What the server has to do: it begins with the first message, and ends when the first connection is lost.

    Args:
        began: Called when it begins.
        all_lost: Called when the last connection is lost.

    Attributes:
        served_at: When each message was served, in seconds.
        is_over: Whether it has ended.
    """

    def __init__(self, *, began: Callable[[], object], all_lost: Callable[[], object]) -> None:
        self._began = began
        self._all_lost = all_lost
        self._connections = 0
        self.served_at: list[float] = []
        self.is_over = False

    def connected(self) -> None:
        """There is one more connection."""
        self._connections += 1

    def serving(self) -> None:
        """There is a message."""
        self.served_at.append(time.monotonic())
        if len(self.served_at) == 1:
            self._began()

    def lost(self) -> None:
        """There is one connection less."""
        self.is_over = True
        self._connections -= 1
        if not self._connections:
            self._all_lost()


class Timer:
    """
    A call that is due again 10 ms after it came.

    Args:
        load: For as long as this lasts.
        call_later: Calls something after a number of seconds.
    """

    def __init__(self, load: Load, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._load = load
        self._call_later = call_later
        self._due = 0.0
        self._late_s: list[float] = []
        self._late_messages: list[int] = []

    def start(self) -> None:
        """Let it be due in 10 ms."""
        self._due = time.monotonic() + PERIOD_S
        self._call_later(PERIOD_S, self._come)

    def _come(self) -> None:
        if self._load.is_over:
            return
        served_at = self._load.served_at
        self._late_s.append(time.monotonic() - self._due)
        self._late_messages.append(len(served_at) - bisect_right(served_at, self._due))
        self.start()

    def lateness(self) -> dict[str, Any]:
        """How late each call came: in seconds, and in messages that were served when it was due and had not come."""
        return {"s": self._late_s, "messages": self._late_messages}


class AsyncioEcho(asyncio.Protocol):
    """On asyncio's transports."""

    def __init__(self, load: Load) -> None:
        self._load = load

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._load.connected()
        transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        """Echo."""
        self._load.serving()
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so."""
        self._load.lost()


class TwistedEcho(Protocol):
    """On Twisted's own."""

    transport: ITransport

    def __init__(self, load: Load) -> None:
        self._load = load

    def connectionMade(self) -> None:
        """Greet."""
        self._load.connected()
        self.transport.write(GREETING)

    def dataReceived(self, data: bytes) -> None:
        """Echo."""
        self._load.serving()
        self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say so."""
        self._load.lost()


async def serve(reactor: Any) -> dict[str, Any]:
    """Serve until the last connection is lost, on asyncio's transports alone if *reactor* is None; lateness by kind."""
    loop = asyncio.get_running_loop()
    all_are_lost = asyncio.Event()
    load = Load(began=lambda: [timer.start() for timer in timers.values()], all_lost=all_are_lost.set)
    timers = {"asyncio": Timer(load, loop.call_later)}
    ports = {}
    if reactor is not None:
        timers["twisted"] = Timer(load, reactor.callLater)
        factory = Factory.forProtocol(lambda: TwistedEcho(load))
        port = reactor.listenTCP(0, factory, BACKLOG, "127.0.0.1")
        ports["twisted"] = port.getHost().port
    server = await loop.create_server(lambda: AsyncioEcho(load), "127.0.0.1", 0, backlog=BACKLOG)
    ports["asyncio"] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await all_are_lost.wait()
    server.close()
    if reactor is not None:
        await txasync.as_future(port.stopListening())
    return {kind: timer.lateness() for kind, timer in timers.items()}


def installed(module: str) -> Any:
    """The process's reactor, which *module* has installed."""
    importlib.import_module(module).install()
    from twisted.internet import reactor

    assert type(reactor).__module__ == module
    return reactor


def reactor_first(module: str) -> dict[str, Any]:
    """The program runs the reactor, and asyncio is installed on it."""
    reactor = installed(module)
    task = txasync.install().create_task(serve(reactor))
    task.add_done_callback(lambda task: reactor.stop())
    reactor.run()
    return task.result()


def asyncio_first(module: str) -> dict[str, Any]:
    """The loop runs the reactor."""
    return txasync.run(serve(installed(module)))


KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "asyncio": lambda: asyncio.run(serve(None)),
    "epoll": lambda: reactor_first("twisted.internet.epollreactor"),
    "epoll-asyncio-first": lambda: asyncio_first("twisted.internet.epollreactor"),
    "select": lambda: reactor_first("twisted.internet.selectreactor"),
    "txasync": lambda: reactor_first("txasync.reactor"),
    "txasync-asyncio-first": lambda: asyncio_first("txasync.reactor"),
}


if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]]()))
