"""Timers: kept in order, dropped when they are cancelled, and to the user the same as asyncio's."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import heapq
import math
import random
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock

import txasync
from txasync import ReactorEventLoop, _timers
from txasync._handles import TimerHandle
from txasync._private import TimerHandle as AsyncioTimerHandle
from txasync._timers import MANY_TIMERS, NEVER, Timers

from .conftest import Runner

# The structure alone, with times that a test chooses


class Owner:
    """What a timer takes for its loop."""

    def __init__(self) -> None:
        self._timers = Timers()
        self._debug = False

    def get_debug(self) -> bool:
        return self._debug

    def _timer_handle_cancelled(self, handle: Any) -> None:
        self._timers.cancelled += handle._scheduled

    def add(self, when: float, name: object, *, asyncios: bool = False) -> AsyncioTimerHandle:
        """Add a timer called *name*: of ours, or of asyncio's class, as in debug mode."""
        if not asyncios:
            return self._timers.make(when, print, (name,), self, None)
        timer = AsyncioTimerHandle(when, print, (name,), self)  # type: ignore[arg-type]
        timer._scheduled = True
        self._timers.add(timer)
        return timer

    def take_due(self, until: float) -> list[Any]:
        """The names of what is due before *until*."""
        return [name(timer) for timer in self._timers.take_due(until)]


def name(timer: Any) -> Any:
    """What `Owner.add` called *timer*."""
    return timer._args[0]


class Model:
    """The same with nothing but a list."""

    def __init__(self) -> None:
        self.pending: list[tuple[float, int, AsyncioTimerHandle]] = []

    def take_due(self, until: float) -> list[int]:
        due = sorted((when, number) for when, number, _ in self.pending if when < until)
        self.pending = [entry for entry in self.pending if not entry[0] < until]
        return [number for _, number in due]

    def forget(self, timer: AsyncioTimerHandle) -> None:
        self.pending = [entry for entry in self.pending if entry[2] is not timer]


# Few different times, so that there are equal ones; enough to be on both sides of the horizon.
TIMES = st.one_of(
    st.integers(-2, 20).map(lambda quarter: quarter / 4), st.sampled_from([1, 3, 1e12, math.inf, -math.inf])
)
ACTIONS = st.one_of(
    st.tuples(st.just("add"), TIMES, st.booleans()),
    st.tuples(st.just("add many"), TIMES, st.integers(1, 150)),
    st.tuples(st.just("cancel"), st.integers(0, 500), st.integers(1, 200)),
    st.tuples(st.just("first"), st.none(), st.none()),
    st.tuples(st.just("take"), st.integers(0, 8).map(lambda quarter: quarter / 4), st.none()),
)


@pytest.mark.parametrize("too_long", [_timers.TOO_LONG, 10])
@given(actions=st.lists(ACTIONS, max_size=40))
def test_timers_are_taken_when_they_are_due_in_order(too_long: int, actions: list[Any]) -> None:
    """
    By time, then in the order of adding; never one that is cancelled. Nobody looks too late, or for ever at the same
    time; and of what is kept, no more than a hundred timers and half of all are cancelled ones.
    """
    owner, model, now, number = Owner(), Model(), 0.0, 0
    timers = owner._timers
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(_timers, "TOO_LONG", too_long)
        for action, value, more in actions:
            if action.startswith("add"):
                for each in range(more if action == "add many" else 1):
                    when = now + value + each / 64
                    model.pending.append((when, number, owner.add(when, number, asyncios=more is True)))
                    number += 1
            elif action == "cancel":
                for _ in range(more):
                    if model.pending:
                        _, _, timer = model.pending[value % len(model.pending)]
                        timer.cancel()
                        model.forget(timer)
            elif action == "first":
                first = timers.first()
                expected = min((when for when, _, _ in model.pending if when < NEVER), default=None)
                assert expected is None or (first is not None and first <= expected)
                assert model.pending or first is None
                assert len(timers) - len(model.pending) <= MANY_TIMERS + len(timers) / 2
            else:
                now += value
                assert owner.take_due(now) == model.take_due(now)
                assert len(timers) - len(model.pending) <= MANY_TIMERS + len(timers) / 2
            assert timers.cancelled == len(timers) - len(model.pending)
            assert timers.next <= min((when for when, _, _ in model.pending), default=NEVER)
        # To the end, as the loop does it: each look takes something, or leads to a later look.
        while (first := timers.first()) is not None:
            assert owner.take_due(first) == model.take_due(first) == []
            now = max(now, math.nextafter(first, NEVER))
            assert owner.take_due(now) == model.take_due(now)
            assert timers.next >= now
    assert all(when == NEVER for when, _, _ in model.pending)


