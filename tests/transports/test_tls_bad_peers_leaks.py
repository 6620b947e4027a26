"""
What bad TLS peers leave behind: nothing, after a thousand of each, and not even one for the garbage collector.

An ordinary run has the time for twenty of each; ``--bad-peers=1000`` takes the time for a thousand.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from OpenSSL import SSL

from txasync import ReactorEventLoop
from txasync.tls import Engine

from ..conftest import Runner, open_descriptors
from ..tls.contexts import CLIENT_KINDS, SERVER_KINDS
from .tls_peer_contexts import our_client, our_server
from .tls_peer_meetings import Served, meet_server, overheard
from .tls_peers import BAD_CLIENTS, BAD_SERVERS, Row, each_in_its_combination

# So many at once.
BATCH = 50

# Of these, there is at least one for each connection.
KINDS = asyncio.BaseTransport, asyncio.BaseProtocol, Engine, ssl.SSLObject, SSL.Connection


def living() -> collections.Counter[str]:
    """How many objects there are of each class of `KINDS`, collected or not."""
    return collections.Counter(type(each).__name__ for each in gc.get_objects() if issubclass(type(each), KINDS))


def at_work(loop: ReactorEventLoop) -> dict[str, int]:
    """How much there is that *loop* has to do, or to look at; without the reactor, for which it waits at times."""
    poller = loop._services.poller
    reactors_own: Any = getattr(loop.reactor, "_poller", None)
    reactors_fd = reactors_own.fileno() if hasattr(reactors_own, "fileno") else -1
    return {
        "descriptors": len(open_descriptors()),
        "tasks": len(asyncio.all_tasks(loop)),
        "timers": sum(not timer.cancelled() for timer in loop._scheduled),
        "watched": sum(poller.interest(fd) > 0 for fd in range(1024) if fd != reactors_fd),
        "transports": len(loop._sockets.all()) + len(loop._sockets.tls.all()),
    }


@pytest.fixture
def peers_of_each(request: pytest.FixtureRequest) -> int:
    """How many there are to be of each row."""
    number: int = request.config.getoption("--bad-peers")
    return number


async def settled() -> None:
    """Let callbacks run that have been scheduled."""
    for _ in range(10):
        await asyncio.sleep(0)


@each_in_its_combination(("stdlib", "memory", "creator"))
@pytest.mark.timeout(3600)
def test_bad_servers_leave_nothing(kind: str, run: Runner, peers_of_each: int) -> None:
    """However many connections fail, in whatever way, there is as much of everything afterwards as before."""

    async def meet(row: Row, count: int) -> None:
        given = our_client(kind, row.demands)
        await asyncio.gather(*[meet_server(row.script, given, row.demands, row.timeout_s) for _ in range(count)])

    run(lambda: find_leaks(run.loop, BAD_SERVERS, meet, peers_of_each))


@each_in_its_combination(("memory", "stdlib", "options"))
@pytest.mark.timeout(3600)
def test_bad_clients_leave_nothing(kind: str, run: Runner, peers_of_each: int) -> None:
    """However many connections fail, in whatever way, there is as much of everything afterwards as before."""

    async def meet(row: Row, count: int) -> None:
        async with Served(our_server(kind, row.demands), row.timeout_s) as served:
            await served.meet_clients([row.script] * count)

    run(lambda: find_leaks(run.loop, BAD_CLIENTS, meet, peers_of_each))


async def find_leaks(
    loop: ReactorEventLoop, rows: tuple[Row, ...], meet: Callable[[Row, int], Awaitable[None]], peers_of_each: int
) -> None:
    """Fail if there is more of anything when *meet* has met so many peers of each row, or if *loop* was told of any."""
    with overheard(loop) as contexts:
        for row in rows[:4]:
            await meet(row, 1)
        await settled()
        gc.collect()
        before = at_work(loop), living()
        for row in rows:
            for begun in range(0, peers_of_each, BATCH):
                await meet(row, min(BATCH, peers_of_each - begun))
        await settled()
        gc.collect()
        assert (at_work(loop), living()) == before
    assert contexts == []


@each_in_its_combination(CLIENT_KINDS)
def test_a_bad_server_leaves_no_cycle(kind: str, run: Runner) -> None:
    """Without the garbage collector, too, a connection is gone when it is over and its error is forgotten."""

    async def meet(row: Row) -> None:
        await meet_server(row.script, our_client(kind, row.demands), row.demands, row.timeout_s)

    run(lambda: find_cycles(BAD_SERVERS, meet))


@each_in_its_combination(SERVER_KINDS)
def test_a_bad_client_leaves_no_cycle(kind: str, run: Runner) -> None:
    """Without the garbage collector, too, everything of a connection is gone when it is over."""

    async def meet(row: Row) -> None:
        async with Served(our_server(kind, row.demands), row.timeout_s) as served:
            await served.meet_client(row.script)

    run(lambda: find_cycles(BAD_CLIENTS, meet))


async def find_cycles(rows: tuple[Row, ...], meet: Callable[[Row], Awaitable[None]]) -> None:
    """Fail if something is left when *meet* has met any of *rows*."""
    left = {}
    gc.collect()
    gc.disable()
    try:
        before = living()
        for row in rows:
            await meet(row)
            await settled()
            after = living()
            if after != before:
                left[row.name] = dict(after - before)
            before = after
    finally:
        gc.enable()
    assert left == {}
