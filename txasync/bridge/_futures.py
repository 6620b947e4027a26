"""Deferreds, as Futures."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ._failures import as_exception, error_of, is_cancellation, mark_as_seen
from ._presence import check_the_thread

__all__ = ["as_future"]

_T = TypeVar("_T")


def as_future(deferred: Deferred[_T], *, loop: asyncio.AbstractEventLoop | None = None) -> asyncio.Future[_T]:
    """
    Return a Future that is done when *deferred* has fired.

    Its result is the one that *deferred* has at this place among its callbacks; later callbacks see it too. An error is
    the Future's from then on: if nobody asks for it, asyncio reports it, and Twisted does not. A cancelled Deferred
    gives a cancelled Future, and cancelling the Future cancels *deferred*; what that then fails with, other than a
    cancellation, Twisted reports.

    Args:
        deferred: What to wait for.
        loop: The loop that the Future belongs to. Default: the running loop.

    Raises:
        TypeError: *deferred* is not a Deferred.
        RuntimeError: No loop runs and none was given; or the reactor runs in another thread.

    Context:
        The thread in which *deferred* fires, and in which the loop runs.

    Source:
        asyncio, "Futures"; Twisted, ``Deferred.asFuture``.
    """
    if not isinstance(deferred, Deferred):
        raise TypeError(f"as_future() takes a Deferred, got {deferred!r}: asyncio.ensure_future() takes awaitables")
    if loop is None:
        loop = asyncio.get_running_loop()
    check_the_thread(loop, deferred)
    future: asyncio.Future[_T] = loop.create_future()
    waiting, cancelling = True, False

    def fired(result: Any) -> Any:
        nonlocal waiting
        waiting = False
        if loop.is_closed():
            return result  # nobody can wait for the Future any more
        if isinstance(result, Failure):
            error = error_of(result)
            _fail(future, deferred, error, is_cancellation(error, in_answer=cancelling))
        elif not future.done():
            future.set_result(result)
        return result

    def done(future: asyncio.Future[_T]) -> None:
        nonlocal cancelling
        if waiting:  # cancelled by somebody else than us
            cancelling = True
            try:
                deferred.cancel()
            finally:
                cancelling = False

    deferred.addBoth(fired)
    future.add_done_callback(done)
    return future


def _fail(future: asyncio.Future[Any], deferred: Deferred[Any], error: BaseException, cancellation: bool) -> None:
    """Let *future*, unless it is cancelled already, take over the error that *deferred* has just failed with."""
    if future.done() and not cancellation:
        return  # it remains the Deferred's
    # Before all callbacks of the Future, and after those of the Deferred, which take the traceback off.
    future.get_loop().call_soon(_take_over, deferred, error, error.__traceback__)
    if future.done():
        return
    if cancellation:
        future.cancel(str(error) or None)
    else:
        future.set_exception(as_exception(error))


def _take_over(deferred: Deferred[Any], error: BaseException, traceback: Any) -> None:
    mark_as_seen(deferred, error)
    error.__traceback__ = traceback