@pytest.mark.parametrize("count", [10, 1000, 5000])
def test_timers_that_are_made_anew_when_they_are_due_keep_their_order(count: int) -> None:
    """Whether so many are due soon that a new one is sorted in with them, is inserted, or has to wait with most."""
    owner, model, now, number = Owner(), Model(), 0.0, 0
    delays = random.Random(count)

    def add() -> None:
        nonlocal number
        # Every other one is for the same time as another.
        when = now + delays.randrange(1, count) // 2 * 2 / count
        model.pending.append((when, number, owner.add(when, number)))
        number += 1

    for _ in range(count):
        add()
    for _ in range(100):
        now += 3 / count
        due = owner.take_due(now)
        assert due == model.take_due(now)
        for _ in due:
            add()
    owner._timers.lend()
    assert sorted(owner.take_due(3)) == sorted(model.take_due(3))


@pytest.mark.parametrize("sorted_before", [False, True])
def test_the_first_timer_is_known_exactly_among_those_that_are_due_soon(sorted_before: bool) -> None:
    """A cancelled timer wakes nobody up, if it would have been due within a second of the last one that was due."""
    owner = Owner()
    owner.add(0, "due")
    assert owner.take_due(0.1) == ["due"]
    cancelled = [owner.add(0.5 + i / 100, i) for i in range(10)]
    owner.add(0.9, "first")
    if sorted_before:
        assert owner.take_due(0.2) == []
    for timer in cancelled:
        timer.cancel()
    assert owner._timers.first() == 0.9
    assert owner._timers.cancelled == 0


def test_without_timers_there_is_no_first_one() -> None:
    """Whether there was none, all are cancelled, or none will ever be due."""
    owner = Owner()
    assert owner._timers.first() is None
    for when in 0.5, 100.0:
        owner.add(when, "cancelled").cancel()
        assert owner._timers.first() is None
    owner.add(math.inf, "never")
    assert owner._timers.first() is None
    assert owner.take_due(1e300) == []


def test_what_is_not_a_number_is_due_at_once() -> None:
    """Such a timer keeps no other one from being due, as on asyncio's heap before Python 3.13."""
    owner = Owner()
    owner.add(0.5, "number")
    assert owner.take_due(0.1) == []
    owner.add(math.nan, "not a number")
    owner.add(70, "late")
    assert owner._timers.first() == -math.inf
    assert owner.take_due(0.2) == ["not a number"]
    assert owner.take_due(0.6) == ["number"]


