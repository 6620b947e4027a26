"""The same with Twisted's own calls: what the servers of the native kinds do with the reactor's timers and threads."""

from __future__ import annotations

import functools
import queue
from collections.abc import Callable, Coroutine
from typing import Any

from scheduling import (
    AT_ONCE,
    FAR_S,
    KEEP_ALIVE_S,
    KEPT_ORDER,
    KEPT_TIMERS,
    MANY_TIMERS,
    NEAR_S,
    TIMERS,
    WAIT_LIMIT_S,
    delays_s,
    nothing,
)
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool

# Does something with a reactor as often as it is told.
ReactorWork = Callable[[Any, int], Coroutine[Any, Any, None]]


async def chain(reactor: Any, count: int) -> None:
    """Each call schedules the next: every one is an iteration of the reactor."""
    done: Deferred[None] = Deferred()
    left = count

    def go_on() -> None:
        nonlocal left
        left -= 1
        if left:
            reactor.callLater(0, go_on)
        else:
            done.callback(None)

    reactor.callLater(0, go_on)
    await done


async def fan_out(reactor: Any, count: int) -> None:
    """Each iteration has many calls, of which one schedules those of the next."""
    done: Deferred[None] = Deferred()
    left = count

    def go_on() -> None:
        nonlocal left
        left -= AT_ONCE
        if left < 0:
            done.callback(None)
            return
        for _ in range(AT_ONCE - 1):
            reactor.callLater(0, nothing)
        reactor.callLater(0, go_on)

    go_on()
    await done


async def wait_for(reactor: Any, count: int) -> None:
    for _ in range(count):
        deferred: Deferred[None] = Deferred()
        reactor.callLater(0, deferred.callback, None)
        await deferred.addTimeout(WAIT_LIMIT_S, reactor)


async def cancel_timers(reactor: Any, count: int, at_once: int = TIMERS) -> None:
    """All timers are cancelled long before they are due."""
    for _ in range(count // at_once):
        for timer in [reactor.callLater(delay_s, nothing) for delay_s in delays_s(at_once, *FAR_S)]:
            timer.cancel()
        # The reactor may have something to do with cancelled timers.
        await deferLater(reactor, 0)


class KeptTimers:
    """One timer for each of many connections, which is cancelled and made anew as often as that connection is used."""

    def __init__(self) -> None:
        self._timers: list[Any] = []
        self._used = 0

    async def renew(self, reactor: Any, count: int) -> None:
        if not self._timers:
            # By the first request, which is not measured. They stay until the end of the process.
            self._timers = [reactor.callLater(KEEP_ALIVE_S, nothing) for _ in range(KEPT_TIMERS)]
        for _ in range(count // AT_ONCE):
            for _ in range(AT_ONCE):
                connection = KEPT_ORDER[self._used % KEPT_TIMERS]
                self._used += 1
                self._timers[connection].cancel()
                self._timers[connection] = reactor.callLater(KEEP_ALIVE_S, nothing)
            await deferLater(reactor, 0)


async def let_timers_fire(reactor: Any, count: int, at_once: int = TIMERS) -> None:
    for _ in range(count // at_once):
        done: Deferred[None] = Deferred()
        left = at_once

        def fire(done: Deferred[None] = done) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.callback(None)

        for delay_s in delays_s(at_once, *NEAR_S):
            reactor.callLater(delay_s, fire)
        await done


async def flood(reactor: Any, count: int) -> None:
    """Another thread calls as fast as it can. The whole process counts."""

    def call() -> None:
        for _ in range(count):
            reactor.callFromThread(nothing)

    await deferToThreadPool(reactor, _one_thread(reactor), call)


async def round_trips(reactor: Any, count: int) -> None:
    """Another thread and the reactor have something to do in turn."""
    answers: queue.SimpleQueue[None] = queue.SimpleQueue()

    def call() -> None:
        for _ in range(count):
            reactor.callFromThread(answers.put, None)
            answers.get()

    await deferToThreadPool(reactor, _one_thread(reactor), call)


async def defer_to_thread(reactor: Any, count: int) -> None:
    threads = _one_thread(reactor)
    for _ in range(count):
        await deferToThreadPool(reactor, threads, nothing)


def _one_thread(reactor: Any) -> Any:
    """The reactor's threads, which do not now and then become one more, as the other kinds' do not."""
    reactor.suggestThreadPoolSize(1)
    return reactor.getThreadPool()


WORK: dict[str, ReactorWork] = {
    "chain": chain,
    "fan-out": fan_out,
    "wait-for": wait_for,
    "timer-cancel": cancel_timers,
    "timer-cancel-many": functools.partial(cancel_timers, at_once=MANY_TIMERS),
    "timer-churn": KeptTimers().renew,
    "timer-fire": let_timers_fire,
    "timer-fire-many": functools.partial(let_timers_fire, at_once=MANY_TIMERS),
    "flood": flood,
    "round-trips": round_trips,
    "executor": defer_to_thread,
}
