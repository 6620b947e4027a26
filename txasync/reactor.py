"""
A reactor for both worlds: an epoll reactor that waits for Twisted's descriptors and asyncio's alike.

``twistd --reactor=txasync``, ``trial --reactor=txasync``, or, before anything imports ``twisted.internet.reactor``::

    import txasync.reactor

    txasync.reactor.install()
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IWriteDescriptor
from twisted.internet.main import installReactor
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python import context, log

from .polling import ReactorsEvent, SharedSet

if not hasattr(select, "epoll"):  # pragma: no cover  # not Linux
    raise ImportError(
        "txasync.reactor needs epoll, which this platform has not: choose another of Twisted's reactors (kqueue, poll, "
        "select), on any of which txasync.install() works"
    )

from twisted.internet.epollreactor import EPollReactor

__all__ = ["SharedEPollReactor", "install"]

# Under the name that the stock main loop logs by.
_logging_errors = Logger(namespace=ReactorBase.__module__).failureHandler("Unexpected error in main loop")


class SharedEPollReactor(EPollReactor):
    """
    An ``EPollReactor`` whose epoll object is the asyncio loop's as well, so that one ``epoll_wait`` serves both.

    To Twisted it is an ``EPollReactor`` like the stock one, at a lower price: a TCP or UNIX connection that has
    something to send tries that before the next poll, and is watched only for what is left.

    Attributes:
        shared_set: The epoll object, for the loop's poller.

    Source:
        ``twisted.internet.interfaces.IReactorCore``, ``IReactorFDSet``.
    """

    def __init__(self) -> None:
        super().__init__()
        own = {fd: select.EPOLLIN for fd in self._reads}
        self.shared_set = SharedSet(self._poller, own, self._selectables, self._lose)
        self._poller = self.shared_set.reactors
        # Connections that have something to send, and are not watched for that; and those that are just being tried.
        self._unsent: dict[Any, None] = {}
        self._tried: set[Any] = set()

    def _lose(self, fd: int) -> None:
        """*fd* is another file by now, which is not Twisted's."""
        del self._selectables[fd]
        self._reads.discard(fd)
        self._writes.discard(fd)

    # Waiting

    def mainLoop(self) -> None:
        """Twisted's main loop, in which the loop's rounds follow on each other while Twisted has nothing to do."""
        log_context = _LogContext()
        while self._started:
            with _logging_errors:
                while self._started:
                    if self._has_calls() or self._justStopped:
                        self.runUntilCurrent()
                    self._send(log_context)
                    poller = self.shared_set.poller
                    if poller is not None and poller.driver is not None and poller.driver.drive(self._until_own_turn):
                        self._serve(poller.take_reactors_events(), log_context)
                    else:
                        self._serve(self.shared_set.poll_for_reactor(self._until_own_turn()), log_context)
        super().mainLoop()  # it is over, and says so

    def doIteration(self, timeout: float | None) -> None:
        """Wait *timeout* seconds at most (None: for ever) for either party, and serve what is ready."""
        log_context = _LogContext()
        if self._unsent:
            self._send(log_context)
            timeout = 0.0  # who can write ends the wait on any reactor
        poller = self.shared_set.poller
        if poller is not None and poller.driver is not None and poller.driver.iterate(timeout):
            # There may have been several rounds, each of which has found the same. Who is ready once may block if it is
            # called twice.
            events = {fd: (selectable, fd, event) for selectable, fd, event in poller.take_reactors_events()}
            self._serve(list(events.values()), log_context)
        else:
            self._serve(self.shared_set.poll_for_reactor(timeout), log_context)

    doPoll = doIteration

    def _until_own_turn(self) -> float | None:
        """In how many seconds Twisted has something to do; 0 for now, None for never."""
        poller = self.shared_set.poller
        if self._unsent or (poller is not None and poller.reactors_events) or self._justStopped or not self.running:
            return 0.0
        if self._newTimedCalls or self._pendingTimedCalls:
            timeout_s: float | None = self.timeout()
            return timeout_s
        return None

    def _has_calls(self) -> bool:
        """Whether there are calls to be made, now or later: to look at them all costs as much as half a message."""
        return bool(self._pendingTimedCalls or self._newTimedCalls or self.threadCallQueue)

    # Twisted's descriptors

    def _serve(self, events: list[ReactorsEvent], log_context: _LogContext) -> None:
        selectables = self._selectables
        for selectable, fd, event in events:
            # What was closed since it was found ready may have a successor of the same number.
            if selectables.get(fd) is selectable:
                log_context.call(selectable, self._doReadOrWrite, selectable, fd, event)

    def _send(self, log_context: _LogContext) -> None:
        """Let each connection that has something to send try it once; watch those that have something left."""
        if not self._unsent:
            return
        for connection in list(self._unsent):
            if connection in self._unsent:
                del self._unsent[connection]
                if connection.disconnecting:
                    # It is closed when all is sent. What there is to read comes first, as on any reactor.
                    super().addWriter(connection)
                else:
                    log_context.call(connection, self._try_to_send, connection)

    def _try_to_send(self, connection: Any) -> None:
        self._tried.add(connection)
        why: Any
        try:
            why = connection.doWrite()
        except BaseException as error:
            log.err()
            why = error
        has_more = connection in self._tried
        self._tried.discard(connection)
        if why:
            self._lose_connection(connection, why)
        elif has_more:
            super().addWriter(connection)

    def _lose_connection(self, connection: Any, why: Any) -> None:
        """
        Let *connection*, which cannot write any more, read what is left, and be lost.

        In this order, as on a stock reactor, which reads and writes at one event. To wait for that event would give
        another reason: the failing attempt has taken the error from the socket, which looks from now on as if it had
        ended in order.
        """
        try:
            if connection.fileno() in self._reads:
                connection.doRead()
        except BaseException as error:
            log.err()
            why = error
        self._disconnectSelectable(connection, why, False)

    def addWriter(self, writer: IWriteDescriptor) -> None:
        if isinstance(writer, Connection) and writer.connected:
            if writer not in self._tried and writer.fileno() not in self._writes:
                self._unsent[writer] = None
        else:
            super().addWriter(writer)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        if writer in self._unsent:
            del self._unsent[writer]
        elif writer in self._tried:
            self._tried.discard(writer)
        else:
            super().removeWriter(writer)

    def getWriters(self) -> list[IWriteDescriptor]:
        return [*super().getWriters(), *self._unsent, *self._tried]

    def removeAll(self) -> list[Any]:
        for connection in {*self._unsent, *self._tried}:
            super().addWriter(connection)
        self._unsent.clear()
        self._tried.clear()
        removed: list[Any] = super().removeAll()
        return removed


class _LogContext:
    """What ``log.callWithLogger()`` does, for many selectables, under what is the context now."""

    def __init__(self) -> None:
        self._contexts = context.theContextTracker.currentContext().contexts
        self._outer = context.get(log.ILogContext)

    def call(self, selectable: Any, what: Callable[..., object], *args: Any) -> None:
        """Call *what* under the log prefix of *selectable*, and log what it raises."""
        try:
            prefix = selectable.logPrefix()
        except KeyboardInterrupt:
            raise
        except BaseException:
            prefix = "(buggy logPrefix method)"
            log.err(system=prefix)
        self._contexts.append({log.ILogContext: {**self._outer, "system": prefix}})
        try:
            what(*args)
        except KeyboardInterrupt:
            self._contexts.pop()
            raise
        except BaseException:
            self._contexts.pop()
            log.err(system=prefix)
        else:
            self._contexts.pop()


def install() -> None:
    """
    Make a `SharedEPollReactor` the process's reactor.

    Raises:
        twisted.internet.error.ReactorAlreadyInstalledError: There is one already.

    Context:
        Before anything imports ``twisted.internet.reactor``.

    Source:
        ``twisted.internet.main.installReactor``.
    """
    installReactor(SharedEPollReactor())
