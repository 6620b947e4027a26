"""
The timers that are pending.

Most timers are limits of time that are cancelled long before they are due. So only those that are due soon are kept in
order. The others wait in a list: to add one costs next to nothing, and what is cancelled there has never been compared
with any other timer. Those that are due soon are sorted when somebody asks for the first of them, all that are new at
once, which takes half as long as a heap does.

===== ================================================= ==============================================================
part  what is in it                                     what leaves it
===== ================================================= ==============================================================
new   due before the horizon, in the order of adding    all of it becomes *soon* when the loop asks
soon  due before the horizon, sorted by time; in the    what is due; what is cancelled, when it is the first; its
      order of adding where the time is the same        greater part becomes *later*, when it is too long to insert in
later due at the horizon or after it                    when the first is due, the horizon moves on by a second or
                                                        more, and what is before it becomes *new*
lent  all timers, a heap of handles like asyncio's, if  all of it, when the loop asks
      somebody has asked for that; else nothing
===== ================================================= ==============================================================
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable
from contextvars import Context, copy_context
from heapq import heappush
from operator import attrgetter
from typing import Any

from . import _private
from ._handles import TimerHandle

__all__ = ["MANY_TIMERS", "NEVER", "Timers"]

_when = attrgetter("_when")
_new_object = object.__new__

# When there is nothing to look for, and of a timer of infinite delay.
NEVER = math.inf

# As asyncio: cancelled timers are dropped when they are many, and more than half.
MANY_TIMERS = 100

# How far the horizon moves on. Where more timers wait than that, it goes further, so that it does so less often.
SPAN_S = 1.0
TIMERS_PER_S = 10_000

# New timers are inserted, unless they are one in so many, or more: then, all is sorted.
SHARE = 8
# To insert into more costs too much.
TOO_LONG = 4000


class Timers:
    """
    Keeps timers until they are due.

    Those that are due at the same time come in the order in which they were added.

    Attributes:
        next: When to look for timers that are due, or earlier; `NEVER` if none is pending.
        cancelled: How many of the pending timers are cancelled. Whoever cancels one for which ``_scheduled`` is true is
            to count it here.

    Context:
        One thread. Finalizers may add and cancel timers while a method runs, since a collection of garbage may begin
        anywhere: so what they add to is taken away before it is looked through.
    """

    def __init__(self) -> None:
        self.next = NEVER
        self.cancelled = 0
        self._new: list[_private.TimerHandle] = []
        self._soon: list[_private.TimerHandle] = []
        self._later: list[_private.TimerHandle] = []
        self._lent: list[_private.TimerHandle] = []
        self._horizon = -NEVER
        # As `next`, of what is due later.
        self._first_later = NEVER

    def __len__(self) -> int:
        """How many timers are pending, or cancelled and kept for the time being."""
        return len(self._new) + len(self._soon) + len(self._later) + len(self._lent)

    def make(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], loop: Any, context: Context | None
    ) -> TimerHandle:
        """Make a timer of what asyncio's takes, and `add` it; *loop* is not in debug mode."""
        # To fill the slots here costs half of what calling the class does, and each limit of time pays for it.
        timer = _new_object(TimerHandle)
        timer._context = copy_context() if context is None else context
        timer._loop = loop
        timer._callback = callback
        timer._args = args
        timer._cancelled = False
        timer._repr = timer._source_traceback = None
        timer._when = when
        timer._scheduled = True
        if when >= self._horizon and when >= self._first_later:
            self._later.append(timer)  # what add() does with most
        else:
            self.add(timer)
        return timer

    def add(self, timer: _private.TimerHandle) -> None:
        """Keep *timer*, for which ``_scheduled`` is true."""
        when = timer._when
        if when >= self._horizon:
            self._later.append(timer)
            if when < self._first_later:
                self._first_later = when
        else:
            self._new.append(timer)
        if not when >= self.next:
            # What is not a number is due at once, as on a heap.
            self.next = when if when < self.next else -NEVER

    def first(self) -> float | None:
        """
        When to look for timers that are due, in seconds of the loop's time; None if none is pending.

        That is when the first is due, or earlier, if one of `later` was cancelled.
        """
        if self._lent or self.cancelled:
            self._take_back()
            self._forget_cancelled()
            if self._new:
                self._sort_new()
            self._note_next()
        return None if self.next == NEVER else self.next

    def take_due(self, until: float) -> list[_private.TimerHandle]:
        """Remove what is due before *until*, and return it in the order in which it is due."""
        if self._lent:
            self._take_back()
        if self.cancelled > MANY_TIMERS:
            self._forget_cancelled()
        if self._first_later < until:
            self._move_horizon(until)
        if self._new:
            self._sort_new(until)
        due = []
        count = 0
        for timer in self._soon:
            if timer._when >= until:
                break
            count += 1
            if timer._cancelled:
                self.cancelled -= 1
            else:
                timer._scheduled = False
                due.append(timer)
        del self._soon[:count]
        self._note_next()
        return due

    def lend(self) -> list[_private.TimerHandle]:
        """
        Let all timers be in a heap of handles, as asyncio has it, until the loop asks what is due.

        It may be changed meanwhile.
        """
        timers = [*self._soon, *self._new, *self._later]
        self._new, self._soon, self._later = [], [], []
        self._first_later = NEVER
        for timer in self._wanted(timers):
            timer._scheduled = False
            heappush(self._lent, timer)
        self.next = -NEVER
        return self._lent

    def _take_back(self) -> None:
        timers = sorted(self._lent, key=_when)
        self._lent.clear()
        for timer in timers:
            if not timer._cancelled:
                timer._scheduled = True
                self.add(timer)

    def _note_next(self) -> None:
        if not self._new:  # else a finalizer has added them meanwhile, and it stays as early as it was
            self.next = self._soon[0]._when if self._soon else self._first_later

    def _sort_new(self, until: float = -NEVER) -> None:
        """Make `new` a part of `soon`, in which everything that is due before *until* stays."""
        if len(self._soon) > TOO_LONG and len(self._new) < len(self._soon) / SHARE:
            self._move_horizon_back(until)
        new, self._new = self._new, []
        if len(new) == 1:
            insort(self._soon, new[0], key=_when)
            return
        new = self._wanted(new)
        if len(new) < len(self._soon) / SHARE:
            for timer in new:
                insort(self._soon, timer, key=_when)
        else:
            self._soon += new
            self._soon.sort(key=_when)

    def _move_horizon(self, until: float) -> None:
        """Move it behind *until*, at least."""
        self._first_later = NEVER
        self._horizon = until + max(SPAN_S, len(self._later) / TIMERS_PER_S)
        later, self._later = self._later, []
        for timer in self._wanted(later):
            self.add(timer)

    def _move_horizon_back(self, until: float) -> None:
        """Move it before the greater part of `soon`, but not before *until*."""
        share = len(self._soon) // SHARE
        horizon = self._soon[share]._when
        if not horizon >= until:
            return
        self._horizon = self._first_later = horizon
        self._later[:0] = self._soon[share:]
        del self._soon[share:]
        new, self._new = self._new, []
        for timer in new:
            self.add(timer)

    def _forget_cancelled(self) -> None:
        """Drop what is cancelled, if that is all or much, or the first of `soon`."""
        count = len(self._new) + len(self._soon) + len(self._later)
        if self.cancelled >= count or (self.cancelled > MANY_TIMERS and self.cancelled > count / 2):
            if self._soon:
                self._soon = self._wanted(self._soon)
            if self._new:
                new, self._new = self._new, []
                self._new[:0] = self._wanted(new)
            if self._later:
                later, self._later = self._later, []
                self._later[:0] = self._wanted(later)
                if not self._later:
                    self._first_later = NEVER
        count = 0
        for timer in self._soon:
            if not timer._cancelled:
                break
            count += 1
        if count:
            self.cancelled -= count
            del self._soon[:count]

    def _wanted(self, timers: list[_private.TimerHandle]) -> list[_private.TimerHandle]:
        """Those that are not cancelled, when the others have been taken away."""
        wanted = [timer for timer in timers if not timer._cancelled]
        self.cancelled -= len(timers) - len(wanted)
        return wanted
