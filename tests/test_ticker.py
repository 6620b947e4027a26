"""The ticker, without a reactor: when it runs rounds, and what it asks of its alarm and its poller."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from txasync._alarm import Alarm
from txasync._ticker import ROUNDS_BEFORE_QUIET, ROUNDS_PER_TICK, WORK_PER_EVENT, WORK_PER_TICK, Ticker
from txasync.polling import Callback, Poller


class SetAlarm(Alarm):
    """Notes what it is set to; None means not at all."""

    def __init__(self) -> None:
        self.set_to: float | None = None
        self.settings = 0

    def set(self, delay_s: float) -> None:
        self.set_to = delay_s
        self.settings += 1

    def cancel(self) -> None:
        self.set_to = None

    def close(self) -> None:
        self.cancel()


class StillPoller(Poller):
    """Has no descriptors; notes whether it is suspended."""

    suspended = False
    share = 0

    def set_reader(self, fd: int, callback: Callback) -> None:
        raise NotImplementedError

    set_writer = set_reader

    def remove_reader(self, fd: int, callback: Callback | None = None) -> bool:
        raise NotImplementedError

    remove_writer = remove_reader

    def interest(self, fd: int) -> int:
        raise NotImplementedError

    def collect(self, timeout_s: float | None = 0.0) -> bool:
        raise NotImplementedError

    def dispatch(self, call: Callable[[Callback], object] | None = None) -> None:
        raise NotImplementedError

    def has_served_its_share(self, events: int) -> bool:
        return events >= self.share

    def suspend(self) -> None:
        self.suspended = True

    def resume(self) -> None:
        self.suspended = False

    def close(self) -> None:
        raise NotImplementedError


class Driven:
    """A loop of a few lines, and its ticker."""

    def __init__(self, quiet_s: float = 0.0) -> None:
        self.ready: deque[Any] = deque()
        self.timer: float | None = None
        self.now = 100.0
        self.ends: list[object] = []
        self.rounds = 0
        self.sleeps: list[float | None] = []
        self.descriptors: deque[int] = deque()
        self.alarm = SetAlarm()
        self.poller = StillPoller()
        self.ticker = Ticker(
            self.poller,
            self.alarm,
            run_round=self.run_round,
            run_ready=self.run_ready,
            ready=self.ready,
            first_timer=lambda: self.timer,
            time=lambda: self.now,
            stopped=self.stopped,
            interrupted=self.ends.append,
            quiet_s=quiet_s,
        )

    def run_ready(self) -> None:
        for _ in range(len(self.ready)):
            self.ready.popleft()()

    def run_round(self, longest_sleep_s: float | None) -> int:
        self.sleeps.append(longest_sleep_s)
        self.rounds += 1
        self.run_ready()
        return self.descriptors.popleft() if self.descriptors else 0

    def ring(self) -> None:
        """What the alarm does when it is time."""
        self.alarm.set_to = None
        self.ticker.alarm_rang()

    def stopped(self) -> None:
        self.ends.append("stopped")
        self.ticker.stop()


def test_it_ticks_at_once_after_the_start_and_not_before() -> None:
    """A poller that is heard before the start, or after the end, brings no round."""
    driven = Driven()
    driven.ticker.tick()
    assert driven.rounds == 0
    driven.ticker.start()
    assert driven.alarm.set_to == 0
    driven.ring()
    assert driven.rounds == 1
    driven.ticker.stop()
    assert driven.alarm.set_to is None
    driven.ticker.tick()
    assert driven.rounds == 1


def test_it_sleeps_until_the_first_timer() -> None:
    """The alarm is set once for one time, and again when an earlier timer is added."""
    driven = Driven()
    driven.ticker.start()
    driven.timer = 105.0
    driven.ticker.tick()
    assert driven.ticker.asleep
    assert driven.alarm.set_to == 5.0
    settings = driven.alarm.settings
    driven.ticker.tick()
    assert driven.alarm.settings == settings
    driven.timer = 101.0
    driven.ticker.wake()
    assert driven.alarm.set_to == 1.0
    driven.timer = None
    driven.ticker.tick()
    assert driven.alarm.set_to is None
    assert driven.ticker.asleep


def test_a_callback_that_wakes_it_is_due_at_once() -> None:
    """The alarm is set to now, one time for any number of callbacks."""
    driven = Driven()
    driven.ticker.start()
    driven.ticker.tick()
    ran: list[int] = []
    driven.ready.append(lambda: ran.append(1))
    driven.ticker.wake()
    assert driven.alarm.set_to == 0
    assert not driven.ticker.asleep
    driven.ring()
    assert ran == [1]
    assert driven.ticker.asleep


def test_a_tick_ends_although_callbacks_are_ready() -> None:
    """After its rounds it gives the reactor its turn, and comes back at once."""
    driven = Driven()

    def again() -> None:
        driven.ready.append(again)

    driven.ready.append(again)
    driven.ticker.start()
    driven.ticker.tick()
    assert driven.rounds == ROUNDS_PER_TICK
    assert driven.alarm.set_to == 0
    assert not driven.ticker.asleep


def test_a_tick_that_has_done_much_ends_when_all_had_their_turn() -> None:
    """Descriptors that are ready again and again leave the reactor its turn, but not before each was served."""
    driven = Driven()
    many = WORK_PER_TICK // WORK_PER_EVENT
    driven.poller.share = 3 * many
    driven.ticker.start()
    driven.descriptors.extend([many] * 9)
    driven.ticker.tick()
    assert driven.rounds == 3
    driven.poller.share = 0
    driven.ticker.tick()
    assert driven.rounds == 4
    assert not driven.ends


def test_callbacks_are_work_of_a_tick_as_well() -> None:
    """A crowd of callbacks, each of which is ready again at once, is run fewer times in a row than one alone."""
    driven = Driven()

    def again() -> None:
        driven.ready.append(again)

    driven.ready.extend([again] * (WORK_PER_TICK // 2))
    driven.descriptors.extend([1] * ROUNDS_PER_TICK)
    driven.ticker.start()
    driven.ticker.tick()
    assert driven.rounds == 2
    assert driven.alarm.set_to == 0


def test_a_tick_inside_a_tick_runs_nothing_and_suspends_the_poller() -> None:
    """Until the outer one ends."""
    driven = Driven()
    seen: list[bool] = []

    def iterate_the_reactor() -> None:
        driven.ready.append(lambda: None)
        driven.ticker.tick()
        driven.ticker.alarm_rang()
        seen.append(driven.poller.suspended)

    driven.ready.append(iterate_the_reactor)
    driven.ticker.start()
    driven.ticker.tick()
    assert seen == [True]
    assert driven.rounds == 2
    assert not driven.poller.suspended


def test_stopping_ends_the_tick_after_its_round() -> None:
    """What is ready then is left for the next run."""
    driven = Driven()

    def stop() -> None:
        driven.ticker.stopping = True
        driven.ready.append(lambda: None)

    driven.ready.append(stop)
    driven.ticker.start()
    driven.ticker.tick()
    assert driven.ends == ["stopped"]
    assert len(driven.ready) == 1
    assert driven.rounds == 1
    assert driven.alarm.set_to is None


def test_what_leaves_a_round_is_handed_over() -> None:
    """The rest of the round is still ready."""
    driven = Driven()
    error = SystemExit(3)

    def leave() -> None:
        raise error

    driven.ready.extend([leave, lambda: None])
    driven.ticker.start()
    driven.ticker.tick()
    assert driven.ends == [error]
    assert len(driven.ready) == 1
    assert not driven.ticker.ticking


def test_an_interrupt_from_outside_runs_no_round() -> None:
    """The next tick only hands it over."""
    driven = Driven()
    driven.ticker.start()
    error = KeyboardInterrupt()
    driven.ticker.interrupt(error)
    driven.ticker.tick()
    assert driven.ends == [error]
    assert driven.rounds == 0


def test_who_drives_tells_before_each_round_when_it_is_whose_turn() -> None:
    """Nothing is woken meanwhile: neither by an alarm, nor by what is added."""
    driven = Driven()
    driven.ticker.hand_over()
    driven.ticker.start()
    driven.ring()
    assert driven.rounds == 0
    driven.ready.append(lambda: driven.ready.append(lambda: None))
    assert driven.ticker.drive(iter([7.0, None, 0.0]).__next__) == 2
    assert driven.sleeps == [7.0, None]
    assert not driven.ready
    assert not driven.ticker.asleep
    assert driven.alarm.set_to is None
    driven.timer = 105.0
    driven.ticker.take_back()
    assert driven.ticker.asleep
    assert driven.alarm.set_to == 5.0


def test_a_round_is_run_between_two_turns_of_others() -> None:
    """Although it is their turn already: else one who is never done would have all turns."""
    driven = Driven()
    driven.ticker.hand_over()
    driven.ticker.start()
    assert driven.ticker.drive(lambda: 0.0) == 1
    assert driven.sleeps == [0.0]


def test_a_run_that_was_stopped_before_it_began_does_not_wait() -> None:
    """Its only round polls, whatever is ready."""
    driven = Driven()
    driven.ticker.hand_over()
    driven.ticker.start()
    driven.ticker.stopping = True
    assert driven.ticker.drive(lambda: None) == 1
    assert driven.sleeps == [0.0]
    assert driven.ends == ["stopped"]


def test_who_drives_hears_the_end_of_a_run() -> None:
    """That it was stopped, what left a round, and an interrupt from outside."""
    driven = Driven()
    driven.ticker.hand_over()
    driven.ticker.start()
    error = SystemExit(3)

    def leave() -> None:
        raise error

    def stop() -> None:
        driven.ticker.stopping = True

    driven.ready.append(leave)
    assert driven.ticker.drive(lambda: None) == 0
    interrupt = KeyboardInterrupt()
    driven.ticker.interrupt(interrupt)
    assert driven.ticker.drive(lambda: None) == 0
    driven.ready.append(stop)
    assert driven.ticker.drive(lambda: None) == 1
    assert driven.ends == [error, interrupt, "stopped"]
    assert driven.rounds == 2


def busy(driven: Driven, calls: int) -> list[int]:
    """Add a callback that adds itself, so many times; return the number of the polling round for each call."""
    polled: list[int] = []

    def again() -> None:
        polled.append(driven.rounds)
        if len(polled) < calls:
            driven.ready.append(again)

    driven.ready.append(again)
    return polled


def test_who_polls_in_vain_for_long_does_so_no_more_for_a_while() -> None:
    """A program that is busy with itself does not pay for a poll in each round; a tick ends with such a time."""
    driven = Driven(quiet_s=60.0)
    polled = busy(driven, ROUNDS_PER_TICK + 500)
    driven.ticker.start()
    driven.ticker.tick()
    assert polled == [*range(1, ROUNDS_PER_TICK + 1), *[ROUNDS_PER_TICK] * 500]


def test_who_drives_a_busy_loop_polls_in_vain_no_more_either() -> None:
    """The same without ticks."""
    driven = Driven(quiet_s=60.0)
    polled = busy(driven, ROUNDS_BEFORE_QUIET + 500)
    driven.ticker.start()
    driven.ticker.drive(lambda: 0.0 if len(polled) == ROUNDS_BEFORE_QUIET + 500 else None)
    assert polled == [*range(1, ROUNDS_BEFORE_QUIET + 1), *[ROUNDS_BEFORE_QUIET] * 500]


def test_a_descriptor_that_was_ready_is_a_reason_to_poll_on() -> None:
    """As long as there is traffic, each round polls."""
    driven = Driven(quiet_s=60.0)
    polled = busy(driven, 10 * ROUNDS_BEFORE_QUIET)
    driven.descriptors.extend(number % ROUNDS_BEFORE_QUIET == 0 for number in range(10 * ROUNDS_BEFORE_QUIET))
    driven.ticker.start()
    driven.ticker.drive(lambda: 0.0 if len(polled) == 10 * ROUNDS_BEFORE_QUIET else None)
    assert polled == [*range(1, 10 * ROUNDS_BEFORE_QUIET + 1)]


def test_a_run_that_is_to_end_does_so_after_the_round_quiet_or_not() -> None:
    """stop() is heeded where nobody polls."""
    driven = Driven(quiet_s=60.0)
    busy(driven, 10**6)

    def stop_in_quiet() -> None:
        if driven.rounds < ROUNDS_PER_TICK:
            driven.ready.append(stop_in_quiet)
        else:
            driven.ticker.stopping = True

    driven.ready.append(stop_in_quiet)
    driven.ticker.start()
    driven.ticker.tick()
    assert driven.ends == ["stopped"]


def test_the_time_without_a_poll_is_short() -> None:
    """It ends with the round in which it is over."""
    driven = Driven(quiet_s=1e-9)
    polled = busy(driven, 10 * ROUNDS_PER_TICK)
    driven.ticker.start()
    driven.ticker.tick()
    assert polled == [*range(1, ROUNDS_PER_TICK + 1), ROUNDS_PER_TICK]