@pytest.mark.parametrize("count", [1, 50, 1000, 20_000])
def test_cancelled_timers_leave_nothing_behind(count: int) -> None:
    """When all are cancelled, all are dropped the next time that the loop asks; when half are, soon."""
    owner = Owner()
    timers = [owner.add(60 + number / 10, number) for number in range(count)]
    for timer in timers[: count * 2 // 3]:
        timer.cancel()
    owner.take_due(0)
    assert len(owner._timers) <= max(MANY_TIMERS, count - count * 2 // 3) + 1
    for timer in timers:
        timer.cancel()
    owner._timers.first()
    assert len(owner._timers) == owner._timers.cancelled == 0


def test_a_timer_that_was_taken_is_not_counted_when_it_is_cancelled() -> None:
    """The count is of those that are kept."""
    owner = Owner()
    timers = [owner.add(1, 0), owner.add(1, 1, asyncios=True)]
    assert owner.take_due(2) == [0, 1]
    for timer in timers:
        timer.cancel()
    assert owner._timers.cancelled == 0


def test_timers_that_are_lent_can_be_taken_and_added_by_others() -> None:
    """What is in the heap of handles when the loop asks is what is pending."""
    owner = Owner()
    added = [owner.add(when, when) for when in (5.0, 0.5, 70.0, 3.0)]
    assert owner.take_due(0.1) == []
    added[0].cancel()
    heap = owner._timers.lend()
    assert [name(timer) for timer in sorted(heap)] == [0.5, 3.0, 70.0]
    assert heap[0] is added[1]
    assert owner._timers.lend() is heap
    del heap[0]
    added[3].cancel()
    heap.append(AsyncioTimerHandle(2.0, print, ("theirs",), owner))  # type: ignore[arg-type]
    assert owner._timers.next < 0
    assert owner._timers.first() == 2.0
    assert heap == []
    added[2].cancel()
    assert owner._timers.cancelled == 1
    assert owner.take_due(100) == ["theirs"]
    assert len(owner._timers) == owner._timers.cancelled == 0


class Freed:
    """Does something when it is freed."""

    def __init__(self, do: Callable[[], object]) -> None:
        self.do = do

    def __del__(self) -> None:
        self.do()


VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("VARIABLE")


@pytest.mark.parametrize("count", [10, 500])
@pytest.mark.parametrize("distance", [0.0, 60.0])
def test_what_is_freed_with_timers_may_add_some(distance: float, count: int) -> None:
    """Contexts are freed when cancelled timers are dropped, and finalizers are code of users."""
    owner = Owner()
    owner.add(0, "due")
    owner.take_due(0.1)
    timers = []
    for number in range(count):

        def add(number: int = number) -> None:
            owner.add(1 + number / 1000 if number < 50 else 62 + number / 1000, ("from finalizer", number))

        context = contextvars.Context()
        context.run(VARIABLE.set, Freed(add))
        timers.append(owner._timers.make(0.5 + distance + number / 1000, print, (number,), owner, context))
    assert owner.take_due(0.2) == []
    while timers:
        timers.pop().cancel()
    del context
    taken = []
    while owner._timers.next < 63:
        taken += owner.take_due(63)
    assert taken == [("from finalizer", number) for number in range(count)]
    assert owner._timers.first() is None
    assert owner._timers.cancelled == 0


# The same as asyncio's to the user


@pytest.fixture
def ours() -> Iterator[ReactorEventLoop]:
    """A loop that does not run yet, on a reactor of its own."""
    loop = txasync.new_event_loop(private=True)
    yield loop
    loop.close()


@pytest.fixture
def stock() -> Iterator[asyncio.SelectorEventLoop]:
    """asyncio's own."""
    loop = asyncio.SelectorEventLoop()
    yield loop
    loop.close()


def outcome(call: Callable[[], object]) -> str:
    """What *call* raises."""
    try:
        call()
    except Exception as error:
        return repr(error)
    return "nothing"


@pytest.mark.parametrize("state", ["plain", "debug", "closed"])
def test_what_asyncio_refuses_is_refused_with_the_same_words(
    ours: ReactorEventLoop, stock: asyncio.SelectorEventLoop, state: str
) -> None:
    """Times that are none, and, in debug mode, callbacks that are none; everything on a closed loop."""

    async def coroutine_function() -> None: ...

    for each in ours, stock:
        each.set_debug(state == "debug")
        if state == "closed":
            each.close()

    def outcomes(loop: Any) -> list[str | None]:
        return [
            outcome(lambda: loop.call_later(None, print)),
            # Python 3.10 takes it as far as to an assertion.
            outcome(lambda: loop.call_at(None, print)) if sys.version_info >= (3, 11) else None,
            outcome(lambda: loop.call_later("1", print)),
            outcome(lambda: loop.call_later(datetime.timedelta(seconds=1), print)),
            outcome(lambda: loop.call_later(10**400, print)),
            outcome(lambda: loop.call_later(60, "no function")),
            outcome(lambda: loop.call_at(60, "no function")),
            outcome(lambda: loop.call_later(60, coroutine_function)),
            outcome(lambda: loop.call_at(60, coroutine_function)),
            outcome(lambda: loop.call_later(60)),
            outcome(lambda: loop.call_at(60, print, when=1)),
        ]

    assert [words and words.replace("CallbackLoop", "BaseEventLoop") for words in outcomes(ours)] == outcomes(stock)
    for timer in ours._scheduled:
        timer.cancel()


def test_a_time_that_cannot_be_compared_is_refused(ours: ReactorEventLoop) -> None:
    """Where asyncio's run would end with the same error some time later."""
    for when in "1", datetime.datetime.now(), object():
        with pytest.raises(TypeError, match="not supported between instances"):
            ours.call_at(when, print)  # type: ignore[arg-type]
    assert len(ours._timers) == 0


def described(loop: Any) -> list[object]:
    """All that can be seen of a few timers."""
    one, same, other, cancelled = (loop.call_at(when, print, "x") for when in (5, 5.0, 6, 7))
    cancelled.cancel()
    comparisons = [
        (a < b, a <= b, a == b, a != b, a >= b, a > b, hash(a) == hash(b))
        for a in (one, same, other, cancelled)
        for b in (one, same, other, cancelled)
    ]
    changed = loop.call_at(8, print, "kept")
    loop.set_debug(True)
    changed.cancel()
    loop.set_debug(False)
    return [
        *(repr(timer) for timer in (one, same, other, cancelled, changed)),
        *(timer.when() for timer in (one, same, other, cancelled)),
        *(type(timer.when()) for timer in (one, same, other, cancelled)),
        *(timer.cancelled() for timer in (one, same, other, cancelled)),
        comparisons,
        outcome(lambda: one < 5),
        one == 5,
        outcome(lambda: loop.call_at(9, print) < loop.call_soon(print)),
        isinstance(one, asyncio.TimerHandle),
        one.get_context() is not other.get_context() if sys.version_info >= (3, 12) else None,
    ]


def test_a_timer_looks_like_one_of_asyncio(ours: ReactorEventLoop, stock: asyncio.SelectorEventLoop) -> None:
    """Its representation, before and after it is cancelled, its comparisons, its hash and its type."""
    assert described(ours) == described(stock)
    assert isinstance(ours.call_later(60, print), TimerHandle)
    for loop in ours, stock:
        loop.set_debug(True)
    in_debug_mode = [[repr(loop.call_at(5, print)), repr(loop.call_later(-math.inf, print))] for loop in (ours, stock)]
    assert in_debug_mode[0] == in_debug_mode[1]


def test_a_cancelled_timer_keeps_neither_callback_nor_arguments(ours: ReactorEventLoop) -> None:
    """They are freed at once, though the timer itself is dropped later."""

    class Argument:
        pass

    argument = Argument()
    reference = weakref.ref(argument)
    timer = ours.call_later(60, print, argument)
    timer.cancel()
    timer.cancel()
    del argument
    assert reference() is None


@pytest.mark.parametrize("debug", [False, True])
def test_cancelled_timers_are_dropped(ours: ReactorEventLoop, debug: bool) -> None:
    """Those of debug mode as well, which are asyncio's own."""
    ours.set_debug(debug)
    ours.call_later(60, print).cancel()
    ours.call_at(ours.time() + 60, print).cancel()
    ours.call_soon(ours.stop)
    ours.run_forever()
    ours._timers.first()
    assert len(ours._timers) == 0


def test_a_timer_of_somebody_else_can_be_cancelled(ours: ReactorEventLoop) -> None:
    """asyncio's class calls the loop then; what the loop does not keep, it does not count."""
    timer = asyncio.TimerHandle(1.0, print, (), ours, None)
    timer.cancel()
    assert timer.cancelled()
    assert ours._timers.cancelled == 0


def test_an_error_in_a_timer_is_reported_as_by_asyncio(
    ours: ReactorEventLoop, stock: asyncio.SelectorEventLoop
) -> None:
    """With the same message and the same keys."""
    seen: dict[object, list[object]] = {}
    for each in ours, stock:

        def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            seen[loop] = [context["message"].partition(" at ")[0], sorted(context), repr(context["exception"])]
            assert isinstance(context["handle"], asyncio.TimerHandle)

        each.set_exception_handler(note)
        each.call_later(0, divmod, 1, 0)
        each.call_later(0.001, each.stop)
        each.run_forever()
    assert seen[ours] == seen[stock] != []


# On the loop


def test_timers_may_add_and_cancel_timers(run: Runner) -> None:
    """Those that a timer adds run in a later round, even if they are due; those that it cancels do not run."""
    ran: list[str] = []

    async def main() -> None:
        loop, done = run.loop, run.loop.create_future()
        now = loop.time()

        def first() -> None:
            ran.append("first")
            second.cancel()
            loop.call_at(now, ran.append, "added")
            far.cancel()
            loop.call_later(0.001, done.set_result, None)

        loop.call_at(now + 0.001, first)
        second = loop.call_at(now + 0.001, ran.append, "second")
        loop.call_at(now + 0.001, ran.append, "third")
        far = loop.call_at(now + 0.002, ran.append, "far")
        while loop.time() < now + 0.002:  # so that all three are due in one round
            pass
        await done

    run(main)
    assert ran == ["first", "third", "added"]


def test_timers_for_the_same_time_run_in_the_order_of_their_calls(run: Runner) -> None:
    """A thousand of them, whether they were due soon when they were made or not."""
    ran: list[int] = []

    async def main() -> None:
        done = run.loop.create_future()
        when = run.loop.time() + 0.005
        for number in range(1000):
            run.loop.call_at(when, ran.append, number)
        run.loop.call_at(when, done.set_result, None)
        await done

    run(main)
    assert ran == list(range(1000))


def test_a_timer_that_twisted_code_makes_wakes_a_sleeping_loop(run: Runner) -> None:
    """In whatever order: an earlier one is not kept waiting for one that was there."""

    async def main() -> None:
        done = run.loop.create_future()
        late = run.loop.call_later(3600, print)

        def make() -> None:
            run.loop.call_at(run.loop.time() + 0.001, done.set_result, None)

        run.reactor.callLater(0.001, make)
        await done
        late.cancel()

    run(main)


def test_a_timer_that_twisted_code_makes_sets_the_alarm() -> None:
    """The loop's one call in the reactor is put forward, and not back."""
    clock = MemoryReactorClock()
    loop = ReactorEventLoop(clock)
    try:
        clock.advance(0)
        for when, expected in (50, 50), (40, 40), (60, 40), (30, 30):
            loop.call_at(when, loop.time)
            assert [call.getTime() for call in clock.getDelayedCalls()] == [expected]
        loop.call_later(20, loop.time)
        assert [call.getTime() for call in clock.getDelayedCalls()] == [20]
        clock.pump([10] * 6)
        assert clock.getDelayedCalls() == []
    finally:
        loop.close()


def test_timers_that_stay_behind_are_dropped_with_the_loop(ours: ReactorEventLoop) -> None:
    """close() frees what they hold."""

    class Argument:
        pass

    argument = Argument()
    reference = weakref.ref(argument)
    ours.call_later(60, print, argument)
    del argument
    ours.close()
    assert reference() is None


def test_rounds_that_somebody_else_runs_have_the_timers(ours: ReactorEventLoop) -> None:
    """Who takes timers out of asyncio's heap, as nest_asyncio, has run them; the rest is the loop's business again."""
    ran: list[str] = []
    now = ours.time()
    ours.call_at(now - 1, ran.append, "by somebody else")
    ours.call_at(now - 0.5, ran.append, "by the loop")
    ours.call_at(now + 0.001, ours.stop)
    heap = ours._scheduled
    timer = heapq.heappop(heap)
    assert timer.when() == now - 1
    timer._run()
    ours.run_forever()
    assert ran == ["by somebody else", "by the loop"]
