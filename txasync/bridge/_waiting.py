"""A task waits for a Deferred: what the two tell each other, and how the coroutine goes on."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ._failures import cancellation_requests, error_of, is_cancellation, mark_as_seen
from ._presence import check_that_a_reactor_runs

__all__ = ["Wait", "throwing"]

_Coroutine = Coroutine[Any, Any, Any]
Resume = Callable[[_Coroutine], Any]
"""Goes on with a coroutine that waits for a Deferred; returns what it yields next."""

_NOTHING: Any = object()
_TOO_LATE: Any = object()
_AWAIT = Deferred.__iter__.__code__  # that of __await__, too

_Future = asyncio.Future


class Wait:
    """
    One await of a Deferred.

    It takes its place among the Deferred's callbacks, and hands on what it gets: the result of the await is the one
    that the Deferred had at that place, and later callbacks, which run at once, see it too.

    A cancelled task cancels the Deferred. If that gives it a result, or an error other than a cancellation, the
    coroutine gets it, as it would from an inner task; otherwise it gets its CancelledError at once, whatever becomes of
    the Deferred. A result that was there when the cancellation came is not lost: the coroutine gets it first, and the
    CancelledError at its next await.

    Args:
        deferred: What a coroutine of the running task awaits.
        loop: The task's loop.

    Raises:
        RuntimeError: No reactor runs in this thread.

    Attributes:
        future: What the task is to wait for: done as soon as there is a result. The driver yields it as it is.
    """

    __slots__ = ("_deferred", "_failed", "_result", "_traceback", "future")

    _traceback: Any  # of a result that is a failure: the Deferred takes it off when its callbacks have run

    def __init__(self, deferred: Deferred[Any], loop: Any) -> None:
        if not hasattr(loop, "reactor"):  # else it is one of ours, which runs only while its reactor does
            check_that_a_reactor_runs(loop, deferred)
        future: Any = _Future(loop=loop)
        future._asyncio_future_blocking = True
        self._deferred = deferred
        self.future: asyncio.Future[None] = future
        self._result: Any = _NOTHING
        self._failed = False
        deferred.addBoth(self._arrived)

    def _arrived(self, result: Any) -> Any:
        if self._result is _TOO_LATE:
            self._come_too_late(result)
            return result
        self._result = result
        if result is not None and isinstance(result, Failure):
            self._failed = True
            self._traceback = error_of(result).__traceback__
        try:
            self.future.set_result(None)
        except asyncio.InvalidStateError:
            pass  # cancelled
        except RuntimeError:
            if not self.future.get_loop().is_closed():
                raise
        return result

    def _come_too_late(self, result: Any) -> None:
        """The coroutine has gone on with its CancelledError; if this is a cancellation too, nobody need hear of it."""
        loop = self.future.get_loop()
        if isinstance(result, Failure) and is_cancellation(error_of(result)) and not loop.is_closed():
            loop.call_soon(mark_as_seen, self._deferred, error_of(result))

    def over(self) -> Resume | None:
        """There is a result, or an error: how the coroutine gets it; None if it finds it in the Deferred."""
        deferred, result = self._deferred, self._result
        if self._failed:
            error = error_of(result)
            mark_as_seen(deferred, error)
            return throwing(error.with_traceback(self._traceback))
        if deferred.result is result and not deferred.paused:
            return None
        return functools.partial(_go_on_with, result, deferred)

    def cancelled(self, error: asyncio.CancelledError) -> Resume | None:
        """The task was cancelled while it waited: how the coroutine gets *error*, or what is there instead."""
        if self._result is not _NOTHING:
            requests = cancellation_requests(asyncio.current_task())
            return functools.partial(_go_on_and_cancel, self.over(), requests, error.args)
        try:
            self._cancel()
        except (SystemExit, KeyboardInterrupt) as interruption:
            self._result = _TOO_LATE
            return throwing(interruption)
        if self._result is _NOTHING:
            self._result = _TOO_LATE
        elif not self._failed or not is_cancellation(error_of(self._result), in_answer=True):
            return self.over()
        else:
            mark_as_seen(self._deferred, error_of(self._result))
        return throwing(error)

    def _cancel(self) -> None:
        try:
            self._deferred.cancel()
        except Exception as error:
            self.future.get_loop().call_exception_handler(
                {"message": f"The canceller of {self._deferred!r} raised an exception", "exception": error}
            )


def throwing(error: BaseException) -> Resume:
    """How a coroutine gets *error*, which nothing here holds meanwhile."""
    return functools.partial(_throw, [error])


def _throw(errors: list[BaseException], coroutine: _Coroutine) -> Any:
    error = errors.pop()
    try:
        return coroutine.throw(error)
    finally:
        _leave_the_await(error)
        del error  # it and this frame, which is in its traceback, would keep each other alive


def _leave_the_await(error: BaseException) -> None:
    """Let the frames that *error* has left forget their Deferreds: one that has failed with it would keep it alive."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code is _AWAIT:
            traceback.tb_frame.clear()
        traceback = traceback.tb_next


def _go_on_and_cancel(resume: Resume | None, requests: int, message: tuple[Any, ...], coroutine: _Coroutine) -> Any:
    """
    Let *coroutine* have what has come; the cancellation of its task reaches it where it waits next.

    If it waits no more, what it returns is not lost, either.
    """
    try:
        yielded = coroutine.send(None) if resume is None else resume(coroutine)
    finally:
        del resume
    task: Any = asyncio.current_task()
    if not requests or cancellation_requests(task):  # else the coroutine has taken all of them back
        task.cancel(*message)
        if sys.version_info >= (3, 11):
            task.uncancel()  # that was no further request
    return yielded


def _go_on_with(result: object, deferred: Deferred[Any], coroutine: _Coroutine) -> Any:
    """
    Go on with *coroutine*, which gets *result*, though later callbacks of *deferred* have made another of it.

    A coroutine that awaits a Deferred reads the Deferred's result when it goes on. So the Deferred has the earlier
    result for the length of this step.
    """
    later, paused = deferred.result, deferred.paused
    deferred.result, deferred.paused = result, 0
    try:
        return coroutine.send(None)
    finally:
        if deferred.paused == 0 and deferred.result is result:
            deferred.result = later
        deferred.paused += paused  # one less, if what it waited for has fired in this step
        if paused:  # else the later result, if it is an error that somebody has seen, would become unhandled again
            deferred.pause()
            deferred.unpause()  # runs the callbacks for which it was too early then
        del result, later, deferred  # this frame is in the traceback of an error that the coroutine lets out
