"""
One round of the loop: asyncio's iteration, with a poller that calls the ready descriptors' callables itself.

The order is asyncio's: what was ready when the round began, then the descriptors, then the timers that are due. What
these add runs in the next round. A descriptor costs no ``Handle`` and no place in the queue; in a round in which
nothing else is ready, its callable is called straight away.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import heapq
import selectors
from typing import Any

from ._alarm import LONGEST_SLEEP_S
from ._private import SelectorEventLoop
from .polling import Callback, Poller

__all__ = ["Rounds"]

base_events: Any = asyncio.base_events

# As asyncio: cancelled timers leave the heap when they are many, and more than half.
MANY_TIMERS = 100


class Rounds:
    """
    Runs *loop*, whose descriptors are *poller*'s.

    Args:
        loop: The loop: its queue, its timers, its debug mode.
        poller: Its poller.
        fresh: The handles of descriptors that are added. One that took the place of another since the round's
            descriptors were collected is not to run yet; this set is emptied for each round.

    Attributes:
        waiting: Whether a round waits for a descriptor.
    """

    def __init__(self, loop: SelectorEventLoop, poller: Poller, fresh: set[asyncio.Handle]) -> None:
        self._loop = loop
        self._fresh = fresh
        self._ready = loop._ready
        self._timers: list[Any] = loop._scheduled
        self._poller = poller
        self._collect = poller.collect
        self._turn_of_descriptors = asyncio.Handle(self._dispatch, (), loop, None)
        self._slow_was_told = False
        self.waiting = False

    def run(self, longest_sleep_s: float | None = 0.0) -> bool:
        """
        Run one round.

        Args:
            longest_sleep_s: If nothing is ready, how many seconds to wait for that at most; None for ever.

        Returns:
            Whether descriptors were ready.
        """
        ready = self._ready
        timers = self._timers
        if self._fresh:
            self._fresh.clear()
        if longest_sleep_s == 0 or ready:
            found = self._collect(0.0)
        else:
            if timers:
                longest_sleep_s = self._until_first_timer(longest_sleep_s)
            # If it is left set by what a signal handler raises, that does no harm.
            self.waiting = True
            found = self._collect(longest_sleep_s)
            self.waiting = False
        due = self._take_due_timers() if timers else None
        if found:
            if not ready and not due:
                self._dispatch()
                return True
            ready.append(self._turn_of_descriptors)
        if due:
            ready.extend(due)
        if not ready:
            return False
        if self._loop._debug:
            self._run_ready_timed()
            return found
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()
        # This frame may live on in the traceback of an exception; the handle is not to live with it.
        del handle
        return found

    def _dispatch(self) -> None:
        try:
            self._poller.dispatch(self._call_timed if self._loop._debug else None)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            # What is left of the batch is told again.
            self._loop.call_exception_handler({"message": "Exception in a descriptor's callback", "exception": error})

    def run_event(self, key: selectors.SelectorKey, event: int) -> None:
        """Run what ``add_reader()`` or ``add_writer()`` was given, when its descriptor is ready for *event*."""
        handle = key.data[0 if event == selectors.EVENT_READ else 1]
        if handle is None or handle._cancelled or handle in self._fresh:
            return
        if self._loop._debug:
            self._loop._current_handle = handle
            self._run_current_timed()
        else:
            handle._run()

    # Debug mode

    def _run_ready_timed(self) -> None:
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if handle is self._turn_of_descriptors:
                handle._run()
            elif not handle._cancelled:
                self._loop._current_handle = handle
                self._run_current_timed()
        del handle

    def _run_current_timed(self) -> None:
        # The handle is not a variable here, for the same reason as in run().
        loop = self._loop
        assert loop._current_handle is not None
        began = loop.time()
        try:
            loop._current_handle._run()
            self._tell_if_slow(loop._current_handle, began)
        finally:
            loop._current_handle = None

    def _call_timed(self, callback: Callback) -> None:
        self._slow_was_told = False
        began = self._loop.time()
        callback()
        if not self._slow_was_told:
            self._tell_if_slow(callback, began)

    def _tell_if_slow(self, what: Any, began: float) -> None:
        took_s = self._loop.time() - began
        if took_s >= self._loop.slow_callback_duration:
            self._slow_was_told = True
            base_events.logger.warning("Executing %s took %.3f seconds", _described(what), took_s)

    # Timers

    def first_timer(self) -> float | None:
        """When the first timer is due, in seconds of the loop's time; None without one."""
        if not self._timers:
            return None
        self._forget_cancelled_timers()
        return self._timers[0]._when if self._timers else None

    def _until_first_timer(self, longest_s: float | None) -> float | None:
        """How many seconds to wait: *longest_s* at most, or to the first timer."""
        first = self.first_timer()
        if first is None:
            return longest_s
        delay_s = min(max(0.0, first - self._loop.time()), LONGEST_SLEEP_S)
        return delay_s if longest_s is None else min(delay_s, longest_s)

    def _take_due_timers(self) -> list[Any] | None:
        self._forget_cancelled_timers()
        timers = self._timers
        if not timers:
            return None
        until = self._loop.time() + self._loop._clock_resolution
        if timers[0]._when >= until:
            return None
        due: list[Any] = []
        while timers and timers[0]._when < until:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            due.append(timer)
        return due

    def _forget_cancelled_timers(self) -> None:
        timers = self._timers
        if len(timers) > MANY_TIMERS and self._loop._timer_cancelled_count > len(timers) / 2:
            for timer in timers:
                timer._scheduled = not timer._cancelled
            timers[:] = [timer for timer in timers if not timer._cancelled]
            heapq.heapify(timers)
            self._loop._timer_cancelled_count = 0
        while timers and timers[0]._cancelled:
            self._loop._timer_cancelled_count -= 1
            heapq.heappop(timers)._scheduled = False


def _described(what: Any) -> str:
    """A handle as asyncio shows it: a step of a task by the task."""
    return str(base_events._format_handle(what)) if isinstance(what, asyncio.Handle) else repr(what)
