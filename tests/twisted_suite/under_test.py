"""
The reactors that Twisted's tests meet, in a process that runs nothing else, and a count of what ran on them.

They are of subclasses, which count how often a reactor is started and go by the name of their base: some of Twisted's
tests look at a reactor's name.
"""

from __future__ import annotations

import dataclasses
import functools
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.application.reactors import installReactor
from twisted.python.reflect import namedAny

if TYPE_CHECKING:
    import asyncio

__all__ = ["CONFIGURATIONS", "Configuration", "Met", "ReactorUnderTest", "met", "set_up"]

# How long asyncio's byte rests between two journeys: long enough that a test that waits does not keep the core busy.
REST_S = 0.005


class Configuration(NamedTuple):
    """
    On what the tests run.

    Attributes:
        name: How it is called.
        reactor: The short name of the reactor, as for ``trial --reactor=``.
        class_name: The full name of its class.
        has_asyncio: Whether each reactor gets a loop of ours, on which something goes on all the time.
    """

    name: str
    reactor: str
    class_name: str
    has_asyncio: bool = False


CONFIGURATIONS = {
    each.name: each
    for each in (
        Configuration("epoll", "epoll", "twisted.internet.epollreactor.EPollReactor"),
        Configuration("txasync", "txasync", "txasync.reactor.SharedEPollReactor"),
        Configuration("txasync with asyncio", "txasync", "txasync.reactor.SharedEPollReactor", has_asyncio=True),
    )
}


@dataclasses.dataclass
class Met:
    """
    What ran in this process since it was last asked.

    Attributes:
        starts: How often a reactor under test was started.
        journeys: How many bytes asyncio sent and received on one.
    """

    starts: int = 0
    journeys: int = 0


met = Met()
_configuration = CONFIGURATIONS["epoll"]


def set_up(configuration: Configuration) -> None:
    """Install the reactor of *configuration* as the process's, as ``trial --reactor=`` does; make more of its kind."""
    global _configuration
    _configuration = configuration
    installReactor(configuration.reactor)
    from twisted.internet import reactor

    expected = namedAny(configuration.class_name)
    if type(reactor) is not expected:
        raise TypeError(f"{configuration.reactor!r} has installed a {type(reactor)!r}, not a {expected!r}")
    reactor.__class__ = _counting(configuration.class_name)
    if configuration.has_asyncio:
        import txasync

        Traffic(txasync.install())


def ReactorUnderTest(case: Any) -> Any:
    """
    Make a reactor: what Twisted's ReactorBuilder finds under the name of a class, and calls as its own method.

    Args:
        case: The test case, which ends what goes on.
    """
    reactor = _counting(_configuration.class_name)()
    if _configuration.has_asyncio:
        import txasync

        loop = txasync.install(reactor)
        # The last is done first.
        case.addCleanup(loop.close)
        case.addCleanup(Traffic(loop).close)
    return reactor


@functools.cache
def _counting(class_name: str) -> Any:
    """The class of that name, whose reactors tell when they start."""
    base: Any = namedAny(class_name)

    class Counting(base):
        def startRunning(self, *args: Any, **kwargs: Any) -> None:
            met.starts += 1
            super().startRunning(*args, **kwargs)

    for attribute in "__name__", "__qualname__", "__module__":
        setattr(Counting, attribute, getattr(base, attribute))
    return Counting


class Traffic:
    """
    A byte that goes from one end of a socket pair to the other again and again, by asyncio, while the reactor runs.

    Args:
        loop: The reactor's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        loop.add_reader(self._near, self._arrived)
        loop.call_soon(self._depart)

    def _depart(self) -> None:
        self._far.send(b"x")

    def _arrived(self) -> None:
        self._near.recv(1)
        met.journeys += 1
        self._loop.call_later(REST_S, self._depart)

    def close(self) -> None:
        """End it, whether the loop is closed or not."""
        self._loop.remove_reader(self._near)
        self._near.close()
        self._far.close()
