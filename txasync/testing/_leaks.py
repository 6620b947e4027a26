"""The check that a test leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from .. import _loops, _reactors
from ._holdings import Holding, holdings, holdings_of_reactor
from ._logged_errors import LoggedError, LoggedErrors

__all__ = ["LeakCheck"]

_THREADS_END_WITHIN_S = 2.0


class LeakCheck:
    """
    Sees what a test leaves behind: the value of the pytest fixture ``txasync_no_leaks``, which fails such a test.

    That is each of these that was not there when the test began: an open descriptor; a thread; an open loop of ours, or
    a running one; a DelayedCall, reader or writer in the process's reactor, or in the one that ``txasync_reactor``
    gave; a task that still waits on a loop that a fixture made, when that fixture is about to end; an error that nobody
    handled, in the log of asyncio or of Twisted; a ResourceWarning.
    """

    def __init__(self) -> None:
        self._errors = LoggedErrors()
        self._warnings: list[str] = []
        self._waiting: dict[object, Holding] = {}
        self._known: dict[object, Holding] = {}
        self._seen_loops: dict[object, Any] = {}
        self._running: object = None

    def flush_errors(self, *types: type[BaseException]) -> list[LoggedError]:
        """
        Return the errors that were logged until now, and forget them: for a test that expects some.

        Args:
            types: The exceptions meant, subclasses included. Default: all.

        Source:
            Twisted, ``twisted.trial.unittest.TestCase.flushLoggedErrors()``.
        """
        return self._errors.flush(*types)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """In a ``with`` block, whatever comes up is the test's. For the plug-in."""
        self._running = asyncio.events._get_running_loop()
        self.new_loops()
        self._errors.start()
        with self._hearing_resource_warnings():
            self._known = _by_key(holdings())
            try:
                yield
            finally:
                gc.collect()  # what nobody has any more, and warns of it or has failed, is to do so now
                self._errors.stop()

    @contextlib.contextmanager
    def setting_up_what_lasts(self) -> Iterator[None]:
        """In a ``with`` block, what comes up is a module's or the session's, and lasts. For the plug-in."""
        before = holdings()
        try:
            yield
        finally:
            self._known |= _new(before)
            self.new_loops()

    def new_loops(self) -> list[Any]:
        """The loops of ours that were made since this was called last. For the plug-in."""
        new = [loop for loop in _loops.open_loops() if id(loop) not in self._seen_loops]
        self._seen_loops.update((id(loop), loop) for loop in new)
        return new

    def look_at_loop(self, loop: Any) -> None:
        """*loop*, which is ours, is about to be ended: note what still waits on it. For the plug-in."""
        if loop.is_closed():
            return
        for task in asyncio.all_tasks(loop):
            self._waiting[id(task)] = Holding(id(task), f"task: {task!r}", task)
        if loop.reactor is not _reactors.installed_reactor():
            self.look_at_reactor(loop.reactor)

    def look_at_reactor(self, reactor: Any) -> None:
        """*reactor* is about to be disposed of: note what still waits in it. For the plug-in."""
        self._waiting |= _by_key(holdings_of_reactor(reactor))

    def left(self) -> list[str]:
        """What the test has left behind, a description of each. For the plug-in, after `watching`."""
        _let_threads_end(self._known)
        found = [*_new(self._known.values()).values(), *self._waiting.values()]
        descriptions = [holding.description for holding in found]
        running = asyncio.events._get_running_loop()
        if running is not None and running is not self._running:
            descriptions.append(f"running loop: {running!r}")
        descriptions += [f"unhandled error: {error.traceback.rstrip()}" for error in self._errors.flush()]
        return descriptions + self._warnings

    @contextlib.contextmanager
    def _hearing_resource_warnings(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("always", ResourceWarning)
            show_others = warnings.showwarning

            def show(message: Any, category: Any, filename: str, lineno: int, *rest: Any, **more: Any) -> None:
                if issubclass(category, ResourceWarning):
                    self._warnings.append(f"{category.__name__}: {message} ({filename}:{lineno})")
                else:
                    show_others(message, category, filename, lineno, *rest, **more)

            warnings.showwarning = show
            yield


def _by_key(found: Iterable[Holding]) -> dict[object, Holding]:
    return {holding.key: holding for holding in found}


def _new(known: Iterable[Holding]) -> dict[object, Holding]:
    """What is held now and is not *known*."""
    before = _by_key(known)
    return {key: holding for key, holding in _by_key(holdings()).items() if key not in before}


def _let_threads_end(known: dict[object, Holding]) -> None:
    """Wait for the threads that are not *known* and that may be about to end; what they hold goes with them."""
    deadline_s = time.monotonic() + _THREADS_END_WITHIN_S
    for thread in threading.enumerate():
        if id(thread) not in known:
            thread.join(max(0.0, deadline_s - time.monotonic()))
