"""as_deferred(): coroutines, Tasks and Futures as Deferreds."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import re
import sys
import traceback
import types
import weakref
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

import txasync
from txasync import ReactorEventLoop, as_deferred, as_future

from ..conftest import Reports, Runner
from .awaited import soon

one_reactor = pytest.mark.parametrize(("reactor", "poller_factory"), [("epoll", "own")], indirect=True)


async def of_both_worlds(value: object = None) -> object:
    """Await one of either side."""
    await asyncio.sleep(0)
    return await soon(value)


class CustomAwaitable:
    """An awaitable that is neither a coroutine nor a Future."""

    def __await__(self) -> Generator[Any, Any, object]:
        return (yield from of_both_worlds("result").__await__())


@types.coroutine
def generator_coroutine() -> Generator[Any, Any, object]:
    """A coroutine as they were before ``async def``."""
    return (yield from soon("result").__await__())


AWAITABLES: dict[str, Callable[[], Awaitable[object]]] = {
    "coroutine": functools.partial(of_both_worlds, "result"),
    "generator": generator_coroutine,
    "awaitable": CustomAwaitable,
    "task": lambda: asyncio.create_task(of_both_worlds("result")),
    "future": lambda: as_future(soon("result")),
    "gathering": lambda: asyncio.gather(asyncio.sleep(0), soon()),
    "deferred": lambda: soon("result"),
}

# Results


@pytest.mark.parametrize("kind", AWAITABLES)
def test_the_deferred_of_an_awaitable_fires_with_its_result(run: Runner, kind: str) -> None:
    """Whatever can be awaited becomes a Deferred, which fires when it is done."""

    async def main() -> None:
        results: list[object] = []
        deferred = as_deferred(AWAITABLES[kind]())
        assert isinstance(deferred, Deferred)
        deferred.addCallback(results.append)
        assert not results
        await deferred
        assert results == [[None, None] if kind == "gathering" else "result"]

    run(main)


@one_reactor
def test_a_deferred_is_returned_as_it_is(run: Runner) -> None:
    """There is nothing to convert."""

    async def main() -> None:
        deferred: Deferred[None] = Deferred()
        assert as_deferred(deferred) is deferred

    run(main)


@one_reactor
def test_a_coroutine_begins_in_the_next_round(run: Runner) -> None:
    """Nothing of it has run when its Deferred is returned; it runs in a copy of the caller's context."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    steps: list[str] = []

    async def begins() -> None:
        steps.append(variable.get())
        variable.set("inner")
        await soon()
        steps.append(variable.get())

    async def main() -> None:
        variable.set("outer")
        deferred = as_deferred(begins())
        assert steps == []
        await deferred
        assert variable.get() == "outer"

    run(main)
    assert steps == ["outer", "inner"]


@one_reactor
def test_a_coroutine_may_return_a_deferred(run: Runner) -> None:
    """As a callback may: what that fires with is the result, also if it has fired; cancelling cancels it."""

    async def main() -> None:
        async def returns(deferred: Deferred[Any]) -> Any:
            return deferred

        assert await as_deferred(returns(soon("soon"))) == "soon"
        assert await as_deferred(returns(defer.succeed("fired"))) == "fired"
        inner: Deferred[Any] = Deferred(lambda inner: inner.callback("cancelled"))
        outer: Deferred[Any] = as_deferred(returns(inner))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not inner.called
        outer.cancel()
        assert await outer == "cancelled"

    run(main)


@one_reactor
def test_inline_callbacks_may_yield_it(run: Runner) -> None:
    """A generator of Twisted's gets results and errors of asyncio's side."""

    async def main() -> object:
        async def fails() -> None:
            await asyncio.sleep(0)
            raise KeyError("from a coroutine")

        @defer.inlineCallbacks
        def generator() -> Generator[Deferred[Any], Any, list[object]]:
            results: list[object] = [(yield as_deferred(of_both_worlds("result")))]
            try:
                yield as_deferred(fails())
            except KeyError as error:
                results.append(error.args[0])
            return results

        return await generator()

    assert run(main) == ["result", "from a coroutine"]


# Errors


async def raises() -> None:
    """Fail, after a wait."""
    await asyncio.sleep(0)
    raise ValueError("from a coroutine")


