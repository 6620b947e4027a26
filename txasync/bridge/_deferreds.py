"""Coroutines, Tasks and Futures, as Deferreds."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred

from .. import _loops, _reactors
from ._failures import as_failure
from ._task_factories import task_factory

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    _P = ParamSpec("_P")

__all__ = ["as_deferred", "deferred_coroutine"]

_T = TypeVar("_T")

# asyncio itself holds its tasks by weak references only.
_running_tasks: set[asyncio.Task[Any]] = set()


def as_deferred(awaitable: Awaitable[_T], *, loop: asyncio.AbstractEventLoop | None = None) -> Deferred[_T]:
    """
    Return a Deferred that fires when *awaitable* is done.

    A coroutine becomes a task, in which both Deferreds and asyncio's awaitables can be awaited, on any loop; it begins
    in the loop's next round. Cancelling the Deferred cancels the task or Future, and it fires when that is done: with
    Twisted's CancelledError, as a rule. If that comes to nothing because the task goes on, so does the Deferred.

    Args:
        awaitable: A coroutine, a Task, a Future, or anything else that can be awaited. A Deferred is returned as it is.
        loop: The loop for a new task. Default: the running loop, else that of the process's reactor.

    Raises:
        TypeError: *awaitable* cannot be awaited.
        RuntimeError: There is no loop; or *awaitable* is a Future of another one than that which runs here.

    Context:
        The loop's thread; the loop, or its reactor, may be started later.

    Source:
        Twisted, ``Deferred.fromFuture`` and ``Deferred.fromCoroutine``; asyncio, "Awaitables".
    """
    if isinstance(awaitable, Deferred):
        return awaitable
    if asyncio.isfuture(awaitable):
        _check_the_loop(awaitable)
        return _FutureDeferred(awaitable)
    coroutine = awaitable if asyncio.iscoroutine(awaitable) else _awaiting(_checked(awaitable))
    try:
        task = task_factory(_checked_loop(loop or _present_loop()), coroutine)
    except BaseException:
        coroutine.close()  # it will never be awaited; the error says enough
        raise
    _running_tasks.add(task)
    task.add_done_callback(_running_tasks.discard)
    return _FutureDeferred(task)


def deferred_coroutine(function: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Deferred[_T]]:
    """
    Make an ``async def`` a function that returns a Deferred: a decorator for functions and methods.

    What the function does is done in a task, as by `as_deferred`, in which both Deferreds and asyncio's awaitables can
    be awaited.

    Args:
        function: A coroutine function; or a ``staticmethod`` or ``classmethod`` of one.

    Raises:
        TypeError: *function* is none.

    Context:
        As `as_deferred`, when the function is called.

    Source:
        Twisted, ``inlineCallbacks``; asyncio, "Coroutines".
    """
    if isinstance(function, staticmethod | classmethod):
        return type(function)(deferred_coroutine(function.__func__))
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"deferred_coroutine() decorates an `async def`, got {function!r}")

    @functools.wraps(function)
    def returning_a_deferred(*args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        return as_deferred(function(*args, **kwargs))

    return returning_a_deferred


class _FutureDeferred(Deferred[Any]):
    """Fires when a Future is done. To cancel it is to cancel the Future, which may take its time, or not heed it."""

    def __init__(self, future: asyncio.Future[Any]) -> None:
        super().__init__()
        self._waiting_for: Any = future
        future.add_done_callback(self._future_done)

    def cancel(self) -> None:
        if self.called:
            super().cancel()
        else:
            self._waiting_for.cancel()

    def _future_done(self, future: asyncio.Future[Any]) -> None:
        self._waiting_for = None
        failure = as_failure(future)
        if failure is not None:
            self.errback(failure)
            return
        result = future.result()
        if isinstance(result, Deferred):
            self._waiting_for = result
            result.chainDeferred(self)
        else:
            self.callback(result)


async def _awaiting(awaitable: Awaitable[_T]) -> _T:
    return await awaitable


def _checked(awaitable: Any) -> Awaitable[Any]:
    if not inspect.isawaitable(awaitable):
        raise TypeError(f"as_deferred() takes a coroutine, a Future or another awaitable, got {awaitable!r}")
    return awaitable


def _present_loop() -> asyncio.AbstractEventLoop:
    """The loop that runs here, or that of the process's reactor."""
    running = asyncio.events._get_running_loop()
    if running is not None:
        return running
    reactor = _reactors.installed_reactor()
    loop: asyncio.AbstractEventLoop | None = None if reactor is None else _loops.any_loop_of(reactor)
    if loop is None:
        raise RuntimeError("no asyncio loop is there to run the coroutine: call txasync.install() first")
    return loop


def _checked_loop(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    if loop.is_closed():
        raise RuntimeError(f"Event loop is closed: {loop!r} will not run the coroutine")
    return loop


def _check_the_loop(future: asyncio.Future[Any]) -> None:
    running = asyncio.events._get_running_loop()
    if running is not None and future.get_loop() is not running:
        raise RuntimeError(
            f"{future!r} belongs to another loop than the one that runs here, {running!r}, and would fire the "
            f"Deferred in that one's thread: use asyncio.run_coroutine_threadsafe() and asyncio.wrap_future()"
        )
