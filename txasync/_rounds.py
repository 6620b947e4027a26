"""
One round of the loop: asyncio's iteration, with a poller that calls the ready descriptors' callables itself.

The order is asyncio's: what was ready when the round began, then the descriptors, then the timers that are due. What
these add runs in the next round. A descriptor costs no ``Handle`` and no place in the queue; in a round in which
nothing else is ready, its callable is called straight away.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import selectors
from collections import deque
from typing import Any

from ._alarm import LONGEST_SLEEP_S
from ._handles import Handle, TimerHandle
from ._private import SelectorEventLoop
from ._timers import MANY_TIMERS, NEVER, Timers
from .polling import Callback, Poller

__all__ = ["Rounds"]

base_events: Any = asyncio.base_events


class Rounds:
    """
    Runs *loop*, whose descriptors are *poller*'s.

    Args:
        loop: The loop: its queue, its debug mode.
        timers: Its timers.
        poller: Its poller.
        fresh: The handles of descriptors that are added. One that took the place of another since the round's
            descriptors were collected is not to run yet; this set is emptied for each round.
    """

    def __init__(self, loop: SelectorEventLoop, timers: Timers, poller: Poller, fresh: set[asyncio.Handle]) -> None:
        self._loop = loop
        self._fresh = fresh
        self._ready: deque[Any] = loop._ready
        self._timers = timers
        self._poller = poller
        self._collect = poller.collect
        self._turn_of_descriptors = asyncio.Handle(self._dispatch, (), loop, None)
        self._slow_was_told = False

    def run(self, longest_sleep_s: float | None = 0.0) -> int:
        """
        Run one round.

        Args:
            longest_sleep_s: If nothing is ready, how many seconds to wait for that at most; None for ever.

        Returns:
            How many descriptors were ready.
        """
        ready = self._ready
        timers = self._timers
        if self._fresh:
            self._fresh.clear()
        if longest_sleep_s == 0 or ready:
            found = self._collect(0.0)
        else:
            if timers.next != NEVER:
                longest_sleep_s = self._until_first_timer(longest_sleep_s)
            found = self._collect(longest_sleep_s)
        due = None
        if timers.next != NEVER:
            until = self._loop.time() + self._loop._clock_resolution
            if not timers.next >= until or timers.cancelled > MANY_TIMERS:
                due = timers.take_due(until)
        if found:
            if not ready and not due:
                self._dispatch()
                return found
            ready.append(self._turn_of_descriptors)
        if due:
            ready.extend(due)
        if not ready:
            return 0
        self.run_ready()
        return found

    def run_ready(self) -> None:
        """Run the callbacks that are ready, in their order, and none that these add."""
        if self._loop._debug:
            self._run_ready_timed()
            return
        ready = self._ready
        for _ in range(len(ready)):
            handle = ready.popleft()
            if type(handle) is tuple:
                if len(handle) == 2:
                    handle[0].run(handle[1])
                else:
                    handle[0].run(handle[1], handle[2])
            elif handle._cancelled:
                continue
            elif type(handle) is Handle or type(handle) is TimerHandle:
                # What their _run() does, without a frame for that.
                try:
                    if not handle._args:
                        handle._context.run(handle._callback)
                    elif len(handle._args) == 1:
                        handle._context.run(handle._callback, handle._args[0])
                    else:
                        handle._context.run(handle._callback, *handle._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    handle.tell_of(error)
            else:
                handle._run()
        # This frame may live on in the traceback of an exception; what has run is not to live with it.
        handle = None

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
            if type(handle) is tuple:  # of a task that was to run when debug mode began
                handle = asyncio.Handle(handle[1], handle[2:], self._loop, handle[0])
            if handle is self._turn_of_descriptors:
                handle._run()
            elif not handle._cancelled:
                self._loop._current_handle = handle
                self._run_current_timed()
        handle = None  # as in run_ready()

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

    def _until_first_timer(self, longest_s: float | None) -> float | None:
        """How many seconds to wait: *longest_s* at most, or to the first timer."""
        first = self._timers.first()
        if first is None:
            return longest_s
        delay_s = min(max(0.0, first - self._loop.time()), LONGEST_SLEEP_S)
        return delay_s if longest_s is None else min(delay_s, longest_s)


def _described(what: Any) -> str:
    """A handle as asyncio shows it: a step of a task by the task."""
    return str(base_events._format_handle(what)) if isinstance(what, asyncio.Handle) else repr(what)