@one_reactor
def test_an_error_is_the_deferreds(run: Runner) -> None:
    """The failure has the error itself, with the coroutine's frames; what an errback has handled is not reported."""

    async def main() -> None:
        failures: list[Failure] = []
        task = asyncio.create_task(raises())
        await as_deferred(task).addErrback(failures.append)
        assert failures[0].value is task.exception()
        assert "in raises" in failures[0].getTraceback()
        assert [frame.name for frame in traceback.extract_tb(failures[0].getTracebackObject())][-1] == "raises"

    run(main)


@one_reactor
@pytest.mark.parametrize("convert", [lambda deferred: deferred, as_future], ids=["Deferred", "Future"])
def test_an_error_that_has_crossed_twice_shows_both_sides(run: Runner, convert: Callable[[Any], Any]) -> None:
    """The traceback of a Deferred's error that a coroutine lets out has the callback's frame and the coroutine's."""

    async def main() -> None:
        def callback(_: object) -> None:
            raise ValueError

        async def lets_out() -> None:
            deferred: Deferred[None] = Deferred()
            deferred.addCallback(callback)
            asyncio.get_running_loop().call_soon(deferred.callback, None)
            await convert(deferred)

        failures: list[Failure] = []
        await as_deferred(lets_out()).addErrback(failures.append)
        for name in "callback", "lets_out":
            assert f"in {name}\n" in failures[0].getTraceback()

    run(main)


@one_reactor
def test_an_error_that_nobody_handles_is_reported_once_by_twisted(run: Runner, reports: Reports) -> None:
    """It is the Deferred's: asyncio does not say that an exception was never retrieved."""

    async def main() -> None:
        as_deferred(raises())
        for _ in range(4):
            await asyncio.sleep(0)

    run(main)
    gc.collect()
    assert [report.type for report in reports.twisted] == [ValueError]
    assert not reports.asyncio
    reports.clear()


@one_reactor
def test_a_cancelled_task_is_a_deferred_that_was_cancelled(run: Runner) -> None:
    """It fails with Twisted's CancelledError, which asyncio's has caused, with the message of ``cancel()``."""

    async def main() -> None:
        failures: list[Failure] = []
        task = asyncio.create_task(asyncio.sleep(60))
        future = asyncio.get_running_loop().create_future()
        deferreds = [as_deferred(each).addErrback(failures.append) for each in (task, future)]
        await asyncio.sleep(0)
        for each in task, future:
            each.cancel("enough")
        for deferred in deferreds:
            await deferred
        for failure in failures:
            assert failure.type is defer.CancelledError
            assert isinstance(failure.value, defer.CancelledError)
            assert isinstance(failure.value.__cause__, asyncio.CancelledError)
            assert failure.getErrorMessage() == "enough" or sys.version_info < (3, 11)

    run(main)


def test_what_cannot_be_awaited_is_refused() -> None:
    """The error names it, at once; a function of coroutines is none itself."""
    for wrong in None, 5, of_both_worlds:
        expected = f"takes a coroutine, a Future or another awaitable, got {wrong!r}"
        with pytest.raises(TypeError, match=re.escape(expected)):
            as_deferred(wrong)  # type: ignore[arg-type]  # which is the point


# Cancellation


@one_reactor
def test_cancelling_the_deferred_cancels_the_task(run: Runner) -> None:
    """The Deferred fires when the task is done, with Twisted's CancelledError; not before."""

    async def main() -> None:
        cleaned_up: Deferred[None] = Deferred()

        async def cleans_up() -> None:
            try:
                await Deferred()
            finally:
                await cleaned_up

        task = asyncio.create_task(cleans_up())
        deferred = as_deferred(task)
        await asyncio.sleep(0)
        deferred.cancel()
        await asyncio.sleep(0)
        assert not deferred.called
        cleaned_up.callback(None)
        with pytest.raises(defer.CancelledError):
            await deferred
        assert task.cancelled()

    run(main)


@one_reactor
def test_a_task_that_goes_on_is_a_deferred_that_does(run: Runner) -> None:
    """A task that swallows its cancellation gives the Deferred its result."""

    async def main() -> object:
        async def persistent() -> str:
            try:
                await Deferred()
            except asyncio.CancelledError:
                return "went on"
            return "was not cancelled"

        deferred = as_deferred(persistent())
        await asyncio.sleep(0)
        deferred.cancel()
        return await deferred

    assert run(main) == "went on"


