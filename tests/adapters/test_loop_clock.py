"""Twisted's timed calls on the timers of any asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.protocols.policies import TimeoutMixin
from zope.interface.verify import verifyObject

from txasync import as_future
from txasync.adapters import LoopClock, as_asyncio_protocol

from .any_loop import Perform, host, install_clock, perform
from .test_twisted_transport import End

__all__ = ["host", "install_clock", "perform"]

LONG_S = 10_000.0


class Calls:
    """What was called, in order."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self._news = asyncio.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.made += [*args, *kwargs.items()]
        self._news.set()

    async def until(self, count: int) -> None:
        """Wait until there are so many."""
        while len(self.made) < count:
            self._news.clear()
            await self._news.wait()


Body = Callable[[LoopClock, Calls], Any]


@pytest.fixture
def with_clock(perform: Perform) -> Callable[[Body], None]:
    """Run a coroutine function with a clock of the running loop; no call may be left at the end."""

    def with_clock(body: Body) -> None:
        async def main() -> None:
            clock = LoopClock()
            await body(clock, Calls())
            assert clock.getDelayedCalls() == []

        perform(main)

    return with_clock


def test_the_interfaces_are_provided(with_clock: Callable[[Body], None]) -> None:
    """The clock is an ``IReactorTime``, and its calls are ``IDelayedCall`` objects."""

    async def body(clock: LoopClock, calls: Calls) -> None:
        assert verifyObject(IReactorTime, clock)
        call = clock.callLater(LONG_S, calls)
        assert verifyObject(IDelayedCall, call)
        assert call.active()
        call.cancel()

    with_clock(body)


def test_calls_are_made_in_the_order_of_their_times(with_clock: Callable[[Body], None]) -> None:
    """Each call gets its arguments, the earlier one first; those for now are made soon, in their order."""

    async def body(clock: LoopClock, calls: Calls) -> None:
        clock.callLater(0.02, calls, "last", key="word")
        clock.callLater(0.01, calls, "third")
        clock.callLater(0, calls, "first")
        clock.callLater(0, calls, "second")
        assert len(clock.getDelayedCalls()) == 4
        assert calls.made == []
        await calls.until(5)
        assert calls.made == ["first", "second", "third", "last", ("key", "word")]

    with_clock(body)


def test_seconds_is_the_time_of_the_loop(with_clock: Callable[[Body], None]) -> None:
    """A call is for a time of the clock's, which is the loop's."""

    async def body(clock: LoopClock, calls: Calls) -> None:
        before = asyncio.get_running_loop().time()
        call = clock.callLater(LONG_S, calls)
        assert before + LONG_S <= call.getTime() <= clock.seconds() + LONG_S
        call.cancel()
        called = clock.callLater(0.01, calls, "called")
        await calls.until(1)
        assert clock.seconds() >= called.getTime() - 0.001  # uvloop has milliseconds

    with_clock(body)


def test_a_cancelled_call_is_not_made(with_clock: Callable[[Body], None]) -> None:
    """``cancel()`` is final, and can be said once, to a call that was not made."""

    async def body(clock: LoopClock, calls: Calls) -> None:
        cancelled, kept = clock.callLater(0, calls, "cancelled"), clock.callLater(0, calls, "kept")
        cancelled.cancel()
        assert clock.getDelayedCalls() == [kept]
        await calls.until(1)
        assert calls.made == ["kept"]
        assert not (cancelled.active() or kept.active())
        for method in cancelled.cancel, lambda: cancelled.reset(1), lambda: cancelled.delay(1):
            with pytest.raises(AlreadyCancelled):
                method()
        for method in kept.cancel, lambda: kept.reset(1), lambda: kept.delay(1):
            with pytest.raises(AlreadyCalled):
                method()

    with_clock(body)


@pytest.mark.parametrize(
    "put_off", [lambda call: call.reset(0.1), lambda call: call.delay(0.1)], ids=["reset", "delay"]
)
def test_a_call_is_put_off(put_off: Callable[[Any], None], with_clock: Callable[[Body], None]) -> None:
    """A call that is put off is made at its new time, not at its first one."""

    async def body(clock: LoopClock, calls: Calls) -> None:
        call = clock.callLater(0, calls, "put off")
        put_off(call)
        clock.callLater(0.01, lambda: calls(call.active(), clock.getDelayedCalls() == [call]))
        await calls.until(3)
        assert calls.made == [True, True, "put off"]

    with_clock(body)


