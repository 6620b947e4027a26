"""What the servers do with tasks, Futures and Deferreds on request: nothing but the loop's own queue is in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

# So many tasks have something to do in each round of the loop that the round itself does not count.
AT_ONCE = 100
# So few tasks are made before the first begins that their objects do not make a garbage collection due.
MADE_AT_ONCE = 20

# Does something as often as it is told.
Work = Callable[[int], Coroutine[Any, Any, None]]


def at_once(work: Work) -> Work:
    """Return what does *work* in many tasks, each of which does its share."""

    async def work_at_once(count: int) -> None:
        await asyncio.gather(*(work(count // AT_ONCE) for _ in range(AT_ONCE)))

    return work_at_once


async def step(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def make_tasks(count: int) -> None:
    for _ in range(count // MADE_AT_ONCE):
        # No gather(): what that takes for each task is no task's cost.
        for task in [asyncio.create_task(_return_at_once()) for _ in range(MADE_AT_ONCE)]:
            await task


async def _return_at_once() -> None:
    pass


async def await_futures(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def await_deferreds(count: int) -> None:
    """For tasks that can."""
    # Here, so that the servers without Twisted do not have it in their memory.
    from twisted.internet.defer import Deferred

    loop = asyncio.get_running_loop()
    for _ in range(count):
        deferred: Deferred[None] = Deferred()
        loop.call_soon(deferred.callback, None)
        await deferred


def await_deferreds_by(as_future: Callable[[Any], Awaitable[None]]) -> Work:
    """Return what does the same in tasks that cannot."""

    async def await_futures_of_deferreds(count: int) -> None:
        from twisted.internet.defer import Deferred

        loop = asyncio.get_running_loop()
        for _ in range(count):
            deferred: Deferred[None] = Deferred()
            loop.call_soon(deferred.callback, None)
            await as_future(deferred)

    return await_futures_of_deferreds
