"""One run of one test under trial: its loop, its context, and the end of what it leaves."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from .. import _loops
from .._error_log import telling_twisted
from ..bridge import as_deferred, task_factory
from ..loop import ReactorEventLoop
from ..running import install

__all__ = ["Function", "TestRun"]

Function = Callable[[], Any]

_log = Logger()


class TestRun:
    """
    Calls the functions of a test in turns of the reactor, and waits for what they return.

    Args:
        reactor: The process's reactor, which need not run yet.
        time_limit_s: How long what was cancelled at trial's time limit has to end, in seconds.

    Attributes:
        is_set_up: Whether ``setUp`` has succeeded, so that ``tearDown`` is going to be called.
    """

    __test__ = False  # its name does not make it a test of pytest's

    def __init__(self, reactor: Any, time_limit_s: float) -> None:
        self.is_set_up = False
        self._reactor = reactor
        self._time_limit_s = time_limit_s
        self._owns_loop = _loops.any_loop_of(reactor) is None
        self._loop = install(reactor)
        self._context = contextvars.copy_context()
        self._older_tasks = asyncio.all_tasks(self._loop)
        self._generators = _Generators()
        if not isinstance(self._loop, ReactorEventLoop) and self._loop.get_exception_handler() is None:
            self._loop.set_exception_handler(_tell_both)

    def call(self, functions: Sequence[Function], finally_: Sequence[Function] = ()) -> Deferred[None]:
        """
        Call each of *functions* when the one before it is done and unless it has failed; then all of *finally_*.

        Trial may fail the Deferred when its time is over: then the function that is being waited for is cancelled, and
        what follows in the Deferred waits until that has ended.
        """
        work: Deferred[Any] = succeed(None)
        for function in functions:
            work.addCallback(self._next, function)
        for function in finally_:
            work.addBoth(self._then, function)
        return _failable(work, self._reactor, self._time_limit_s)

    def _next(self, ignored: Any, function: Function) -> Deferred[Any]:
        return self._in_a_turn(function)

    def _then(self, result: Any, function: Function) -> Deferred[Any]:
        def failed(failure: Failure) -> Any:
            if not isinstance(result, Failure):
                return failure
            _log.failure("failed at the end of a test", failure)
            return result

        return self._in_a_turn(function).addCallbacks(lambda ignored: result, failed)

    def _in_a_turn(self, function: Function) -> Deferred[Any]:
        return deferLater(self._reactor, 0, self._begin, function)

    def _begin(self, function: Function) -> Deferred[Any] | None:
        self._generators.watch()
        result = self._context.run(function)
        if inspect.isasyncgen(result):
            raise TypeError(f"{function!r} is an asynchronous generator function, which never runs: it has a yield")
        if inspect.iscoroutine(result):
            return self._in_a_task(result)
        return as_deferred(result) if inspect.isawaitable(result) else None

    if sys.version_info >= (3, 11):

        def _in_a_task(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
            return as_deferred(task_factory(self._loop, coroutine, context=self._context))

    else:

        def _in_a_task(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
            async def keeping_the_context() -> Any:
                try:
                    return await coroutine
                finally:
                    self._context = contextvars.copy_context()

            return self._context.run(as_deferred, keeping_the_context())

    async def end(self) -> None:
        """Cancel the tasks that the test has left and await them, close its generators, and end its loop's threads."""
        this_one = asyncio.current_task(self._loop)
        while left := asyncio.all_tasks(self._loop) - self._older_tasks - {this_one}:
            for task in left:
                task.cancel()
            await asyncio.wait(left)
            for task in left:
                self._report(task)
        await self._generators.close(self._loop)
        if self._owns_loop:
            await self._loop.shutdown_default_executor()

    def _report(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            message = "unhandled exception while a task was cancelled at the end of a test"
            self._loop.call_exception_handler({"message": message, "exception": error, "task": task})

    def close(self) -> None:
        """Close the loop, if it was made for this test. The reactor does not run any more."""
        if self._owns_loop:
            self._loop.close()
        elif self._loop.get_exception_handler() is _tell_both:
            self._loop.set_exception_handler(None)


class _Generators:
    """The asynchronous generators of a test. A loop's own ``shutdown_asyncgens()`` is for once, and for all of them."""

    def __init__(self) -> None:
        self._begun: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._hooks = sys.get_asyncgen_hooks()

    def watch(self) -> None:
        """Be told of generators that begin, besides the loop that runs and that sets its hooks when it starts."""
        hooks = sys.get_asyncgen_hooks()
        if hooks.firstiter != self._begins:
            self._hooks = hooks
            sys.set_asyncgen_hooks(firstiter=self._begins)

    def _begins(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._begun.add(generator)
        if self._hooks.firstiter is not None:
            self._hooks.firstiter(generator)

    async def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close those that have begun, and watch no more."""
        if sys.get_asyncgen_hooks().firstiter == self._begins:
            sys.set_asyncgen_hooks(firstiter=self._hooks.firstiter)
        generators = list(self._begun)
        ended = await asyncio.gather(*(generator.aclose() for generator in generators), return_exceptions=True)
        for generator, error in zip(generators, ended, strict=True):
            if isinstance(error, Exception):
                message = f"an error occurred during closing of asynchronous generator {generator!r}"
                loop.call_exception_handler({"message": message, "exception": error, "asyncgen": generator})


def _failable(work: Deferred[Any], clock: Any, time_limit_s: float) -> Deferred[Any]:
    """Fires as *work* does; but others may fail it before: then *work* is cancelled, and its end waited for."""
    done: Deferred[Any] = Deferred()
    ended: Deferred[None] = Deferred()

    def pass_on(result: Any) -> None:
        early = not done.called
        ended.callback(None)
        if early:
            done.callback(result)
        elif isinstance(result, Failure) and result.check(CancelledError) is None:
            _log.failure("failed when it was cancelled at the test's time limit", result)

    def failed(failure: Failure) -> Any:
        if ended.called:
            return failure
        work.cancel()
        ended.addTimeout(time_limit_s, clock)
        ended.addErrback(lambda late: _log.failure("went on when it was cancelled at the test's time limit", failure))
        return ended.addCallback(lambda ignored: failure)

    work.addBoth(pass_on)
    return done.addErrback(failed)


def _tell_both(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Let trial hear of errors in the callbacks of a loop that is not ours, as it does of those in ours."""
    with telling_twisted(context):
        loop.default_exception_handler(context)
