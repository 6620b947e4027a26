"""Runs of services: on loops of each combination, as twistd runs them, and on a reactor that stands on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from textwrap import dedent
from typing import Any, TypeVar

import pytest
from twisted.application.service import IService, MultiService
from twisted.internet.testing import MemoryReactorClock
from zope.interface.verify import verifyObject

import txasync

from ..adapters.endpoint_ways import perform
from ..test_running import in_child
from ..transports.conftest import combination, mode, poller_factory, reactor

__all__ = [
    "clock",
    "combination",
    "mode",
    "on_asyncioreactor",
    "perform",
    "poller_factory",
    "reactor",
    "run_as_twistd",
    "tree_of",
]

T = TypeVar("T")


@pytest.fixture
def clock() -> Iterator[Any]:
    """A fake reactor, whose time is moved by hand, with a loop."""
    clock: Any = MemoryReactorClock()
    loop = txasync.install(clock)
    yield clock
    loop.close()


def tree_of(*services: Any) -> Any:
    """A MultiService of *services*."""
    parent = MultiService()
    for service in services:
        service.setServiceParent(parent)
    return parent


def run_as_twistd(reactor: Any, service: Any, main: Callable[[], Awaitable[T]]) -> T:
    """Start *service* before *reactor* runs, run *main*, and stop the service when the reactor is about to stop."""
    assert verifyObject(IService, service)
    service.privilegedStartService()
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    running: list[asyncio.Task[T]] = []

    async def run() -> T:
        return await main()

    def start() -> None:
        running.append(txasync.install(reactor).create_task(run()))
        running[0].add_done_callback(lambda task: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run(installSignalHandlers=False)
    return running[0].result()


def on_asyncioreactor(program: str) -> str:
    """What *program* prints, a coroutine function ``main``, in a process whose reactor stands on asyncio's own loop."""
    return in_child(
        """
import asyncio
from twisted.internet import asyncioreactor
host = asyncio.new_event_loop()
asyncioreactor.install(host)
from twisted.application.service import MultiService
from twisted.internet import reactor
import txasync
from txasync.application import ClientService, ServerService, TaskService
"""
        + dedent(program)
        + """
tasks = []
def start():
    tasks.append(txasync.install().create_task(main()))
    tasks[0].add_done_callback(lambda task: reactor.stop())
reactor.callWhenRunning(start)
reactor.run()
host.close()
tasks[0].result()
""",
        # Twisted leaves a file open that it keeps in reserve.
        warnings="error::DeprecationWarning",
    )
