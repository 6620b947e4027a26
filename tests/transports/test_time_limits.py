"""Time limits: who is told that one is reached, and that one timer of the loop is enough."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from txasync import ReactorEventLoop
from txasync.transports import TimeLimits

from ..conftest import Reports, Runner

PLACE = contextvars.ContextVar("place", default="nowhere")


def limits(loop: ReactorEventLoop, seconds: float) -> TimeLimits:
    """Limits on *loop*."""
    return TimeLimits(loop._services, seconds)


def timers(loop: ReactorEventLoop) -> int:
    """How many timers of *loop* are running."""
    return sum(not timer.cancelled() for timer in loop._scheduled)


def test_a_limit_that_is_not_ended_is_reached(run: Runner) -> None:
    """Those that are not ended before are reached, each once, in the order in which they began, and not before."""
    reached: list[int] = []
    in_time: list[bool] = []

    async def main() -> None:
        short = limits(run.loop, 0.05)

        def begin(number: int) -> None:
            began = run.loop.time()

            def reach() -> None:
                in_time.append(run.loop.time() >= began + short.seconds)
                reached.append(number)

            short.begin(number, reach)

        for number in range(4):
            begin(number)
            begin(-1)
            short.end(-1)
            short.end(-1)
            short.end("nobody")
            await asyncio.sleep(0.005)
        while len(reached) < 4:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.06)

    run(main)
    assert reached == [0, 1, 2, 3]
    assert all(in_time)


def test_one_timer_serves_all(run: Runner) -> None:
    """However many limits are running; and it is gone with the last of them."""

    async def main() -> None:
        before = timers(run.loop)
        long = limits(run.loop, 60)
        for turn in range(3):
            for number in range(100):
                long.begin(number, lambda: pytest.fail("it is not over yet"))
            assert timers(run.loop) == before + 1
            for number in reversed(range(100)):
                long.end((number + turn) % 100)
            assert timers(run.loop) == before

    run(main)


def test_a_limit_that_is_reached_may_begin_another(run: Runner) -> None:
    """For its owner or for somebody else, of the same length."""
    reached: list[str] = []

    async def main() -> None:
        short = limits(run.loop, 0.01)
        done = run.loop.create_future()

        def first() -> None:
            reached.append("first")
            short.begin("owner", second)
            short.begin("other", lambda: done.set_result(None))

        def second() -> None:
            reached.append("second")

        short.begin("owner", first)
        await done
        assert timers(run.loop) == 0

    run(main)
    assert reached == ["first", "second"]


def test_a_limit_is_reached_in_the_context_in_which_it_began(run: Runner) -> None:
    """As with a timer of its own."""
    places: list[Any] = []

    async def main() -> None:
        short = limits(run.loop, 0.01)
        for place in "here", "there":
            PLACE.set(place)
            short.begin(place, lambda: places.append(PLACE.get()))
        PLACE.set("elsewhere")
        while len(places) < 2:
            await asyncio.sleep(0.01)

    run(main)
    assert places == ["here", "there"]


def test_an_error_of_one_is_reported_and_does_not_keep_others_from_being_reached(run: Runner, reports: Reports) -> None:
    """It is that of a callback of the loop."""
    reached: list[str] = []

    def fail() -> None:
        raise LookupError("of one")

    async def main() -> None:
        short = limits(run.loop, 0.01)
        short.begin("one", fail)
        short.begin("other", lambda: reached.append("other"))
        while not reached:
            await asyncio.sleep(0.01)

    run(main)
    (record,) = reports.asyncio
    assert record.exc_info is not None and isinstance(record.exc_info[1], LookupError)
    reports.clear()
