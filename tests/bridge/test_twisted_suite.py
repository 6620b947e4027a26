"""
Twisted's own tests of ``Deferred.asFuture`` and ``Deferred.fromFuture``, run with `as_future` and `as_deferred`.

They are those of the installed Twisted: the source of each test case is compiled in a namespace of ours, in which
``Deferred`` is a subclass that has our conversions. Twisted itself is left alone, and its test module, which needs
packages of its own and imports the process's reactor, is not imported.
"""

from __future__ import annotations

import ast
import asyncio
import contextvars
import functools
import importlib.util
import types
import unittest
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import txasync
from txasync import ReactorEventLoop, as_deferred, as_future


class Difference(NamedTuple):
    """
    A test of Twisted's that ours does not pass, and is not to.

    Attributes:
        error: What the test says.
        reason: Why ours is better.
    """

    error: str
    reason: str


PASSED_ON = "Twisted's consumes the result of the Deferred; ours passes it on, so that later callbacks see it too"
OWN_CLASS = (
    "Twisted's fails with asyncio's CancelledError, which no errback of Twisted code expects; ours with Twisted's"
)

DIFFERENCES = {
    "test_asFuture": Difference("FailTest: 13 != None", PASSED_ON),
    "test_asFutureCancelFuture": Difference("found failure result", PASSED_ON),
    "test_asFutureSuccessCancel": Difference("FailTest: 9 != None", PASSED_ON),
    "test_fromFutureFutureCancelled": Difference("twisted.internet.defer.CancelledError", OWN_CLASS),
    "test_fromFutureDeferredCancelled": Difference("twisted.internet.defer.CancelledError", OWN_CLASS),
}


class OurDeferred(defer.Deferred[Any]):
    """A Deferred whose conversions are ours."""

    def asFuture(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        return as_future(self, loop=loop)

    @classmethod
    def fromFuture(cls, future: asyncio.Future[Any]) -> defer.Deferred[Any]:
        return as_deferred(future)


@functools.cache
def compiled(case: str) -> types.CodeType:
    """The definition of a test case of Twisted's, and of the function that these test cases use."""
    specification = importlib.util.find_spec("twisted.test.test_defer")
    assert specification is not None and specification.origin is not None
    tree = ast.parse(Path(specification.origin).read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", None) in (case, "callAllSoonCalls")]
    return compile(tree, specification.origin, "exec")  # its annotations are not evaluated, as are those here


def twisteds_case(name: str, **namespace: Any) -> Any:
    """A test case of Twisted's, in which the names of *namespace* are what they are there."""
    namespace["__name__"] = __name__
    # Twisted's own runs the process's reactor; these tests do not need it.
    namespace["unittest"] = types.SimpleNamespace(TestCase=SynchronousTestCase)
    exec(compiled(name), namespace)
    return namespace[name]


NewLoop = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, NewLoop] = {
    "asyncio's": asyncio.new_event_loop,
    "ours": functools.partial(txasync.new_event_loop, private=True),
}


def conversions(deferred: type[defer.Deferred[Any]], new_loop: NewLoop) -> Any:
    """The tests of ``asFuture`` and ``fromFuture``, for those of *deferred*."""
    return twisteds_case(
        "DeferredFutureAdapterTests",
        CancelledError=asyncio.CancelledError,
        Deferred=deferred,
        Failure=Failure,
        Future=asyncio.Future,
        _new_event_loop=new_loop,
    )


TESTS = unittest.defaultTestLoader.getTestCaseNames(conversions(OurDeferred, asyncio.new_event_loop))


@pytest.fixture(params=LOOPS)
def new_loop(request: pytest.FixtureRequest) -> NewLoop:
    """Makes loops."""
    return LOOPS[request.param]


def complaints(case: Any, name: str) -> list[str]:
    """What the test *name* of *case* has to say: nothing, if it succeeds."""
    result = unittest.TestResult()
    case(name).run(result)
    assert result.testsRun == 1 and not result.skipped
    return [text for _, text in result.errors + result.failures]


@pytest.mark.parametrize("name", TESTS)
def test_ours_passes_twisteds_tests(name: str, new_loop: NewLoop) -> None:
    """Each test passes, or it is in the table of differences, and fails as that says."""
    said = complaints(conversions(OurDeferred, new_loop), name)
    difference = DIFFERENCES.get(name)
    if difference is None:
        assert not said, said[0]
    else:
        assert said, f"the difference has vanished: {difference.reason}"
        assert difference.error in said[0]


@pytest.mark.parametrize("name", TESTS)
def test_twisteds_own_passes_them(name: str, new_loop: NewLoop) -> None:
    """The tests are run as they are meant: all of them succeed with what Twisted's Deferreds do themselves."""
    assert not complaints(conversions(defer.Deferred, new_loop), name)


def test_each_difference_is_one_of_twisteds_tests() -> None:
    """The table has nothing that Twisted no longer tests."""
    assert set(DIFFERENCES) < set(TESTS)


@pytest.mark.parametrize(("reactor", "poller_factory"), [("epoll", "own")], indirect=True)
@pytest.mark.parametrize(
    "name",
    [
        "test_asyncWithLock",
        "test_asyncWithLockException",
        "test_asyncWithSemaphore",
        "test_contextvarsWithAsyncAwait",
    ],
)
def test_twisteds_tests_of_coroutines_pass_in_tasks(name: str, loop: ReactorEventLoop) -> None:
    """What Twisted promises to coroutines that it drives itself holds for tasks, too."""

    class LoopsClock(Clock):
        """A clock that lets the loop's tasks go on."""

        def advance(self, amount: float) -> None:
            loop.run_until_complete(rounds())
            super().advance(amount)
            loop.run_until_complete(rounds())

    async def rounds() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def ensuring_deferred(test: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], None]:
        return lambda case: loop.run_until_complete(test(case))

    case = twisteds_case(
        "CoroutineContextVarsTests",
        Clock=LoopsClock,
        Deferred=defer.Deferred,
        DeferredLock=defer.DeferredLock,
        DeferredSemaphore=defer.DeferredSemaphore,
        contextvars=contextvars,
        defer=defer,
        ensureDeferred=functools.partial(as_deferred, loop=loop),
        ensuringDeferred=ensuring_deferred,
    )
    assert not complaints(case, name)
