"""What fails in one world, as the other is to see it."""

from __future__ import annotations

import asyncio
import sys
import types
from typing import Any

from twisted.internet import defer
from twisted.internet.error import ConnectingCancelledError, DNSLookupError
from twisted.python.failure import Failure

__all__ = ["as_exception", "as_failure", "cancellation_requests", "error_of", "is_cancellation", "mark_as_seen"]

_CANCELLATIONS = (defer.CancelledError, asyncio.CancelledError, ConnectingCancelledError)


def error_of(failure: Failure) -> BaseException:
    """The exception that *failure* is about: it has one, though Twisted's types do not say so."""
    error = failure.value
    assert error is not None
    return error


def is_cancellation(error: BaseException, *, in_answer: bool = False) -> bool:
    """
    Whether *error* says that something was cancelled, in the words of either world.

    Twisted wraps some: ``gatherResults`` in a ``FirstError``, the HTTP client in exceptions that have ``reasons``.

    Args:
        error: What a Deferred has failed with.
        in_answer: It has done so in its ``cancel()``, where ``HostnameEndpoint`` says that there is no such name.
    """
    if isinstance(error, _CANCELLATIONS) or (in_answer and isinstance(error, DNSLookupError)):
        return True
    if isinstance(error, defer.FirstError):
        return is_cancellation(error_of(error.subFailure), in_answer=in_answer)
    reasons = getattr(error, "reasons", None)
    return isinstance(reasons, list) and any(
        isinstance(reason, Failure) and is_cancellation(error_of(reason), in_answer=in_answer) for reason in reasons
    )


def cancellation_requests(task: Any) -> int:
    """How many requests to cancel *task* stand; before Python 3.11, which counts them, 0."""
    return task.cancelling() if sys.version_info >= (3, 11) else 0


def as_failure(future: asyncio.Future[Any]) -> Failure | None:
    """The failure of *future*, which is done: asyncio's CancelledError as Twisted's; None if it has a result."""
    try:
        error = future.exception()
    except asyncio.CancelledError as cancelled:
        error = defer.CancelledError(*cancelled.args)
        # Without this frame, and its callers', which would be kept alive by what they have.
        error.__cause__ = cancelled.with_traceback(_after_this_frame(cancelled))
    if error is None:
        return None
    _forget_failure(error)
    return Failure(error, type(error), error.__traceback__)


def _after_this_frame(error: BaseException) -> types.TracebackType | None:
    """The traceback of *error* without the frame that has just caught it."""
    return error.__traceback__ and error.__traceback__.tb_next


def as_exception(error: BaseException) -> BaseException:
    """*error*, which a Deferred failed with, for ``Future.set_exception()``, which refuses a StopIteration."""
    if isinstance(error, StopIteration):
        refused = RuntimeError(f"a Deferred failed with {error!r}, which a Future cannot raise")
        refused.__cause__ = error
        return refused
    return error


def mark_as_seen(deferred: defer.Deferred[Any], error: BaseException) -> None:
    """
    If *error* is what *deferred* has failed with, somebody has seen it: Twisted will not report it as unhandled.

    It stays the result, for callbacks that are yet to come; Twisted forgets that it was seen when these have run.
    """
    if not deferred.called or not isinstance(deferred.result, Failure) or deferred.result.value is not error:
        return
    traceback, context = error.__traceback__, error.__context__
    paused, deferred.paused = deferred.paused, 0
    try:
        deferred.__await__().send(None)
    except BaseException:  # what it failed with; to raise that is how a Deferred learns that it was seen
        _forget_failure(error)
    finally:
        deferred.paused = paused
        # It is not to keep the frames that have raised it here, which have the Deferred, nor what is being handled.
        error.__traceback__, error.__context__ = traceback, context


def _forget_failure(error: BaseException) -> None:
    """
    Take off the Failure that Twisted, before 24.10, leaves on an error that is raised by ``await``.

    The two would keep each other alive, and a Failure of the error would show the frames of the first one.
    """
    vars(error).pop("__failure__", None)
