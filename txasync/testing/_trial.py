"""
Trial's TestCase, with asyncio.

Trial calls ``setUp`` and, if that ends at once, the test itself before it runs the reactor; there, no loop runs. So the
functions of a test are replaced, while it runs, by ones that return a Deferred and begin in a turn of the reactor. The
ones that are waited for are awaited in a task; the others are called in that turn itself, so that
``asyncio.current_task()`` is None in them, and a test may still iterate the reactor.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import TestCase

from ._test_run import Function, TestRun

__all__ = ["AsyncTestCase"]

_T = TypeVar("_T")


class AsyncTestCase(TestCase):
    """
    A test case for trial in which asyncio works at every moment, under any ``trial --reactor``.

    Tests, ``setUp``, ``tearDown`` and what is given to `addCleanup` may be ``async def`` functions, in which Deferreds
    and asyncio's awaitables can be awaited, or ordinary functions, which may return either. In all of them
    ``asyncio.get_running_loop()`` is the loop of the process's reactor: the one that it has, or else a new one for each
    test, closed after it. Context variables that one of them sets are seen by those that come after it.

    What `unittest.IsolatedAsyncioTestCase` has is here too, so that a suite can be switched from it: `asyncSetUp`,
    `asyncTearDown`, `addAsyncCleanup`, `enterAsyncContext`. As always in trial, cleanups run before ``tearDown``.

    At the end of a test, the tasks that it has left are cancelled and awaited, and its asynchronous generators closed.
    Exceptions of asyncio's callbacks are errors of the test, unless it calls ``flushLoggedErrors()``. Trial's time
    limit cancels what it has been waiting for, and waits as long again for its end.

    Context:
        Trial, with ``--jobs`` or without; or pytest.

    Cancellation:
        Whatever is awaited in a test is cancelled at trial's time limit, as a task is.

    Source:
        Twisted, ``twisted.trial.unittest.TestCase``; unittest, ``IsolatedAsyncioTestCase``.
    """

    _txasync_run: TestRun | None = None

    def __init__(self, methodName: str = "runTest") -> None:
        super().__init__(methodName)
        self._txasync_functions = "setUp", "tearDown", methodName

    # A subclass may await these when it calls super(), or may not.

    def setUp(self) -> Any:
        """
        Prepare the test; may be an ``async def`` in a subclass.

        Source:
            unittest, ``TestCase.setUp()``.
        """
        return succeed(None)

    def tearDown(self) -> Any:
        """
        Undo what `setUp` did; may be an ``async def`` in a subclass.

        Source:
            unittest, ``TestCase.tearDown()``.
        """
        return succeed(None)

    async def asyncSetUp(self) -> None:
        """
        Prepare the test, after `setUp`.

        Source:
            unittest, ``IsolatedAsyncioTestCase.asyncSetUp()``.
        """

    async def asyncTearDown(self) -> None:
        """
        Undo what `asyncSetUp` did, before `tearDown`.

        Source:
            unittest, ``IsolatedAsyncioTestCase.asyncTearDown()``.
        """

    def addCleanup(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """
        Call a function after the test, before `tearDown`; the one added last comes first.

        Args:
            f: The function; may be an ``async def``.
            args: What it is called with.
            kwargs: What it is called with, too.

        Source:
            unittest, ``TestCase.addCleanup()``.
        """

        @functools.wraps(f)
        def clean_up(*args: Any, **kwargs: Any) -> Deferred[None]:
            return self._call(functools.partial(f, *args, **kwargs))

        super().addCleanup(clean_up, *args, **kwargs)

    def addAsyncCleanup(self, f: Callable[..., Awaitable[object]], /, *args: Any, **kwargs: Any) -> None:
        """
        Call a function and await what it returns; the same as `addCleanup` here.

        Source:
            unittest, ``IsolatedAsyncioTestCase.addAsyncCleanup()``.
        """
        self.addCleanup(f, *args, **kwargs)

    async def enterAsyncContext(self, cm: AbstractAsyncContextManager[_T]) -> _T:
        """
        Enter *cm* now, and leave it by a cleanup. Returns what its ``__aenter__()`` does.

        Raises:
            TypeError: *cm* is no asynchronous context manager.

        Source:
            unittest, ``IsolatedAsyncioTestCase.enterAsyncContext()``.
        """
        kind = type(cm)
        if not (hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__")):
            raise TypeError(f"{cm!r} is not an asynchronous context manager: it has no __aenter__() and __aexit__()")
        entered = await kind.__aenter__(cm)
        self.addCleanup(kind.__aexit__, cm, None, None, None)
        return entered

    def run(self, result: Any) -> None:  # type: ignore[override]
        """
        Run the test; for the test runner.

        Source:
            unittest, ``TestCase.run()``.
        """
        own = vars(self)
        before = {name: own[name] for name in self._txasync_functions if name in own}
        own.update(self._functions_in_turns(*(getattr(self, name) for name in self._txasync_functions)))
        try:
            super().run(result)
        finally:
            for name in self._txasync_functions:
                own.pop(name, None)
            own.update(before)
            run, self._txasync_run = self._txasync_run, None
            if run is not None:
                run.close()

    def _functions_in_turns(self, set_up: Function, tear_down: Function, test: Function) -> dict[str, Function]:
        """What trial is to call in place of these: what returns a Deferred, and begins in a turn of the reactor."""
        in_turns: dict[str, Function] = {
            "setUp": functools.wraps(set_up)(lambda: self._set_up([set_up, self.asyncSetUp])),
            "tearDown": functools.wraps(tear_down)(lambda: self._tear_down([self.asyncTearDown, tear_down])),
        }
        if not inspect.isgeneratorfunction(test):  # of which trial says that it would never run
            in_turns[self._txasync_functions[-1]] = functools.wraps(test)(lambda: self._call(test))
        return in_turns

    def _set_up(self, functions: list[Function]) -> Deferred[None]:
        from twisted.internet import reactor  # trial has chosen it

        run = self._txasync_run = TestRun(reactor, self.getTimeout())

        def end_unless_torn_down() -> Deferred[None] | None:
            return None if run.is_set_up else run.call([run.end])

        def set_up(ignored: None) -> None:
            run.is_set_up = True

        super().addCleanup(end_unless_torn_down)
        return run.call(functions).addCallback(set_up)

    def _tear_down(self, functions: list[Function]) -> Deferred[None]:
        run = self._present_run()
        return run.call(functions, finally_=[run.end])

    def _call(self, function: Function) -> Deferred[None]:
        return self._present_run().call([function])

    def _present_run(self) -> TestRun:
        if self._txasync_run is None:
            raise RuntimeError(f"{self.id()} does not run: its functions are for trial to call, after its setUp()")
        return self._txasync_run
