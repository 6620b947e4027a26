"""
A run in which the loop drives the reactor, rather than the reactor the loop.

A reactor that a loop begins to run itself need not do the waiting. Here the loop waits, in its own kernel set, and the
reactor's epoll object is one more descriptor in that set: what is asyncio's comes straight from one ``epoll_wait``, and
what is Twisted's takes a second one, as asyncio's does in a run of the reactor's own. It halves the cost of a message
where each one is waited for (docs/benchmarks).

Only for a stock ``EPollReactor``: another might do more in its main loop than Twisted's.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger

from ._ticker import Ticker
from .polling import NestedPoller, Poller

__all__ = ["Drive", "drive_of"]

_log = Logger()


def drive_of(reactor: Any, poller: Poller, ticker: Ticker) -> Drive | None:
    """What drives *reactor* from *ticker*, if it is one that can be driven."""
    if type(reactor) is EPollReactor and isinstance(poller, NestedPoller):
        return Drive(reactor, poller, ticker)
    return None


class Drive:
    """
    Runs *reactor* from *ticker*.

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

    def run(self) -> None:
        """What ``reactor.run(installSignalHandlers=False)`` does, until ``crash()`` or the end of its shutdown."""
        reactor = self._reactor
        reactor.startRunning(installSignalHandlers=False)
        self._poller.host(reactor._poller.fileno(), self._note_reactor)
        self._ticker.driven = True
        try:
            while reactor._started:
                try:
                    self._iterate()
                except Exception:
                    _log.failure("Main loop error")
        finally:
            self._ticker.driven = False
            self._poller.unhost(reactor._poller.fileno())

    def _note_reactor(self) -> None:
        self._reactor_is_ready = True

    def _iterate(self) -> None:
        reactor = self._reactor
        drive = self._ticker.drive
        # The loop may have been stopped before it ran.
        drive(0.0)
        while reactor._started:
            # The reactor would find out by itself that it has nothing to do, for the price of half a message.
            timeout_s = reactor.timeout() if reactor._newTimedCalls or reactor._pendingTimedCalls else None
            if timeout_s == 0 or reactor.threadCallQueue or reactor._justStopped:
                reactor.runUntilCurrent()
                timeout_s = 0.0
            if reactor._started:
                drive(timeout_s if reactor.running else 0.0)
            if self._reactor_is_ready:
                self._reactor_is_ready = False
                reactor.doIteration(0)
