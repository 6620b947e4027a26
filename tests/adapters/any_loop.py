"""Every loop that Twisted's protocols are tested on, and how these get a server and a client there."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import twisted.internet
from twisted.internet.endpoints import connectProtocol

from txasync import ReactorEventLoop, as_future
from txasync.adapters import LoopClientEndpoint, LoopClock, LoopServerEndpoint, as_asyncio_factory

from ..conftest import POLLERS, Runner, disposable_reactor
from ..transports.combinations import COMBINATIONS, Combination

Perform = Callable[[Callable[[], Awaitable[None]]], None]
"""Runs a coroutine function on a loop of the test's own; it must end in time."""

LIMIT_S = 30.0


@contextlib.contextmanager
def _foreign(loop: asyncio.AbstractEventLoop) -> Iterator[Perform]:
    try:
        yield lambda main: loop.run_until_complete(asyncio.wait_for(main(), LIMIT_S))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@contextlib.contextmanager
def _ours(combination: Combination) -> Iterator[Perform]:
    with disposable_reactor(combination.reactor) as reactor:
        loop = ReactorEventLoop(reactor, poller_factory=POLLERS[combination.poller])
        run = Runner(combination.mode, reactor, loop)
        yield lambda main: run(lambda: asyncio.wait_for(main(), LIMIT_S))
        loop.close()


def _name(host: str | Combination) -> str:
    return host if isinstance(host, str) else "-".join(host)


@pytest.fixture(params=["stock", "uvloop", *COMBINATIONS], ids=_name, scope="session")
def host(request: pytest.FixtureRequest) -> Any:
    """What kind of loop: asyncio's own, uvloop's, and ours in each combination. It is here for `perform`."""
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed: the test extra has it")
        # It keeps a pipe from its first run on; that is not what a test leaves behind.
        first = uvloop.new_event_loop()
        first.run_until_complete(asyncio.sleep(0))
        first.close()
        return uvloop.new_event_loop
    return asyncio.SelectorEventLoop if request.param == "stock" else request.param


@pytest.fixture
def perform(host: Any) -> Iterator[Perform]:
    """Run a coroutine function on a loop of each kind."""
    with _ours(host) if isinstance(host, Combination) else _foreign(host()) as perform:
        yield perform


@pytest.fixture
def install_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """
    Make a `LoopClock` of the running loop the global reactor, until the test ends.

    Some of Twisted asks only the global reactor for timed calls: pull producers of requests do, and SMTP's timeouts.
    ``installReactor()``, which is for programs, would do so until the end of the process.
    """

    def install_clock() -> None:
        clock = LoopClock()
        monkeypatch.setitem(sys.modules, "twisted.internet.reactor", clock)
        monkeypatch.setattr(twisted.internet, "reactor", clock, raising=False)

    return install_clock


@contextlib.asynccontextmanager
async def serving(factory: Any, **options: Any) -> AsyncIterator[int]:
    """Serve *factory* by ``create_server()``; yields the port. At the end, every connection must be gone."""
    server = await asyncio.get_running_loop().create_server(as_asyncio_factory(factory), "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    except BaseException:
        server.close()
        raise
    await _end(server, server.close)


@contextlib.asynccontextmanager
async def listening(factory: Any, **options: Any) -> AsyncIterator[int]:
    """As `serving`, by a `LoopServerEndpoint`."""
    port: Any = await as_future(
        LoopServerEndpoint(asyncio.get_running_loop(), "127.0.0.1", 0, **options).listen(factory)
    )
    try:
        yield port.getHost().port
    except BaseException:
        port.stopListening()
        raise
    await _end(port.server, port.stopListening)


async def _end(server: asyncio.AbstractServer, close: Callable[[], object]) -> None:
    """Close *server*, and wait until its connections are gone."""
    # Before Python 3.12, and on uvloop, one who asks after the server was closed does not wait for connections.
    closed = asyncio.ensure_future(server.wait_closed())
    await asyncio.sleep(0)
    close()
    await closed


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """asyncio's own client, by a connection to *port*."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def connect(port: int, protocol: Any, **options: Any) -> Any:
    """Connect *protocol*, one of Twisted's, to *port* by a `LoopClientEndpoint`."""
    endpoint = LoopClientEndpoint(asyncio.get_running_loop(), "127.0.0.1", port, **options)
    return await as_future(connectProtocol(endpoint, protocol))
