"""The driver: goes through a coroutine for a task, and sees to the Deferreds that it awaits."""

from __future__ import annotations

import asyncio
import inspect
import sys
import types
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet import defer

from ._task import Task
from ._waiting import Resume, Wait, throwing

__all__ = ["driver"]

_T = TypeVar("_T")

# The modules whose frames may be between a task and its coroutine.
_OURS = (__name__, Wait.__module__)

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


def _has_failed_with(awaited: Any, error: BaseException) -> bool:
    """Whether *awaited* is a Future that failed with *error*."""
    return asyncio.isfuture(awaited) and awaited.done() and not awaited.cancelled() and awaited.exception() is error


def _without_the_driver(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """*traceback* from the coroutine on; all of it if the error did not come from there."""
    rest = traceback
    while rest is not None and rest.tb_frame.f_globals.get("__name__") in _OURS:
        rest = rest.tb_next
    return rest or traceback


def _wait_for_the_first_step(_coroutine: Coroutine[Any, Any, Any]) -> None:
    pass


@_making_coroutines
def driver(coroutine, loop):  # type: ignore[no-untyped-def]  # no type tells what the decorator does
    """
    Return a coroutine, for a task, that does what *coroutine* does and can await Deferreds.

    Begin it by ``send(None)``, which does not begin *coroutine*: then what the task throws into it before its first
    step - a cancellation - is thrown into *coroutine*, as it would be without us.

    Args:
        coroutine: The coroutine.
        loop: The task's loop.
    """
    yielded: Any = None
    resume: Resume | None = _wait_for_the_first_step
    try:
        while True:
            # Not in a handler: the error there would become the context of whatever the coroutine raises next.
            if resume is None:
                yielded = coroutine.send(None) if not _HAS_CALL_GRAPHS else _step(coroutine)
            else:
                try:
                    yielded = resume(coroutine)
                finally:
                    resume = None
            # The usual ones first: to have isinstance() say no takes longer than all else here.
            if (
                yielded is None
                or type(yielded) is _Future
                or type(yielded) is Task
                or not isinstance(yielded, _Deferred)
            ):
                try:
                    yield yielded
                except GeneratorExit as error:
                    if not _has_failed_with(yielded, error):
                        raise  # the coroutine is let go, and Python closes it, or warns that it was never awaited
                    resume = throwing(error)
                except BaseException as error:
                    resume = throwing(error)
            else:
                wait: Any = None
                try:
                    wait = Wait(yielded, loop)
                    yielded = None
                    yield wait.future
                except GeneratorExit:
                    raise
                except asyncio.CancelledError as error:
                    resume = wait.cancelled(error)
                except RuntimeError as error:
                    resume = throwing(error)
                else:
                    resume = wait.over()
                wait = None
    except StopIteration as stop:
        return stop.value
    except defer.CancelledError as error:
        # Twisted has cancelled what the coroutine waited for. Awaiting a cancelled Future ends a task the same way.
        raise asyncio.CancelledError(*error.args) from error
    except BaseException as error:
        error.__traceback__ = _without_the_driver(error.__traceback__)
        raise
    finally:
        yielded = None  # else the error that it may hold, and this frame of its traceback, would keep each other alive
