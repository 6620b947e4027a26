"""as_future(): a Deferred as a Future."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python import threadable
from twisted.python.failure import Failure

from txasync import as_future, task_factory

from ..conftest import Reports, Runner

one_reactor = pytest.mark.parametrize(("reactor", "poller_factory"), [("epoll", "own")], indirect=True)

# Results


def test_a_future_is_done_when_its_deferred_has_fired(run: Runner) -> None:
    """The Future has the result at once, in the callback's own turn, and wakes who awaits it."""

    async def main() -> object:
        deferred: Deferred[str] = Deferred()
        future = as_future(deferred)
        assert future.get_loop() is run.loop
        assert not future.done()
        run.reactor.callLater(0, deferred.callback, "result")
        result = await future
        assert deferred.result == "result"
        return result

    assert run(main) == "result"


@one_reactor
@pytest.mark.parametrize("error", [None, ValueError("no result")], ids=["result", "error"])
def test_a_deferred_that_has_fired_already(run: Runner, error: Exception | None) -> None:
    """Its Future is done when it is returned."""

    async def main() -> None:
        future = as_future(defer.succeed("result") if error is None else defer.fail(error))
        assert future.done()
        assert future.exception() is error
        assert error is not None or future.result() == "result"

    run(main)


@one_reactor
def test_a_future_has_the_result_of_its_place_among_the_callbacks(run: Runner) -> None:
    """What callbacks before it made of the result is the Future's; those after it see that, and may change it."""

    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        deferred.addCallback(lambda result: [*result, "before"])
        future = as_future(deferred)
        deferred.addCallback(lambda result: [*result, "after"])
        deferred.callback(["fired"])
        assert await future == ["fired", "before"]
        assert await deferred == ["fired", "before", "after"]

    run(main)


@one_reactor
def test_a_chained_deferred_and_a_paused_one_are_waited_for(run: Runner) -> None:
    """A Deferred that was fired but has no result yet gives its Future none."""

    async def main() -> None:
        inner: Deferred[str] = Deferred()
        outer = defer.succeed(None).addCallback(lambda _: inner)
        paused = defer.succeed("paused")
        paused.pause()
        futures = as_future(outer), as_future(paused)
        await asyncio.sleep(0)
        assert [future.done() for future in futures] == [False, False]
        inner.callback("inner")
        paused.unpause()
        assert await asyncio.gather(*futures) == ["inner", "paused"]

    run(main)


# Errors


def raises(_: object) -> None:
    """A callback of the user's that fails."""
    raise ValueError("from a callback")


@one_reactor
def test_an_error_is_the_futures(run: Runner) -> None:
    """It is the error itself, shows the user's frames on both sides, and is reported by nobody."""

    async def main() -> None:
        deferred: Deferred[None] = Deferred()
        deferred.addCallback(raises)
        future = as_future(deferred)
        run.reactor.callLater(0, deferred.callback, None)
        with pytest.raises(ValueError, match="from a callback") as caught:
            await future
        assert isinstance(deferred.result, Failure) and deferred.result.value is caught.value
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert "main" in names and names[-1] == "raises"

    run(main)


@one_reactor
def test_an_error_that_nobody_asks_for_is_reported_once_by_asyncio(run: Runner, reports: Reports) -> None:
    """The error is the Future's: "exception was never retrieved", and nothing from Twisted but the loop's own log."""

    async def main() -> None:
        deferred: Deferred[None] = Deferred()
        as_future(deferred)
        deferred.errback(ValueError())
        await asyncio.sleep(0)
        del deferred
        gc.collect()

    run(main)
    assert [record.getMessage().split("\n")[0] for record in reports.asyncio] == [
        "Future exception was never retrieved"
    ]
    assert [report.type for report in reports.twisted] == [ValueError]
    reports.clear()


@one_reactor
def test_later_callbacks_may_handle_the_error_too(run: Runner) -> None:
    """An errback behind the Future sees the failure, and what it makes of it is the Deferred's result alone."""

    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        future = as_future(deferred)
        deferred.addErrback(lambda failure: failure.trap(ValueError) and "handled")
        deferred.errback(ValueError("failed"))
        with pytest.raises(ValueError, match="failed"):
            await future
        assert await deferred == "handled"

    run(main)


