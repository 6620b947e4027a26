"""From any thread to the reactor's, and to either side of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

import txasync

from ..conftest import Reports, Runner

T = TypeVar("T")


def from_a_thread(run: Runner, call: Callable[..., T]) -> T:
    """Run the reactor until *call* is over, in a thread, to which the reactor is given."""

    async def main() -> T:
        return await asyncio.to_thread(call, run.loop.reactor)

    return run(main)


def test_a_function_is_called_in_the_reactors_thread(run: Runner) -> None:
    """Its arguments are handed on, and its result comes back."""

    def call(reactor: Any) -> None:
        def adds(left: int, right: int = 0) -> tuple[int, threading.Thread, Any]:
            return left + right, threading.current_thread(), asyncio.get_running_loop()

        future = txasync.run_in_reactor_thread(adds, 1, right=2, reactor=reactor)
        assert isinstance(future, concurrent.futures.Future)
        assert future.result(60) == (3, main_thread, run.loop)

    main_thread = threading.current_thread()
    from_a_thread(run, call)


def test_deferreds_and_coroutines_are_waited_for(run: Runner) -> None:
    """What the function returns may be a Deferred, a coroutine that awaits both worlds, or a Future."""

    def call(reactor: Any) -> None:
        def future() -> asyncio.Future[str]:
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, "future")
            return future

        async def coroutine(value: str) -> str:
            await asyncio.sleep(0)
            return await deferLater(reactor, 0, lambda: value)

        assert txasync.run_in_reactor_thread(deferLater, reactor, 0, lambda: 1, reactor=reactor).result(60) == 1
        assert txasync.run_in_reactor_thread(coroutine, "coroutine", reactor=reactor).result(60) == "coroutine"
        assert txasync.run_in_reactor_thread(future, reactor=reactor).result(60) == "future"

    from_a_thread(run, call)


@pytest.mark.parametrize("kind", ["function", "Deferred", "coroutine"])
def test_errors_come_back_with_their_traceback(run: Runner, kind: str) -> None:
    """The Future raises what the function, its Deferred or its coroutine raised, and nothing else reports it."""

    def fails(_: object = None) -> None:
        raise ValueError("an error")

    async def awaits() -> None:
        fails()

    def call(reactor: Any) -> None:
        functions: dict[str, Callable[[], Any]] = {
            "function": fails,
            "Deferred": lambda: deferLater(reactor, 0, fails),
            "coroutine": awaits,
        }
        function = functions[kind]
        with pytest.raises(ValueError, match="an error") as caught:
            txasync.run_in_reactor_thread(function, reactor=reactor).result(60)
        assert "fails" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]

    from_a_thread(run, call)


def test_a_cancelled_future_cancels_what_it_waits_for(run: Runner) -> None:
    """A Deferred and a task hear of it, in the reactor's thread."""
    heard: list[tuple[str, threading.Thread]] = []

    def call(reactor: Any) -> None:
        begun = threading.Event()
        ended = threading.Event()

        def canceller(_: object) -> None:
            heard.append(("Deferred", threading.current_thread()))
            ended.set()

        def deferred() -> Deferred[None]:
            begun.set()
            return Deferred(canceller)

        async def coroutine() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                heard.append(("task", threading.current_thread()))
                ended.set()

        functions: list[Callable[[], Awaitable[None]]] = [deferred, coroutine]
        for function in functions:
            begun.clear()
            ended.clear()
            future = txasync.run_in_reactor_thread(function, reactor=reactor)
            assert begun.wait(60)
            assert future.cancel()
            assert ended.wait(60)

    from_a_thread(run, call)
    assert heard == [("Deferred", threading.current_thread()), ("task", threading.current_thread())]


def test_a_future_that_is_cancelled_in_time_calls_nothing(run: Runner) -> None:
    """The function is not called if the reactor has not got round to it."""
    calls: list[str] = []

    async def main() -> None:
        future = txasync.run_in_reactor_thread(calls.append, "called", reactor=run.loop.reactor)
        assert future.cancel()
        await asyncio.sleep(0.01)

    run(main)
    assert calls == []


def test_a_cancelled_deferred_cancels_the_future(run: Runner) -> None:
    """The waiting thread gets the CancelledError of ``concurrent.futures``."""

    def call(reactor: Any) -> None:
        def cancelled() -> Deferred[None]:
            deferred: Deferred[None] = Deferred()
            reactor.callLater(0, deferred.cancel)
            return deferred

        with pytest.raises(concurrent.futures.CancelledError):
            txasync.run_in_reactor_thread(cancelled, reactor=reactor).result(60)

    from_a_thread(run, call)


def test_another_loop_awaits_it(run: Runner) -> None:
    """A stock loop in another thread waits by ``asyncio.wrap_future``."""

    def call(reactor: Any) -> None:
        async def main() -> int:
            return await asyncio.wrap_future(
                txasync.run_in_reactor_thread(deferLater, reactor, 0, lambda: 42, reactor=reactor)
            )

        loop = asyncio.SelectorEventLoop()
        try:
            assert loop.run_until_complete(main()) == 42
        finally:
            loop.close()

    from_a_thread(run, call)


def test_an_exit_ends_both(run: Runner, reports: Reports) -> None:
    """A SystemExit is the waiting thread's to see, and the reactor's, which logs it."""

    def leaves() -> None:
        raise SystemExit(3)

    def call(reactor: Any) -> None:
        with pytest.raises(SystemExit):
            txasync.run_in_reactor_thread(leaves, reactor=reactor).result(60)

    from_a_thread(run, call)
    assert [report.type for report in reports.twisted] == [SystemExit]
    reports.clear()


def test_a_reactor_that_was_stopped_is_refused(reactor: Any) -> None:
    """Nothing would ever call the function."""
    reactor.callWhenRunning(reactor.stop)
    reactor.run()
    with pytest.raises(RuntimeError, match="was stopped, so it will not call"):
        txasync.run_in_reactor_thread(print, reactor=reactor)


def test_a_process_without_a_reactor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the step that is missing."""
    monkeypatch.delitem(__import__("sys").modules, "twisted.internet.reactor", raising=False)
    with pytest.raises(RuntimeError, match=r"no reactor is installed: call txasync\.install\(\)"):
        txasync.run_in_reactor_thread(print)


def test_a_coroutine_needs_a_loop(reactor: Any) -> None:
    """A reactor without one says so, by the Future."""

    async def coroutine() -> None:
        raise AssertionError("not to be begun")

    future = txasync.run_in_reactor_thread(coroutine, reactor=reactor)
    future.add_done_callback(lambda _: reactor.stop())
    reactor.run()
    with pytest.raises(RuntimeError, match=r"call txasync\.install\(\) first"):
        future.result(0)
