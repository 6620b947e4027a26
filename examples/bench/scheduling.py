"""What the asyncio servers do with callbacks, timers and threads on request: what a loop itself costs, without I/O."""

from __future__ import annotations

import asyncio
import functools
import queue
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tasks import Work

# So many callbacks are queued in one round that the round itself does not count.
AT_ONCE = 100
# How many coroutines one gather() has, and how many timers there are in one batch: so few that the processor's caches
# hold them, and so many that they do not.
GATHERED = 10_000
TIMERS = 1_000
MANY_TIMERS = 100_000
# The timers of so many connections that are open at the same time, and how long those may be silent: as servers behind
# a proxy have it, and so long that none fires in a measurement.
KEPT_TIMERS = 10_000
KEEP_ALIVE_S = 3600
# When timers are due that are cancelled, and those that fire.
FAR_S = (1, 100)
NEAR_S = (0, 0.005)
WAIT_LIMIT_S = 10

KEPT_ORDER = random.Random(8).sample(range(KEPT_TIMERS), KEPT_TIMERS)


def nothing() -> None:
    """What is called when only the call counts."""


@functools.cache
def delays_s(count: int, least: float, most: float) -> list[float]:
    """Delays between *least* and *most*, in no order: the same for all kinds."""
    numbers = random.Random(8)
    return [numbers.uniform(least, most) for _ in range(count)]


async def chain(count: int) -> None:
    """Each callback schedules the next: every one is a round of the loop."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def go_on() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(go_on)
        else:
            done.set_result(None)

    loop.call_soon(go_on)
    await done


async def fan_out(count: int) -> None:
    """Each round has many callbacks, of which one schedules those of the next."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def go_on() -> None:
        nonlocal left
        left -= AT_ONCE
        if left < 0:
            done.set_result(None)
            return
        for _ in range(AT_ONCE - 1):
            loop.call_soon(nothing)
        loop.call_soon(go_on)

    go_on()
    await done


async def gather(count: int) -> None:
    for _ in range(count // GATHERED):
        await asyncio.gather(*(_return_at_once() for _ in range(GATHERED)))


async def _return_at_once() -> None:
    pass


async def wait_for(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await asyncio.wait_for(future, WAIT_LIMIT_S)


async def cancel_timers(count: int, at_once: int = TIMERS) -> None:
    """All timers are cancelled long before they are due."""
    loop = asyncio.get_running_loop()
    for _ in range(count // at_once):
        for timer in [loop.call_later(delay_s, nothing) for delay_s in delays_s(at_once, *FAR_S)]:
            timer.cancel()
        # The loop may have something to do with cancelled timers.
        await asyncio.sleep(0)


class KeptTimers:
    """One timer for each of many connections, which is cancelled and made anew as often as that connection is used."""

    def __init__(self) -> None:
        self._timers: list[asyncio.TimerHandle] = []
        self._used = 0

    async def renew(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        if not self._timers:
            # By the first request, which is not measured. They stay until the end of the process.
            self._timers = [loop.call_later(KEEP_ALIVE_S, nothing) for _ in range(KEPT_TIMERS)]
        for _ in range(count // AT_ONCE):
            for _ in range(AT_ONCE):
                connection = KEPT_ORDER[self._used % KEPT_TIMERS]
                self._used += 1
                self._timers[connection].cancel()
                self._timers[connection] = loop.call_later(KEEP_ALIVE_S, nothing)
            await asyncio.sleep(0)


async def let_timers_fire(count: int, at_once: int = TIMERS) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count // at_once):
        done = loop.create_future()
        left = at_once

        def fire(done: asyncio.Future[None] = done) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        for delay_s in delays_s(at_once, *NEAR_S):
            loop.call_later(delay_s, fire)
        await done


async def flood(count: int) -> None:
    """Another thread calls as fast as it can. The whole process counts."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def call() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(done.set_result, None)

    await _run_beside(call, done)


async def round_trips(count: int) -> None:
    """Another thread and the loop have something to do in turn."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    answers: queue.SimpleQueue[None] = queue.SimpleQueue()

    def call() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(answers.put, None)
            answers.get()
        loop.call_soon_threadsafe(done.set_result, None)

    await _run_beside(call, done)


async def _run_beside(call: Callable[[], None], done: asyncio.Future[None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    await done
    thread.join()


@functools.cache
def _one_thread() -> ThreadPoolExecutor:
    """An executor that does not now and then start a thread more, which the other kinds would not have."""
    return ThreadPoolExecutor(1)


async def run_in_executor(count: int) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(_one_thread())
    for _ in range(count):
        await loop.run_in_executor(None, nothing)


async def resolve_literal(count: int) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(_one_thread())
    for _ in range(count):
        await loop.getaddrinfo("127.0.0.1", 80)


WORK: dict[str, Work] = {
    "chain": chain,
    "fan-out": fan_out,
    "gather": gather,
    "wait-for": wait_for,
    "timer-cancel": cancel_timers,
    "timer-cancel-many": functools.partial(cancel_timers, at_once=MANY_TIMERS),
    "timer-churn": KeptTimers().renew,
    "timer-fire": let_timers_fire,
    "timer-fire-many": functools.partial(let_timers_fire, at_once=MANY_TIMERS),
    "flood": flood,
    "round-trips": round_trips,
    "executor": run_in_executor,
    "literal": resolve_literal,
}
