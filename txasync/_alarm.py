"""
What wakes the loop for its first timer, or at once.

A reactor's ``DelayedCall`` follows the wall clock: if that is set back by an hour while the reactor sleeps, the call
comes an hour late (https://github.com/twisted/twisted/issues/2424). asyncio's timers are monotonic, so where the
kernel has a monotonic timer that is a descriptor, the poller watches that instead; it is cheaper, too. For "at once" a
``DelayedCall`` of zero seconds is the cheaper one, and the kernel's timer is its safeguard.
"""

from __future__ import annotations

import abc
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

from .polling import Poller, SharedPoller

if sys.platform == "linux" and sys.version_info < (3, 13):
    from ._timerfd import timerfd_create, timerfd_settime
elif sys.platform == "linux":
    from os import timerfd_create, timerfd_settime

__all__ = ["Alarm", "DelayedCallAlarm", "alarm_for"]

# Longer sleeps are cut in pieces. It keeps every delay within what epoll, timerfd and Twisted (2,147,483 s) accept.
LONGEST_SLEEP_S = 86400.0


# A step of the wall clock delays nothing by more than this.
STEP_GUARD_S = 1.0


class Alarm(abc.ABC):
    """
    Calls one callable, in the reactor's thread, after a delay. It may call early: whoever is called looks at the time.
    """

    @abc.abstractmethod
    def set(self, delay_s: float) -> None:
        """Call after *delay_s* seconds (at once if that is not positive), in place of an earlier setting."""

    @abc.abstractmethod
    def cancel(self) -> None:
        """Do not call. Twice is fine."""

    @abc.abstractmethod
    def close(self) -> None:
        """Cancel, and give back what the alarm owns."""


class DelayedCallAlarm(Alarm):
    """By the reactor's clock: for reactors with a clock of their own, and platforms without timerfd."""

    def __init__(self, reactor: Any, ring: Callable[[], None]) -> None:
        self._reactor = reactor
        self._ring = ring
        self._call: Any = None

    def set(self, delay_s: float) -> None:
        self.cancel()
        self._call = self._reactor.callLater(min(max(0.0, delay_s), LONGEST_SLEEP_S), self._fire)

    def _fire(self) -> None:
        self._call = None
        self._ring()

    def cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def close(self) -> None:
        self.cancel()


if sys.platform == "linux":

    class TimerfdAlarm(Alarm):
        """
        By timerfd(2) on the monotonic clock.

        The descriptor is made at once: when it is needed, there may be none to be had, just when a server waits for a
        while because of that.

        The timer in the kernel is set only when it would ring too late. Most timers of a program are timeouts that
        are cancelled; an alarm that rings for one of them costs a tick, setting it for each would cost two calls.
        """

        def __init__(self, reactor: Any, poller: Poller, ring: Callable[[], None]) -> None:
            self._at_once = DelayedCallAlarm(reactor, ring)
            self._poller = poller
            self._ring = ring
            self._rings_at = math.inf
            self._wanted = False
            self._closed = False
            self._fd = timerfd_create(_CLOCK_MONOTONIC, flags=_TFD_NONBLOCK | _TFD_CLOEXEC)
            poller.set_reader(self._fd, self._timer_rings)

        def set(self, delay_s: float) -> None:
            if delay_s > 0:
                self._at_once.cancel()
            else:
                self._at_once.set(0.0)
                delay_s = STEP_GUARD_S
            self._wanted = True
            when = time.monotonic() + delay_s
            if when < self._rings_at:
                self._rings_at = when
                timerfd_settime(self._fd, initial=min(delay_s, LONGEST_SLEEP_S))

        def _timer_rings(self) -> None:
            timerfd_settime(self._fd, initial=0.0)  # which disarms it, and makes it unreadable
            self._rings_at = math.inf
            if self._wanted:
                self._wanted = False
                self._ring()

        def cancel(self) -> None:
            self._at_once.cancel()
            self._wanted = False

        def close(self) -> None:
            self.cancel()
            if not self._closed:
                self._closed = True
                self._poller.remove_reader(self._fd)
                os.close(self._fd)

    _CLOCK_MONOTONIC = 1
    _TFD_NONBLOCK = os.O_NONBLOCK
    _TFD_CLOEXEC = os.O_CLOEXEC


def alarm_for(reactor: Any, poller: Poller, ring: Callable[[], None], *, own_clock: bool) -> Alarm:
    """
    Make the alarm for a loop.

    Args:
        reactor: The reactor that the loop runs on.
        poller: The loop's poller.
        ring: What to call, in the reactor's thread.
        own_clock: Whether the loop takes its time from *reactor* rather than from the machine.

    Raises:
        TypeError: *reactor* has no timed calls.
    """
    if not IReactorTime.providedBy(reactor):
        raise TypeError(
            f"{reactor!r} has no timed calls (IReactorTime), which asyncio's loop stands on: use a reactor that has "
            f"them; of Twisted's fakes, MemoryReactorClock"
        )
    # Whoever shares its set with the reactor waits for its timers by itself, and needs no alarm.
    if sys.platform == "linux" and not own_clock and not isinstance(poller, SharedPoller):
        return TimerfdAlarm(reactor, poller, ring)
    return DelayedCallAlarm(reactor, ring)
