"""Twisted's timed calls, on asyncio's timers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

__all__ = ["LoopClock"]


@implementer(IReactorTime)
class LoopClock:
    """
    The clock that Twisted's protocols and factories take as ``reactor=`` or ``clock=``, on any loop, without a reactor.

    Args:
        loop: The loop whose timers are used. Default: the running one.

    Raises:
        RuntimeError: No loop was given, and none runs.

    Source:
        Twisted, ``IReactorTime``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        # Twisted promises times since the epoch; twisted.web dates its log by them.
        self._epoch_s = time.time() - self._loop.time()
        self._handles: dict[DelayedCall, asyncio.TimerHandle] = {}

    def seconds(self) -> float:
        """The time since the epoch, in seconds: monotonic, whatever becomes of the system's clock from now on."""
        return self._epoch_s + self._loop.time()

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kwargs: Any) -> DelayedCall:
        """
        Call *callable* in *delay* seconds.

        Returns:
            An ``IDelayedCall``.

        Raises:
            ValueError: *delay* is negative, or no number.

        Context:
            The loop's thread.
        """
        if not delay >= 0:
            raise ValueError(f"callLater() takes a delay of 0 seconds or more, got {delay!r}")
        call = DelayedCall(
            self.seconds() + delay, callable, args, kwargs, self._cancelled, self._moved, seconds=self.seconds
        )
        self._set(call)
        return call

    def getDelayedCalls(self) -> list[DelayedCall]:
        """The calls that are to come."""
        return list(self._handles)

    def _set(self, call: DelayedCall) -> None:
        self._handles[call] = self._loop.call_at(call.getTime() - self._epoch_s, self._run, call)

    def _cancelled(self, call: DelayedCall) -> None:
        self._handles.pop(call).cancel()

    def _moved(self, call: DelayedCall) -> None:
        self._cancelled(call)
        self._set(call)

    def _run(self, call: DelayedCall) -> None:
        if call.delayed_time > 0:  # it was put off
            call.activate_delay()
            self._set(call)
            return
        del self._handles[call]
        call.called = 1
        call.func(*call.args, **call.kw)
