"""The driver: goes through a coroutine for a task, and sees to the Deferreds that it awaits."""

from __future__ import annotations

import asyncio
import inspect
import sys
import types
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet import defer

from ._waiting import Wait, throwing

__all__ = ["coroutine_of", "driver"]

_T = TypeVar("_T")

_Future = asyncio.Future
_Deferred = defer.Deferred

# The call graph of a task that runs ends where a coroutine was called by a function: so one stands before the driver.
_HAS_CALL_GRAPHS = sys.version_info >= (3, 14)


def _making_coroutines(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """
    Make of a generator function one whose generators are coroutines, as if it were an ``async def`` that may yield.

    This is what ``types.coroutine`` does, but with the flag of native coroutines: tasks take nothing else. With an
    ``async def`` round a generator, each step of each task would go through one more frame.
    """
    code = function.__code__
    flags = code.co_flags & ~inspect.CO_GENERATOR | inspect.CO_COROUTINE
    return types.FunctionType(code.replace(co_flags=flags), function.__globals__, function.__name__)


def _step(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return coroutine.send(None)


@_making_coroutines
def driver(coroutine):  # type: ignore[no-untyped-def]  # no type tells what the decorator does
    """
    Return a coroutine, for a task, that does what *coroutine* does and can await Deferreds.

    Begin it by ``send(None)``: then what the task throws into it before *coroutine* has begun - a cancellation - is
    thrown into *coroutine*, as it would be without us.
    """
    yielded = None
    try:
        while True:
            if yielded is None or type(yielded) is _Future or not isinstance(yielded, _Deferred):
                try:
                    yield yielded
                except GeneratorExit:
                    raise  # the coroutine is let go, and Python closes it, or warns that it was never awaited
                except BaseException as error:
                    resume = throwing(error)
                else:
                    yielded = _step(coroutine) if _HAS_CALL_GRAPHS else coroutine.send(None)
                    continue
            else:
                wait: Any = None
                try:
                    wait = Wait(yielded)
                    yielded = None
                    yield from wait.future
                except GeneratorExit:
                    raise
                except asyncio.CancelledError as error:
                    resume = wait.cancelled(error)
                except RuntimeError as error:
                    resume = throwing(error)
                else:
                    if wait.reads_itself():
                        wait = None
                        yielded = _step(coroutine) if _HAS_CALL_GRAPHS else coroutine.send(None)
                        continue
                    resume = wait.over()
                wait = None
            # Not in a handler: the error would become the context of whatever the coroutine raises next.
            try:
                yielded = resume(coroutine)
            finally:
                del resume
    except StopIteration as stop:
        return stop.value
    except defer.CancelledError as error:
        # Twisted has cancelled what the coroutine waited for. Awaiting a cancelled Future ends a task the same way.
        raise asyncio.CancelledError(*error.args) from error
    finally:
        yielded = None  # else the error that it may hold, and this frame of its traceback, would keep each other alive


def coroutine_of(driving: Any) -> Coroutine[Any, Any, Any]:
    """The coroutine that a `driver`, which has not ended, goes through."""
    coroutine: Coroutine[Any, Any, Any] = driving.cr_frame.f_locals["coroutine"]
    return coroutine
