"""
Readiness: how file descriptors reach the reactor.

A `Poller` maps a file descriptor to plain callables and sits in a reactor that does the waiting. `for_reactor` chooses
its form. Nothing here knows of asyncio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorFDSet

from ._descriptor import PerDescriptorPoller
from ._kernel import READ, WRITE, nestable_set_class
from ._nested import NestedPoller
from ._poller import Callback, Poller
from ._reactor_readers import InternalReaders
from ._selector import PollerSelector
from ._shared import ReactorsEvent, SharedPoller, SharedSet

__all__ = [
    "READ",
    "WRITE",
    "Callback",
    "InternalReaders",
    "NestedPoller",
    "PerDescriptorPoller",
    "Poller",
    "PollerFactory",
    "PollerSelector",
    "ReactorsEvent",
    "SharedPoller",
    "SharedSet",
    "for_reactor",
]

PollerFactory = Callable[[Any, Callable[[], None]], Poller]
"""Makes a poller, given a reactor and what that is to call. `for_reactor` is one, and so is each poller class."""


def for_reactor(reactor: Any, on_ready: Callable[[], None]) -> Poller:
    """
    Make the poller that suits *reactor*.

    It is shared where the reactor shares, nested where the platform's poll object can be, else per descriptor.

    Args:
        reactor: Any ``IReactorFDSet``.
        on_ready: Called by the reactor, in its thread, when a descriptor is ready; it should call `Poller.collect` and
            `Poller.dispatch`.

    Raises:
        TypeError: *reactor* cannot watch file descriptors.

    Source:
        ``twisted.internet.interfaces.IReactorFDSet``.
    """
    if not IReactorFDSet.providedBy(reactor):
        raise TypeError(
            f"txasync needs a reactor that watches file descriptors (IReactorFDSet); got {reactor!r}, which does not: "
            f"use one of Twisted's epoll, poll, select, kqueue or gi reactors, or MemoryReactorClock in tests"
        )
    sharing: Any = reactor
    if isinstance(getattr(sharing, "shared_set", None), SharedSet):
        return SharedPoller(sharing, on_ready)
    if nestable_set_class() is None:  # pragma: no cover  # neither Linux nor a BSD
        return PerDescriptorPoller(reactor, on_ready)
    return NestedPoller(reactor, on_ready)
