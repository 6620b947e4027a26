"""The alarms, on a real poller and on a clock that is moved by hand."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock

from txasync import _reactors
from txasync._alarm import LONGEST_SLEEP_S, STEP_GUARD_S, DelayedCallAlarm, TimerfdAlarm, alarm_for
from txasync.polling import NestedPoller


class Bench:
    """A timerfd alarm in a reactor that the test iterates."""

    def __init__(self) -> None:
        self.reactor = EPollReactor()
        self.poller = NestedPoller(self.reactor, self._on_ready)
        self.rang: list[float] = []
        self.alarm = TimerfdAlarm(self.reactor, self.poller, lambda: self.rang.append(time.monotonic()))

    def _on_ready(self) -> None:
        self.poller.collect()
        self.poller.dispatch()

    def wait(self, seconds: float) -> int:
        """Iterate for that long at most, until it rings; return how often it rang."""
        self.rang.clear()
        deadline = time.monotonic() + seconds
        while not self.rang and (left := deadline - time.monotonic()) > 0:
            self.reactor.runUntilCurrent()
            self.reactor.doIteration(0 if self.rang else min(left, self.reactor.timeout() or left))
        return len(self.rang)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.alarm.close()
    bench.poller.close()
    assert bench.reactor.getDelayedCalls() == []
    _reactors.dispose_private_reactor(bench.reactor)


def test_it_rings_once_and_not_early(bench: Bench) -> None:
    """Without a DelayedCall, which would follow the wall clock."""
    start = time.monotonic()
    bench.alarm.set(0.02)
    assert bench.reactor.getDelayedCalls() == []
    assert bench.wait(30) == 1
    assert bench.rang[0] - start >= 0.02
    assert bench.wait(0.05) == 0


def test_at_once_is_one_delayed_call(bench: Bench) -> None:
    """Which is the cheaper way, with the kernel's timer behind it."""
    bench.alarm.set(0)
    bench.alarm.set(-5)
    assert len(bench.reactor.getDelayedCalls()) == 1
    assert bench.wait(30) == 1


def test_a_step_of_the_wall_clock_holds_nothing_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set back by an hour just before the DelayedCall is due, the clock delays it by the guard's time."""
    real = bench.reactor.seconds
    bench.alarm.set(0)
    monkeypatch.setattr(bench.reactor, "seconds", lambda: real() - 3600)
    start = time.monotonic()
    assert bench.wait(30) == 1
    assert bench.rang[0] - start >= STEP_GUARD_S - 0.1
    bench.alarm.cancel()


def test_cancelled_it_does_not_ring(bench: Bench) -> None:
    """Neither kind."""
    bench.alarm.set(0.01)
    bench.alarm.cancel()
    bench.alarm.set(0)
    bench.alarm.cancel()
    bench.alarm.cancel()
    assert bench.wait(0.05) == 0


def test_a_later_setting_may_ring_early_but_an_earlier_one_never_late(bench: Bench) -> None:
    """The kernel's timer is left alone if it rings early enough; who is rung sets it again."""
    bench.alarm.set(3600)
    bench.alarm.set(0.01)
    assert bench.wait(30) == 1
    bench.alarm.set(0.01)
    bench.alarm.set(3600)
    assert bench.wait(30) == 1
    bench.alarm.set(3600)
    assert bench.wait(0.05) == 0


@pytest.mark.parametrize("delay", [1e-12, 1e300, math.inf])
def test_any_delay_is_taken(bench: Bench, delay: float) -> None:
    """Also what the kernel would refuse."""
    bench.alarm.set(delay)


def test_its_descriptor_is_given_back(bench: Bench) -> None:
    """Once; closing twice is fine."""
    before = len(os.listdir("/proc/self/fd"))
    bench.alarm.set(5)
    assert len(os.listdir("/proc/self/fd")) == before
    bench.alarm.close()
    bench.alarm.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_on_a_clock_of_its_own_it_follows_that() -> None:
    """For fake reactors."""
    clock = Clock()
    rang: list[float] = []
    alarm = alarm_for(clock, None, lambda: rang.append(clock.seconds()), own_clock=True)  # type: ignore[arg-type]
    assert isinstance(alarm, DelayedCallAlarm)
    alarm.set(10)
    alarm.set(5)
    clock.pump([1] * 20)
    assert rang == [5]
    alarm.set(math.inf)
    assert clock.getDelayedCalls()[0].getTime() == clock.seconds() + LONGEST_SLEEP_S
    alarm.close()
    assert clock.getDelayedCalls() == []


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the os module has timerfd from 3.13 on")
def test_timerfd_by_ctypes_reports_errors() -> None:
    """As ``os`` would: with the error number."""
    from txasync import _timerfd

    with pytest.raises(OSError, match=r"\[Errno 22\]"):
        _timerfd.timerfd_create(12345, flags=0)
    with pytest.raises(OSError, match=r"\[Errno 9\]"):
        _timerfd.timerfd_settime(-1, initial=1.0)
