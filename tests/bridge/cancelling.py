"""What the tests of cancellation share: tasks that wait, and what they get when they are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred


async def started(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has got to where *coroutine* waits first."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


async def awaiting(awaitable: Any) -> object:
    """Await *awaitable*, one call deeper."""
    return await awaitable


async def outcome_of(awaitable: Any) -> object:
    """What a coroutine gets by awaiting *awaitable*: a result, or an error."""
    try:
        return await awaitable
    except BaseException as error:
        return error


async def cancelled_while_waiting_for(deferred: Deferred[Any]) -> object:
    """What a coroutine gets that waits for *deferred* when its task is cancelled."""
    task = await started(outcome_of(deferred))
    task.cancel()
    return await task


def cancelled_cancellers(count: int) -> tuple[list[Deferred[Any]], list[Deferred[Any]]]:
    """Deferreds, and the list in which each of them is noted when it is cancelled."""
    cancelled: list[Deferred[Any]] = []
    return [Deferred(cancelled.append) for _ in range(count)], cancelled