@one_reactor
def test_an_error_of_a_later_callback_is_twisteds_to_report(run: Runner, reports: Reports) -> None:
    """The Future takes over its own error only."""

    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        future = as_future(deferred)
        deferred.addErrback(raises)
        deferred.errback(KeyError())
        with pytest.raises(KeyError):
            await future

    run(main)
    gc.collect()
    assert [report.type for report in reports.twisted] == [ValueError]
    reports.clear()


@one_reactor
def test_a_stop_iteration_is_raised_as_a_runtime_error(run: Runner) -> None:
    """A Future refuses a StopIteration; it is the cause of what is raised instead."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"a Deferred failed with StopIteration\(1\), which a Future") as caught:
            await as_future(defer.fail(StopIteration(1)))
        assert isinstance(caught.value.__cause__, StopIteration)

    run(main)


# Cancellation


@one_reactor
@pytest.mark.parametrize("error", [defer.CancelledError, asyncio.CancelledError])
def test_a_cancelled_deferred_is_a_cancelled_future(run: Runner, error: type[BaseException]) -> None:
    """Cancellations of both kinds are the Future's own, with their message; nobody reports them."""

    async def main() -> None:
        future = as_future(defer.fail(error("enough")))
        assert future.cancelled()
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await future

    run(main)


@one_reactor
def test_cancelling_the_future_cancels_the_deferred(run: Runner) -> None:
    """Its canceller is called once; what it fails with then is no news, and reported by nobody."""

    async def main() -> None:
        cancelled: list[Deferred[Any]] = []
        deferred: Deferred[Any] = Deferred(cancelled.append)
        future = as_future(deferred)
        future.cancel()
        await asyncio.sleep(0)
        assert cancelled == [deferred]
        assert isinstance(deferred.result, Failure) and deferred.result.check(defer.CancelledError)
        await asyncio.sleep(0)

    run(main)


@one_reactor
def test_cancelling_a_future_that_is_done_cancels_nothing(run: Runner) -> None:
    """A Deferred that has fired, and that waits in a later callback, goes on."""

    async def main() -> None:
        later: Deferred[str] = Deferred()
        deferred = defer.succeed("early")
        future = as_future(deferred)
        waiting: Deferred[str] = deferred.addCallback(lambda _: later)
        assert not future.cancel()
        await asyncio.sleep(0)
        assert not later.called
        later.callback("later")
        assert [await future, await waiting] == ["early", "later"]

    run(main)


@one_reactor
def test_a_result_that_comes_after_the_cancellation_is_left_to_the_deferred(run: Runner) -> None:
    """A Future that was cancelled stays so, if the canceller fires, or somebody else before it is called."""

    async def main() -> None:
        def unused(_: object) -> None:
            raise AssertionError

        by_canceller: Deferred[str] = Deferred(lambda deferred: deferred.callback("result"))
        by_others: Deferred[str] = Deferred(unused)
        futures = as_future(by_canceller), as_future(by_others)
        for future in futures:
            future.cancel()
        by_others.callback("result")
        await asyncio.sleep(0)
        assert all(future.cancelled() for future in futures)
        assert [await by_canceller, await by_others] == ["result", "result"]

    run(main)


@one_reactor
def test_an_error_that_comes_after_the_cancellation_is_reported_by_twisted(run: Runner, reports: Reports) -> None:
    """A canceller's error, other than a cancellation, is nobody else's: it is reported, once."""

    async def main() -> None:
        as_future(Deferred(lambda deferred: deferred.errback(ValueError()))).cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(main)
    gc.collect()
    assert [report.type for report in reports.twisted] == [ValueError]
    assert not reports.asyncio
    reports.clear()


# Loops, threads, references


def on_stock(main: Callable[[], Any]) -> Any:
    """Run *main* on asyncio's own loop."""
    return asyncio.run(main())