@one_reactor
def test_cancelling_a_deferred_that_has_fired_does_nothing(run: Runner) -> None:
    """Its result stays."""

    async def main() -> None:
        deferred = as_deferred(of_both_worlds("result"))
        await deferred
        deferred.cancel()
        assert deferred.result == "result"

    run(main)


# Loops, threads, references


@one_reactor
def test_the_loop_may_be_started_later(loop: ReactorEventLoop) -> None:
    """A coroutine for a named loop runs when that does."""
    deferred: Deferred[object] = as_deferred(of_both_worlds("result"), loop=loop)
    assert not deferred.called
    assert loop.run_until_complete(as_future(deferred, loop=loop)) == "result"


@pytest.fixture
def process_reactor(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A reactor that is the process's during the test."""
    monkeypatch.setitem(sys.modules, "twisted.internet.reactor", reactor)
    return reactor


@pytest.mark.parametrize("reactor", ["epoll"], indirect=True)
def test_the_default_loop_is_that_of_the_processs_reactor(process_reactor: Any) -> None:
    """Before the reactor runs, `install` has made the loop that will run the coroutine."""
    txasync.install()
    results: list[object] = []
    deferred: Deferred[object] = as_deferred(of_both_worlds("result"))
    deferred.addCallback(results.append).addBoth(lambda _: process_reactor.stop())
    process_reactor.run()
    assert results == ["result"]


@pytest.mark.parametrize("reactor", ["epoll"], indirect=True)
@pytest.mark.parametrize("awaitable", [of_both_worlds, CustomAwaitable])
def test_without_a_loop_the_error_says_what_is_missing(
    process_reactor: Any, awaitable: Callable[[], Awaitable[object]]
) -> None:
    """The missing step is named, and the coroutine is closed: Python does not warn that it was never awaited."""
    for installed in True, False:
        if not installed:
            del sys.modules["twisted.internet.reactor"]
        with pytest.raises(RuntimeError, match=r"no asyncio loop is there to run the coroutine: call txasync.install"):
            as_deferred(awaitable())


def test_a_loop_that_is_closed(reports: Reports) -> None:
    """asyncio's own error is raised, and nothing is left of the coroutine, nor of a task, to warn of."""
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        as_deferred(of_both_worlds(), loop=loop)
    gc.collect()
    assert not reports.asyncio, [record.getMessage() for record in reports.asyncio]


@one_reactor
def test_a_future_of_another_loop_is_refused(run: Runner) -> None:
    """It would fire the Deferred in the other loop's thread; the error says what to use."""
    other = asyncio.new_event_loop()

    async def main() -> None:
        future: asyncio.Future[None] = other.create_future()
        with pytest.raises(RuntimeError, match=r"belongs to another loop.*run_coroutine_threadsafe.*wrap_future"):
            as_deferred(future)

    try:
        run(main)
    finally:
        other.close()


def test_it_works_on_the_loops_of_others() -> None:
    """On asyncio's own loop, a coroutine's task can await Deferreds when a reactor runs, and Futures always."""

    async def main() -> object:
        async def inner() -> str:
            await asyncio.sleep(0)
            return "result"

        return await as_future(as_deferred(inner()))

    assert asyncio.run(main()) == "result"


@one_reactor
def test_a_running_task_is_kept(run: Runner) -> None:
    """A coroutine is not collected while it waits for what only it knows, though nobody has kept its Deferred."""

    async def main() -> list[str]:
        clock = Clock()
        steps: list[str] = []
        waits_for: list[weakref.ref[Any]] = []

        async def waits() -> None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waits_for.append(weakref.ref(future))
            steps.append("began")
            await future
            steps.append("went on")

        as_deferred(waits())
        await asyncio.sleep(0)
        gc.collect()
        future = waits_for[0]()
        assert future is not None
        clock.callLater(1, future.set_result, None)
        clock.advance(1)
        await asyncio.sleep(0)
        return steps

    assert run(main) == ["began", "went on"]


@one_reactor
def test_a_finished_task_is_let_go(run: Runner) -> None:
    """Nothing keeps the task, nor its result, when both were used."""

    class Result:
        pass

    async def main() -> None:
        async def returns() -> Result:
            return Result()

        references = [weakref.ref(await as_deferred(returns()))]
        task = asyncio.create_task(returns())
        references.append(weakref.ref(task))  # type: ignore[arg-type]  # only whether it is alive is asked
        await as_deferred(task)
        del task
        await asyncio.sleep(0)
        gc.collect()
        assert [reference() for reference in references] == [None, None]

    run(main)
