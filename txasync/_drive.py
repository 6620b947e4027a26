"""
The loop waits, and the reactor is one of the descriptors that it waits for.

A poll that finds something on each side costs two system calls and an iteration of the reactor, about as much as eight
messages. Where the reactor is a stock ``EPollReactor``, its epoll object goes into the loop's own kernel set instead:
what is asyncio's comes straight from one ``epoll_wait``, and what is Twisted's takes the second one. It halves the
cost of a message where each one is waited for (docs/benchmarks). There are two ways to come there:

- A run that the loop begins is driven from its beginning to its end (`Drive.run`).
- In a run that somebody else began, the loop goes on waiting inside the reactor's call (`Drive.linger`) for as long as
  the reactor has nothing to do. It returns to the reactor's main loop as soon as a descriptor of the reactor's is
  ready, a ``DelayedCall`` is due, or a call from a thread waits.

Only for a stock ``EPollReactor``: another might do more in its main loop than Twisted's.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any

from twisted.logger import Logger

from ._ticker import Ticker
from .polling import NestedPoller, Poller, SharedPoller

__all__ = ["Drive", "drive_of"]

_log = Logger()

# To change places with the reactor and back costs as much as a few returns to it. After having been called back so
# soon, keep to the reactor's way for a while.
FEW_ROUNDS = 4
CALLS_BEFORE_THE_NEXT_TRY = 16


def drive_of(reactor: Any, poller: Poller, ticker: Ticker) -> Drive | None:
    """
    What drives *reactor* from *ticker*, if it is one that can be driven.

    A reactor that shares its set with *poller* needs nothing beside: it has *ticker* wait by itself, from now on.
    """
    if isinstance(poller, SharedPoller):
        poller.driver = ticker
        ticker.hand_over()
    # Not imported here: that fails where there is no epoll.
    epollreactor: Any = sys.modules.get("twisted.internet.epollreactor")
    if epollreactor and type(reactor) is epollreactor.EPollReactor and isinstance(poller, NestedPoller):
        return Drive(reactor, poller, ticker)
    return None


class Drive:
    """
    Waits for the loop and for *reactor* at once.

    Args:
        reactor: A stock ``EPollReactor``.
        poller: The loop's poller.
        ticker: The loop's ticker.
    """

    def __init__(self, reactor: Any, poller: NestedPoller, ticker: Ticker) -> None:
        self._reactor = reactor
        self._poller = poller
        self._ticker = ticker
        self._reactor_is_ready = False
        self._calls_to_skip = 0

    def run(self) -> None:
        """What ``reactor.run(installSignalHandlers=False)`` does, until ``crash()`` or the end of its shutdown."""
        reactor = self._reactor
        reactor.startRunning(installSignalHandlers=False)
        with self._changed_places():
            while reactor._started:
                self._ticker.drive(self._reactors_turn)
                try:
                    self._iterate_reactor()
                except Exception:
                    _log.failure("Main loop error")

    def linger(self) -> None:
        """
        Called by the reactor, where the loop has nothing more to do: wait here until the reactor has.

        That is for the reactor's main loop only. An ``iterate()`` is to return.
        """
        if self._calls_to_skip:
            self._calls_to_skip -= 1
            return
        if not self._ticker.asleep or self._reactors_turn() == 0 or not self._is_in_main_loop():
            return
        if self._reactor.threadCallQueue:
            return  # it has been woken up, in this iteration
        with self._changed_places():
            rounds = self._ticker.drive(self._reactors_turn)
        self._reactor_is_ready = False
        if rounds < FEW_ROUNDS:
            self._calls_to_skip = CALLS_BEFORE_THE_NEXT_TRY

    @contextlib.contextmanager
    def _changed_places(self) -> Iterator[None]:
        reactor_fd = self._reactor._poller.fileno()
        self._poller.host(reactor_fd, self._note_reactor)
        self._ticker.hand_over()
        try:
            yield
        finally:
            self._poller.unhost(reactor_fd)
            self._ticker.take_back()

    def _note_reactor(self) -> None:
        self._reactor_is_ready = True

    def _reactors_turn(self) -> float | None:
        """In how many seconds the reactor has something to do; 0 for now, None for never."""
        reactor = self._reactor
        # Calls from threads wake the reactor up, which makes it ready.
        if self._reactor_is_ready or reactor._justStopped or not reactor.running:
            return 0.0
        # The reactor would find out by itself that it has no calls, for the price of half a message.
        if reactor._newTimedCalls or reactor._pendingTimedCalls:
            timeout_s: float | None = reactor.timeout()
            return timeout_s
        return None

    def _is_in_main_loop(self) -> bool:
        """Whether the iteration of the reactor that calls us is one of its main loop's."""
        stock = type(self._reactor)
        frame = inspect.currentframe()
        while frame is not None and frame.f_code is not stock.doPoll.__code__:
            frame = frame.f_back
        caller = None if frame is None else frame.f_back
        return caller is not None and caller.f_code is stock.mainLoop.__code__

    def _iterate_reactor(self) -> None:
        reactor = self._reactor
        # In this order: to be woken up is forgotten by the one, and what for is done by the other.
        if self._reactor_is_ready:
            self._reactor_is_ready = False
            reactor.doIteration(0)
        if reactor._started:
            reactor.runUntilCurrent()
