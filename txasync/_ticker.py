"""
How the reactor drives the loop.

A *tick* is what the loop does each time the reactor comes by: a bounded number of rounds, each of which polls without
waiting, runs the timers that are due and the callbacks that were ready when it began. Between ticks the loop is in one
of these states, and every way out of them leads to a tick:

========== ========================================= =======================================================
state      meaning                                   what brings the next tick
========== ========================================= =======================================================
stopped    the loop does not run                     `start`
asleep     nothing is ready                          the poller (a descriptor, another thread), the alarm, set to
                                                     the first timer, or `wake` (a callback or timer was added)
due        callbacks are ready                       the alarm, set to now
ticking    a tick is on the stack                    its own end: asleep or due
========== ========================================= =======================================================

A reactor that is iterated inside a callback of ours (a dialog of a GUI toolkit, ``reactor.iterate()``) comes by while
the loop is *ticking*. It must not run asyncio callbacks then: a task would be stepped inside another task's step. The
poller is suspended until the tick ends, so that the inner iteration does not spin on descriptors that nobody serves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sized
from time import monotonic

from ._alarm import Alarm
from ._burst import Burst
from .polling import Poller

__all__ = ["ROUNDS_PER_TICK", "Ticker"]

# More rounds make a chain of callbacks cheaper, since each return to the reactor costs about as much as eight rounds;
# fewer let Twisted's own events wait less.
ROUNDS_PER_TICK = 32

# When so many rounds on end had callbacks to run and found no descriptor ready, nobody looks for some time. A look
# costs half a round with one callback; the time is short beside what a message takes through the kernel.
ROUNDS_BEFORE_QUIET = 32
QUIET_S = 100e-6

# Who has done so much in a tick loses next to nothing by a return to the reactor; without one, asyncio's descriptors
# would be served again and again, and Twisted's once. It is counted in callbacks; an event costs as much as several.
WORK_PER_TICK = 2048
WORK_PER_EVENT = 16

NOW = -math.inf
"""A time that is over, whatever the loop's clock says."""


