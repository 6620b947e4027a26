"""
A Future for what an executor is doing, as ``asyncio.wrap_future()`` makes it, without its reference cycle.

asyncio joins the two futures by functions that know each other, so each call of an executor leaves a cycle of some
fifteen objects, result included, for the garbage collector. To find these costs a sixth of a call to a thread.
"""

from __future__ import annotations

import asyncio
import asyncio.futures
import concurrent.futures
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any, TypeVar

__all__ = ["future_of"]

_T = TypeVar("_T")

futures: Any = asyncio.futures


def future_of(
    source: concurrent.futures.Future[_T], loop: asyncio.AbstractEventLoop, run_soon: Callable[..., object]
) -> asyncio.Future[_T]:
    """
    Make a Future of *loop* that ends as *source* does; if it is cancelled, it cancels *source*.

    Args:
        source: What the executor has made.
        loop: The loop.
        run_soon: Called in whatever thread *source* ends, with a callable and its arguments, to call in the loop's.

    Context:
        The loop's thread.

    Source:
        asyncio, "Futures", ``asyncio.wrap_future()``.
    """
    future: asyncio.Future[_T] = loop.create_future()
    future.add_done_callback(MethodType(_cancel_if_cancelled, source))
    source.add_done_callback(partial(run_soon, _hand_over, future))
    return future


# As methods of *source*, of which two are equal, so that one removes the other.
def _cancel_if_cancelled(source: concurrent.futures.Future[Any], future: asyncio.Future[Any]) -> None:
    if future.cancelled():
        source.cancel()


def _hand_over(future: asyncio.Future[Any], source: concurrent.futures.Future[Any]) -> None:
    if future.done() or source._state != "FINISHED" or source._exception is not None:
        futures._copy_future_state(source, future)
    else:
        # The same, without taking the lock of *source* five times; and there is nothing left to cancel.
        future.remove_done_callback(MethodType(_cancel_if_cancelled, source))
        future.set_result(source._result)
