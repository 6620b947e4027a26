"""Reactors: the process's own, one for a loop alone, and what to know of either."""

from __future__ import annotations

import select
import sys
import threading
from typing import Any

from twisted.python import threadable

__all__ = [
    "check_private_kind",
    "dispose_private_reactor",
    "host_loop",
    "installed_reactor",
    "is_fake",
    "may_use_installed_reactor",
    "new_private_reactor",
    "release_threads",
    "stop_was_called",
    "was_stopped",
]

# The best is first; and what the select module has where there is such a reactor.
_PRIVATE_KINDS = {"txasync": "epoll", "epoll": "epoll", "poll": "poll", "select": "select"}


def installed_reactor() -> Any | None:
    """The process's reactor, if one is installed."""
    return sys.modules.get("twisted.internet.reactor")


def is_fake(reactor: Any) -> bool:
    """Whether *reactor* has a clock that is moved by hand, as MemoryReactorClock has."""
    return callable(getattr(reactor, "advance", None))


def may_use_installed_reactor() -> bool:
    """Whether this thread may run the process's reactor, installing one if there is none, or is running it."""
    reactor = installed_reactor()
    if reactor is not None and reactor.running:
        return bool(threadable.isInIOThread())
    return threading.current_thread() is threading.main_thread()


def stop_was_called(reactor: Any) -> bool:
    """Whether somebody has called ``reactor.stop()``; the reactor may not have got round to it yet."""
    return bool(getattr(reactor, "_startedBefore", False))


def was_stopped(reactor: Any) -> bool:
    """Whether *reactor* was ended by ``reactor.stop()``, after which it never runs again."""
    return stop_was_called(reactor) and not reactor.running


def host_loop(reactor: Any) -> Any | None:
    """The asyncio loop that *reactor* itself stands on, if it is an AsyncioSelectorReactor."""
    asyncioreactor = sys.modules.get("twisted.internet.asyncioreactor")
    if asyncioreactor is None or not isinstance(reactor, asyncioreactor.AsyncioSelectorReactor):
        return None
    return reactor._asyncioEventloop


def _private_kinds() -> list[str]:
    return [kind for kind, needed in _PRIVATE_KINDS.items() if hasattr(select, needed)]


def check_private_kind(kind: str) -> None:
    """
    Raise an error unless `new_private_reactor` can make a reactor of this *kind* here.

    Raises:
        ValueError: It cannot. The message is one line and says of which it can.
    """
    kinds = _private_kinds()
    if kind not in kinds:
        raise ValueError(f"no private reactor of the kind {kind!r} can be made here; known are {', '.join(kinds)}")


def new_private_reactor(kind: str | None = None) -> Any:
    """
    Make a reactor that is not the process's: the best of txasync, epoll, poll and select, or one of that *kind*.

    It does not become the process's I/O thread when it runs, whose ``isInIOThread()`` other code relies on.

    Raises:
        ValueError: There is no such reactor here, see `check_private_kind`.
    """
    if kind is None:
        kind = _private_kinds()[0]
    check_private_kind(kind)
    reactor: Any
    if kind == "txasync":
        from .reactor import SharedEPollReactor

        reactor = SharedEPollReactor()
    elif kind == "epoll":
        from twisted.internet.epollreactor import EPollReactor

        reactor = EPollReactor()
    elif kind == "poll":
        from twisted.internet.pollreactor import PollReactor

        reactor = PollReactor()
    else:
        from twisted.internet.selectreactor import SelectReactor

        reactor = SelectReactor()
    reactor._registerAsIOThread = False
    return reactor


def release_threads(reactor: Any) -> None:
    """
    End *reactor*'s thread pool, if it has one; it makes another when it is asked for.

    The pool's idle threads would keep the process from exiting, and without ``reactor.stop()`` nobody else ends them.
    """
    if getattr(reactor, "threadpool", None) is not None:
        reactor._stopThreadPool()


def dispose_private_reactor(reactor: Any) -> None:
    """Give back what *reactor*, from `new_private_reactor`, holds: its descriptors."""
    for reader in list(reactor._internalReaders):
        reactor._removeInternalReader(reader)
        reader.connectionLost(None)
    poller: Any = getattr(reactor, "_poller", None)
    if hasattr(poller, "close"):
        poller.close()