@pytest.mark.parametrize(
    "bring_forward",
    [
        lambda call: call.reset(0),
        lambda call: call.delay(-LONG_S),
        lambda call: (call.delay(LONG_S), call.delay(-2 * LONG_S)),
        lambda call: (call.reset(2 * LONG_S), call.reset(0)),
    ],
    ids=["reset", "delay", "delay, there and back", "reset, there and back"],
)
def test_a_call_is_brought_forward(bring_forward: Callable[[Any], None], with_clock: Callable[[Body], None]) -> None:
    """A call that is brought forward is made at its new time."""

    async def body(clock: LoopClock, calls: Calls) -> None:
        bring_forward(clock.callLater(LONG_S, calls, "soon"))
        await calls.until(1)

    with_clock(body)


def test_a_call_that_was_put_off_is_cancelled(with_clock: Callable[[Body], None]) -> None:
    """A call can be cancelled after it was put off, before and after its first time."""

    async def body(clock: LoopClock, calls: Calls) -> None:
        early, late = clock.callLater(0, calls), clock.callLater(0, calls)
        early.delay(LONG_S)
        late.delay(LONG_S)
        early.cancel()
        clock.callLater(0.01, calls, "later than its first time")
        await calls.until(1)
        late.cancel()

    with_clock(body)


@pytest.mark.parametrize("delay", [-1, -0.001, float("nan")])
def test_a_delay_that_cannot_be_is_refused(delay: float, with_clock: Callable[[Body], None]) -> None:
    """A delay below zero, and one that is no number, are errors, which name it."""

    async def body(clock: LoopClock, calls: Calls) -> None:
        with pytest.raises(ValueError, match=str(delay)):
            clock.callLater(delay, calls)

    with_clock(body)


def test_what_a_call_raises_goes_to_the_exception_handler(with_clock: Callable[[Body], None]) -> None:
    """A call that fails is reported to the loop, and the others are made."""

    async def body(clock: LoopClock, calls: Calls) -> None:
        loop = asyncio.get_running_loop()
        reported: list[Any] = []
        loop.set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        failing = clock.callLater(0, calls.__getattribute__, "missing")
        clock.callLater(0, calls, "the other")
        await calls.until(1)
        assert [type(error) for error in reported] == [AttributeError]
        assert not failing.active()

    with_clock(body)


def test_a_call_makes_calls(with_clock: Callable[[Body], None]) -> None:
    """A call that is being made is not among those that are to come, and can add some."""

    async def body(clock: LoopClock, calls: Calls) -> None:
        def first() -> None:
            calls(clock.getDelayedCalls())
            clock.callLater(0, calls, "second")

        clock.callLater(0, first)
        await calls.until(2)
        assert calls.made == [[], "second"]

    with_clock(body)


def test_twisteds_periodic_calls_run_by_it(
    with_clock: Callable[[Body], None], install_clock: Callable[[], None]
) -> None:
    """``LoopingCall.clock`` and ``deferLater()`` take it for a reactor."""

    async def body(clock: LoopClock, calls: Calls) -> None:
        install_clock()  # a LoopingCall asks for the global reactor before it can be given another
        periodic = LoopingCall(calls, "again")
        periodic.clock = clock
        stopped = periodic.start(0.001)
        await calls.until(3)
        periodic.stop()
        assert await as_future(stopped) is periodic
        assert await as_future(deferLater(clock, 0, lambda: "done")) == "done"

    with_clock(body)


def test_twisteds_time_limits_run_by_it(with_clock: Callable[[Body], None]) -> None:
    """A protocol with a time limit, which asks its clock for it, loses its connection in time."""

    async def body(clock: LoopClock, calls: Calls) -> None:
        class Limited(End, TimeoutMixin):
            def callLater(self, period: float, function: Any) -> Any:
                return clock.callLater(period, function)

            def connectionMade(self) -> None:
                super().connectionMade()
                self.setTimeout(0.001)  # type: ignore[no-untyped-call]

        limited = Limited()
        server = await asyncio.get_running_loop().create_server(lambda: as_asyncio_protocol(limited), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await limited.lost
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    with_clock(body)


def test_a_clock_needs_a_loop() -> None:
    """Without a running loop, the clock must be given one."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        LoopClock()
    loop = asyncio.SelectorEventLoop()
    try:
        called: list[str] = []
        LoopClock(loop).callLater(0, called.append, "before the loop runs")
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        assert called == ["before the loop runs"]
    finally:
        loop.close()
