"""asyncio's event loop with our callbacks: what schedules them. What drives the loop is its subclass's business."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from gc import get_referents
from typing import TYPE_CHECKING, Any

from . import _private
from ._handles import Handle
from ._private import SelectorEventLoop
from ._task_callbacks import WAKEUP_NAME, TaskStep, WakeupType
from ._ticker import Ticker
from ._timers import Timers
from .bridge import explain_bad_yield

if TYPE_CHECKING:
    from contextvars import Context

    from typing_extensions import TypeVarTuple, Unpack

    _Ts = TypeVarTuple("_Ts")

__all__ = ["CallbackLoop"]


class CallbackLoop(SelectorEventLoop):
    """
    An event loop whose handles are ours.

    In debug mode they are asyncio's own.

    Args:
        selector: What asyncio's event loop takes.
    """

    _ticker: Ticker
    """What to wake when a callback is added. The subclass makes it."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._timers = Timers()
        super().__init__(selector)

    def call_soon(
        self, callback: Callable[[Unpack[_Ts]], object], *args: Unpack[_Ts], context: Context | None = None
    ) -> asyncio.Handle:
        """
        Run *callback* in the next round; callbacks run in the order in which they were added.

        Source:
            asyncio, "Event Loop", "Scheduling callbacks".
        """
        handle: Any = None
        if self._debug or self._closed:
            handle = super().call_soon(callback, *args, context=context)
            self._forget_own_frame(handle)
        elif context is not None and type(callback) is TaskStep:
            self._ready.append((context, callback))
        elif context is not None and type(callback) is WakeupType and callback.__name__ == WAKEUP_NAME:
            self._ready.append((context, callback, args[0]))  # type: ignore[misc]  # it has a Future
        else:
            # What asyncio's does when there is nothing to check, without four calls.
            handle = Handle(callback, args, self, context)
            self._ready.append(handle)
        if self._ticker.asleep:
            self._ticker.wake()
        return handle  # type: ignore[no-any-return]

    def _call_soon_explaining(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        """`call_soon` while tasks are made in which Deferreds cannot be awaited."""
        if type(callback) is TaskStep and type(error := get_referents(callback)[-1]) is RuntimeError:
            explain_bad_yield(error)
        return type(self).call_soon(self, callback, *args, context=context)

    # Timers

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """
        Run *callback* in *delay* seconds.

        Source:
            asyncio, "Event Loop", "Scheduling delayed callbacks".
        """
        if delay is None or self._debug or self._closed:
            checked = super().call_later(delay, callback, *args, context=context)
            self._forget_own_frame(checked)
            return checked
        # What call_at() does, without calling it.
        timer = self._timers.make(self.time() + delay, callback, args, self, context)
        if self._ticker.asleep:
            self._ticker.wake()
        return timer

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """
        Run *callback* at *when*, in seconds of `time`; timers for the same time run in the order of these calls.

        Source:
            asyncio, "Event Loop", "Scheduling delayed callbacks", which leaves that order open.
        """
        if when is None:
            raise TypeError("when cannot be None")
        timer: _private.TimerHandle
        if self._debug or self._closed:
            timer = self._checked_timer(when, callback, args, context)
            self._forget_own_frame(timer)
            self._timers.add(timer)
        else:
            timer = self._timers.make(when, callback, args, self, context)
        if self._ticker.asleep:
            self._ticker.wake()
        return timer

    def _checked_timer(self, when: float, callback: Any, args: Any, context: Context | None) -> _private.TimerHandle:
        """What asyncio's call_at() makes, which would put it in a heap of its own."""
        self._check_closed()
        self._check_thread()
        self._check_callback(callback, "call_at")
        timer = _private.TimerHandle(when, callback, args, self, context)
        timer._scheduled = True
        self._forget_own_frame(timer)
        return timer

    def _timer_handle_cancelled(self, handle: _private.TimerHandle) -> None:
        """Called by asyncio's timers when they are cancelled."""
        if handle._scheduled:
            self._timers.cancelled += 1

    @property
    def _scheduled(self) -> list[_private.TimerHandle]:
        """asyncio's heap of timers, for whoever looks into it, as asyncio's own ``close()`` does."""
        return self._timers.lend()

    @_scheduled.setter
    def _scheduled(self, timers: list[_private.TimerHandle]) -> None:
        self._timers.lend()[:] = timers

    @staticmethod
    def _forget_own_frame(handle: Any) -> None:
        if handle._source_traceback:
            del handle._source_traceback[-1]  # asyncio has removed its own