@pytest.mark.parametrize("factory", [None, task_factory])
def test_it_works_on_the_loops_of_others(factory: Any) -> None:
    """On asyncio's own loop, with its own tasks or with ours, a Deferred that somebody fires can be awaited."""

    async def main() -> object:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        deferred: Deferred[str] = Deferred()
        loop.call_soon(deferred.callback, "result")

        async def waits() -> object:
            return await as_future(deferred)

        return await loop.create_task(waits())

    assert on_stock(main) == "result"


@one_reactor
def test_the_loop_may_be_named(loop: Any) -> None:
    """A Future of a loop that does not run yet is done when that runs."""
    deferred: Deferred[str] = Deferred()
    future = as_future(deferred, loop=loop)
    loop.call_soon(deferred.callback, "result")
    assert loop.run_until_complete(future) == "result"


def test_without_a_loop_there_is_no_future() -> None:
    """Outside of a loop, without *loop*, asyncio's own error is raised."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        as_future(Deferred())


def test_other_awaitables_are_refused() -> None:
    """The error names what was got, and what takes awaitables."""

    async def main() -> None:
        wrongs: list[Any] = [asyncio.get_running_loop().create_future(), None, 5]
        for wrong in wrongs:
            expected = f"as_future() takes a Deferred, got {wrong!r}: asyncio.ensure_future() takes awaitables"
            with pytest.raises(TypeError, match=re.escape(expected)):
                as_future(wrong)

    on_stock(main)


@pytest.mark.parametrize("reactor", ["epoll"], indirect=True)
def test_a_loop_in_another_thread_than_the_reactors_is_refused(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deferreds are not thread-safe; the error says how to wait for one from there."""
    monkeypatch.setitem(sys.modules, "twisted.internet.reactor", reactor)
    monkeypatch.setattr(threadable, "ioThread", None)
    caught: list[RuntimeError] = []

    async def main() -> None:
        deferred: Deferred[None] = Deferred()
        with pytest.raises(RuntimeError, match=r"the reactor runs in another.*run_in_reactor_thread") as error:
            as_future(deferred)
        caught.append(error.value)

    def in_thread() -> None:
        try:
            on_stock(main)
        finally:
            reactor.callFromThread(reactor.stop)

    thread = threading.Thread(target=in_thread)
    reactor.callWhenRunning(thread.start)
    reactor.run()
    thread.join(30)
    assert caught


@one_reactor
def test_a_deferred_that_nobody_can_fire_any_more_is_collected(run: Runner) -> None:
    """A Deferred and its Future keep each other, and nothing else keeps them."""

    async def main() -> None:
        deferred: Deferred[None] = Deferred()
        references = weakref.ref(deferred), weakref.ref(as_future(deferred))
        gc.collect()
        assert all(reference() is not None for reference in references)
        del deferred
        gc.collect()
        assert not any(reference() is not None for reference in references)

    run(main)


class Watched(Exception):
    """An error that weak references can point to."""


@one_reactor
def test_nothing_keeps_an_outcome_alive(run: Runner) -> None:
    """An error that has been dealt with is freed without the garbage collector's help."""

    async def main() -> None:
        async def fails() -> weakref.ref[BaseException]:
            try:
                await as_future(defer.fail(Watched()))
            except Watched as error:
                return weakref.ref(error)
            raise AssertionError

        gc.disable()
        try:
            reference = await fails()
            await asyncio.sleep(0)
            assert reference() is None
        finally:
            gc.enable()

    run(main)


@pytest.mark.parametrize("error", [None, ValueError()], ids=["result", "error"])
def test_a_deferred_outlives_the_loop_of_its_future(error: Exception | None) -> None:
    """When the loop is closed, who fires the Deferred, and its later callbacks, notice nothing of the Future."""
    loop = asyncio.new_event_loop()
    deferred: Deferred[Any] = Deferred()
    as_future(deferred, loop=loop)
    loop.close()
    seen: list[object] = []
    deferred.addCallbacks(seen.append, lambda failure: seen.append(failure.value))
    deferred.callback("result") if error is None else deferred.errback(error)
    assert seen == ["result" if error is None else error]
