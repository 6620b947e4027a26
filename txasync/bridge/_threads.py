"""From any thread to the reactor's."""

from __future__ import annotations

import concurrent.futures
import inspect
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from .. import _loops, _reactors
from ._deferreds import as_deferred
from ._failures import error_of

__all__ = ["run_in_reactor_thread"]


def run_in_reactor_thread(
    function: Callable[..., Any], /, *args: Any, reactor: Any = None, **kwargs: Any
) -> concurrent.futures.Future[Any]:
    """
    Call *function* in the reactor's thread.

    If it returns a Deferred, a coroutine or another awaitable, the Future that is returned gets the result of that.
    Cancelling the Future cancels that, too. Another loop waits for it by ``asyncio.wrap_future()``.

    Args:
        function: What to call; an ``async def``, too.
        args: Its positional arguments.
        reactor: The reactor. Default: the process's.
        kwargs: Its keyword arguments, except one named *reactor*.

    Returns:
        A Future whose ``result(timeout)`` must not be waited for in the reactor's thread.

    Raises:
        RuntimeError: There is no reactor, or it was stopped.

    Context:
        Any thread. A reactor that does not run yet calls the function when it does.

    Source:
        Twisted, ``IReactorFromThreads`` and ``blockingCallFromThread``; asyncio, ``run_coroutine_threadsafe()``;
        PEP 3148.
    """
    if reactor is None:
        reactor = _reactors.installed_reactor()
        if reactor is None:
            raise RuntimeError("no reactor is installed: call txasync.install() in the thread that is to run it")
    if _reactors.was_stopped(reactor):
        raise RuntimeError(f"{reactor!r} was stopped, so it will not call {function!r}")
    call = _Call(reactor, lambda: function(*args, **kwargs))
    reactor.callFromThread(call.begin)
    return call.future


class _Call:
    """
    A function that is called in the reactor's thread, and the Future of another thread that waits for it.

    Attributes:
        future: The Future.
    """

    def __init__(self, reactor: Any, function: Callable[[], Any]) -> None:
        self._reactor = reactor
        self._function = function
        self._deferred: Deferred[Any] | None = None
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.future.add_done_callback(self._future_done)

    def begin(self) -> None:
        """Call the function, in the reactor's thread."""
        if self.future.cancelled():
            return
        try:
            result = self._function()
            if inspect.isawaitable(result):
                self._deferred = as_deferred(result, loop=_loops.any_loop_of(self._reactor))
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            if self._deferred is None:
                self._succeed(result)
            else:
                self._deferred.addCallbacks(self._succeed, self._failed)

    def _succeed(self, result: object) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            self.future.cancel()
        self._fail(error_of(failure))

    def _future_done(self, future: concurrent.futures.Future[Any]) -> None:
        if future.cancelled():
            self._reactor.callFromThread(self._cancel)

    def _cancel(self) -> None:
        if self._deferred is not None:
            self._deferred.cancel()