class Ticker:
    """
    Drives one loop.

    Args:
        poller: The loop's poller; its ``on_ready`` is `tick`.
        alarm: The loop's alarm; its callable is `alarm_rang`.
        run_round: Polls, and runs what was ready and what is due; waits for that as many seconds as it is given.
            Returns how many descriptors were ready.
        run_ready: Runs what is ready, and does not poll.
        ready: The loop's queue: true while callbacks are ready.
        first_timer: When the first timer is due, in seconds of the loop's time; None without one.
        time: The loop's time, in seconds.
        stopped: Called after the tick in which `stopping` was set.
        interrupted: Called with what came out of a round, a SystemExit or a KeyboardInterrupt, or into `interrupt`.
        quiet_s: For how many seconds nobody polls where that was in vain for `ROUNDS_BEFORE_QUIET`; 0 to poll always.

    Attributes:
        asleep: Whether `wake` must be called when a callback or a timer is added.
        ticking: Whether a tick is on the stack.
        started: Whether the loop runs.
        stopping: To be set when the run is to end after this round, or the next if none is on the stack.
        driven: Whether there is somebody who calls `drive` again and again, so that nothing needs to be woken.
    """

    def __init__(
        self,
        poller: Poller,
        alarm: Alarm,
        *,
        run_round: Callable[[float | None], int],
        run_ready: Callable[[], None],
        ready: Sized,
        first_timer: Callable[[], float | None],
        time: Callable[[], float],
        stopped: Callable[[], None],
        interrupted: Callable[[BaseException], None],
        quiet_s: float = QUIET_S,
    ) -> None:
        self._poller = poller
        self._alarm = alarm
        self._run_round = run_round
        self._run_ready = run_ready
        self._ready = ready
        self._first_timer = first_timer
        self._time = time
        self._stopped = stopped
        self._interrupted = interrupted
        self._quiet_s = quiet_s
        # A reactor's iteration costs several polls: where one poll after the other finds something, it is not iterated
        # in between.
        self._polls = Burst(ROUNDS_PER_TICK)
        self._armed_for: float | None = None
        self._error: BaseException | None = None
        self._suspended = False
        self.asleep = False
        self.ticking = False
        self.started = False
        self.stopping = False
        self.driven = False

    def start(self) -> None:
        """Tick as soon as the reactor runs, and from then on."""
        self.started = True
        if not self.driven:
            self._set_alarm(NOW)

    def stop(self) -> None:
        """Tick no more, and leave nothing in the reactor that could be taken for work."""
        self.started = self.asleep = False
        self._set_alarm(None)

    def wake(self) -> None:
        """Something was added while the loop was `asleep`: tick when it is due."""
        self._await_next()

    def alarm_rang(self) -> None:
        """The first timer is due, perhaps."""
        self._armed_for = None
        if not self.ticking and not self.driven:
            self.tick()

    def tick(self) -> None:
        """Run rounds until nothing is ready, but not for ever."""
        if self.ticking:
            self._suspend()
            return
        if not self.started:
            return
        self.asleep = False
        if self._error is None:
            self._run_rounds()
        self._tell_the_end()
        if self.started:
            self._await_next()

    def _tell_the_end(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            self._interrupted(error)
        elif self.stopping:
            self.stopping = False
            self._stopped()

    def _run_rounds(self) -> None:
        self.ticking = True
        polls = self._polls
        hits = events = work = 0
        try:
            for _ in itertools.repeat(None, ROUNDS_PER_TICK):
                work += len(self._ready)
                found = self._run_round(0.0)
                if found:
                    hits += 1
                    events += found
                    work += found * WORK_PER_EVENT
                elif hits:
                    polls.found_only(hits)
                    hits = 0
                if not (self._ready or 0 < hits < polls.size) or self.stopping:
                    break
                if work >= WORK_PER_TICK and self._poller.has_served_its_share(events):
                    break
            else:
                if not hits:
                    self._run_quietly()
            if hits >= polls.size:
                polls.was_full()
        except BaseException as error:
            self._error = error
        finally:
            self.ticking = False
            if self._suspended:
                self._resume()

    def _run_quietly(self) -> None:
        """Run what is ready, and what that makes ready, for a short time, without a look at descriptors and timers."""
        if not self._quiet_s:
            return
        ready = self._ready
        run_ready = self._run_ready
        until = monotonic() + self._quiet_s
        while ready and not self.stopping:
            run_ready()
            if monotonic() >= until:
                break

    def drive(self, longest_sleep_s: Callable[[], float | None]) -> int:
        """
        Run rounds, one at least, and wait for something to run, until the loop's run is to end, or somebody else's turn
        has come.

        Args:
            longest_sleep_s: Asked before each round: in how many seconds that turn comes; 0 if it has come, None for
                never.

        Returns:
            How many rounds there were; none if the loop does not run, or if a tick is on the stack.
        """
        if self.ticking or not self.started:
            return 0
        rounds = 0
        if self._error is None:
            run_round = self._run_round
            ready = self._ready
            vain = 0
            self.ticking = True
            try:
                # Nobody wakes up a loop that was stopped before its run.
                timeout_s = 0.0 if self.stopping else longest_sleep_s()
                while True:
                    if run_round(timeout_s) or not ready:
                        vain = 0
                    else:
                        vain += 1
                        if vain >= ROUNDS_BEFORE_QUIET:
                            self._run_quietly()
                    rounds += 1
                    if self._suspended:
                        self._resume()  # before the next round waits for what is not shown
                    if self.stopping:
                        break
                    timeout_s = longest_sleep_s()
                    if timeout_s == 0:
                        break
            except BaseException as error:
                self._error = error
            self.ticking = False
            if self._suspended:
                self._resume()
        self._tell_the_end()
        return rounds

    def iterate(self, timeout_s: float | None) -> int:
        """`drive` for one iteration of the reactor: wait *timeout_s* seconds at most, and tick."""
        return self.drive(self._timeouts_of_a_tick(timeout_s).__next__)

    def _timeouts_of_a_tick(self, first_s: float | None) -> Iterator[float | None]:
        yield first_s
        for _ in range(1, ROUNDS_PER_TICK):
            yield None if self._ready else 0.0
        yield 0.0

    def hand_over(self) -> None:
        """From now on somebody calls `drive` again and again: nothing needs to be woken."""
        self.driven = True
        self.asleep = False

    def take_back(self) -> None:
        """Nobody calls `drive` any more."""
        self.driven = False
        if self.started:
            self._await_next()

    def interrupt(self, error: BaseException) -> None:
        """Let the next tick run nothing and end with *error*; it is for the caller to wake the reactor."""
        self._error = error

    def _await_next(self) -> None:
        if self.driven:
            return
        self.asleep = not self._ready
        when = self._first_timer() if self.asleep else NOW
        if when != self._armed_for:
            self._set_alarm(when)

    def _set_alarm(self, when: float | None) -> None:
        self._armed_for = when
        if when is None:
            self._alarm.cancel()
        else:
            self._alarm.set(0.0 if when == NOW else max(1e-9, when - self._time()))

    def _suspend(self) -> None:
        if not self._suspended:
            self._suspended = True
            self._poller.suspend()

    def _resume(self) -> None:
        self._suspended = False
        self._poller.resume()
