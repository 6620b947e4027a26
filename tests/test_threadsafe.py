"""The loop and other threads: calls from them, calls in them, and the threads that are not needed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from txasync import ReactorEventLoop
from txasync._rounds import Rounds
from txasync._ticker import Ticker

from .conftest import Runner, disposable_reactor
from .interruption import interrupted

WAIT_LIMIT_S = 30


# Calls from threads


def test_a_flood_from_many_threads_comes_in_order(run: Runner) -> None:
    """Nothing is lost, and what a thread has added first runs first."""
    ran: list[tuple[int, int]] = []

    def thread(number: int, done: asyncio.Future[None]) -> None:
        for i in range(500):
            run.loop.call_soon_threadsafe(ran.append, (number, i))
        run.loop.call_soon_threadsafe(done.set_result, None)

    async def main() -> None:
        done: list[asyncio.Future[None]] = [run.loop.create_future() for _ in range(6)]
        threads = [threading.Thread(target=thread, args=given) for given in enumerate(done)]
        for each in threads:
            each.start()
        await asyncio.wait_for(asyncio.gather(*done), WAIT_LIMIT_S)
        for each in threads:
            each.join()

    run(main)
    for number in range(6):
        assert [i for of, i in ran if of == number] == list(range(500))


def test_a_thread_and_the_loop_go_on_in_turn(run: Runner) -> None:
    """Each of many wake-ups finds the loop asleep, or about to be."""

    def thread(done: asyncio.Future[None]) -> None:
        for _ in range(200):
            answered = threading.Event()
            run.loop.call_soon_threadsafe(answered.set)
            assert answered.wait(WAIT_LIMIT_S)
        run.loop.call_soon_threadsafe(done.set_result, None)

    async def main() -> None:
        done = run.loop.create_future()
        other = threading.Thread(target=thread, args=(done,))
        other.start()
        await asyncio.wait_for(done, WAIT_LIMIT_S)
        other.join()

    run(main)


def test_a_signal_handler_wakes_the_loop(run: Runner) -> None:
    """``call_soon_threadsafe`` is for these as well; the loop's own thread runs them while it waits."""

    async def main() -> None:
        done = run.loop.create_future()
        signal.signal(signal.SIGUSR1, lambda *_: run.loop.call_soon_threadsafe(done.set_result, None))
        thread = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
        thread.start()
        await asyncio.wait_for(done, WAIT_LIMIT_S)
        thread.join()

    run(main)


def test_a_signal_handler_stops_the_loop(loop: ReactorEventLoop) -> None:
    """It wakes a loop that waits for ever, and the next run does not hear of it."""
    signal.signal(signal.SIGUSR1, lambda *_: loop.stop())
    for _ in range(3):
        thread = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
        loop.call_soon(thread.start)
        loop.run_forever()
        thread.join()
        assert not loop._wakeup.pending
        assert loop.run_until_complete(asyncio.sleep(0.001, "fine")) == "fine"


@pytest.mark.parametrize("kind", ["epoll", "txasync"])
@pytest.mark.parametrize("function", [Ticker.drive, Rounds.run])
def test_a_loop_that_is_stopped_just_before_it_waits_does_not(kind: str, function: Callable[..., object]) -> None:
    """A signal handler may call ``stop()`` anywhere in what the loop does before it falls asleep."""
    with disposable_reactor(kind) as reactor:
        loop = ReactorEventLoop(reactor)
        collect = loop._rounds._collect
        stopped = False

        def stop() -> None:
            nonlocal stopped
            stopped = True
            loop.stop()

        def collect_in_time(timeout_s: float | None = 0.0) -> int:
            if timeout_s == 0:
                return collect(0)
            if not stopped:
                loop.stop()  # it has come so far without: there is nothing left to interrupt
            found = collect(WAIT_LIMIT_S)
            assert found, "the loop would sleep for ever"
            return found

        loop._rounds._collect = collect_in_time
        for where in itertools.count():
            stopped = False
            interrupted(loop.run_forever, function, where, stop)
            if where and not stopped:
                break
        assert where >= 20
        loop.close()


def test_a_call_from_a_thread_is_a_handle(run: Runner) -> None:
    """It has its context, can be cancelled, and is what asyncio's own loop returns."""
    variable = contextvars.ContextVar("variable", default="unset")
    ran: list[str] = []

    async def main() -> None:
        context = contextvars.copy_context()
        context.run(variable.set, "set")
        run.loop.call_soon_threadsafe(lambda: ran.append(variable.get()), context=context)
        handle = run.loop.call_soon_threadsafe(ran.append, "cancelled")
        handle.cancel()
        assert handle.cancelled()
        assert isinstance(handle, asyncio.Handle)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(main)
    assert ran == ["set"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="there are no such handles yet")
def test_a_thread_that_cancels_too_late_waits_for_the_callbacks_end(run: Runner) -> None:
    """After ``cancel()`` the callback does not run any more, whichever came first."""
    begun = threading.Event()
    cancels = threading.Event()
    order: list[str] = []

    def callback() -> None:
        begun.set()
        assert cancels.wait(WAIT_LIMIT_S)
        order.append("callback")

    def thread() -> None:
        handle = run.loop.call_soon_threadsafe(callback)
        assert begun.wait(WAIT_LIMIT_S)
        cancels.set()
        handle.cancel()
        order.append("cancelled")

    async def main() -> None:
        await asyncio.to_thread(thread)

    run(main)
    assert order == ["callback", "cancelled"]


def test_a_closed_loop_refuses_calls_from_threads(loop: ReactorEventLoop) -> None:
    """A thread that does not know that it was closed is told, as by asyncio."""
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_soon_threadsafe(print)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_in_executor(None, print)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        asyncio.run(loop.getaddrinfo("127.0.0.1", 80))


def test_debug_mode_checks_and_names_the_callers_frame(loop: ReactorEventLoop) -> None:
    """As asyncio's own does."""
    loop.set_debug(True)
    handle: Any = loop.call_soon_threadsafe(print)
    assert handle._source_traceback[-1].name == "test_debug_mode_checks_and_names_the_callers_frame"
    handle.cancel()
    with pytest.raises(TypeError, match="callable"):
        loop.call_soon_threadsafe(1)  # type: ignore[arg-type]  # which is what it is about
    with pytest.raises(TypeError, match="callable"):
        loop.run_in_executor(None, 1)  # type: ignore[arg-type]  # as above


def test_set_wakeup_fd_is_not_touched(run: Runner) -> None:
    """It is the reactor's."""
    before = []

    async def main() -> None:
        before.append(signal.set_wakeup_fd(-1))
        signal.set_wakeup_fd(before[0])
        await asyncio.to_thread(lambda: run.loop.call_soon_threadsafe(int))
        before.append(signal.set_wakeup_fd(-1))
        signal.set_wakeup_fd(before[0])

    run(main)
    assert before[0] == before[1]


# Calls in threads


def test_what_an_executor_returns_and_raises_comes_back(run: Runner) -> None:
    """Of the default executor, and of one's own."""

    async def main() -> None:
        own = concurrent.futures.ThreadPoolExecutor(1)
        for executor in None, None, own:
            assert await run.loop.run_in_executor(executor, divmod, 7, 2) == (3, 1)
            with pytest.raises(ZeroDivisionError):
                await run.loop.run_in_executor(executor, divmod, 7, 0)
        own.shutdown()
        await run.loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="shutdown has been called"):
            await run.loop.run_in_executor(None, print)

    run(main)


def test_a_call_in_an_executor_can_be_cancelled_before_it_begins(run: Runner) -> None:
    """It is not called then."""
    ran: list[str] = []

    async def main() -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            go_on = threading.Event()
            busy = run.loop.run_in_executor(executor, go_on.wait)
            waiting = run.loop.run_in_executor(executor, ran.append, "called")
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.sleep(0)
            go_on.set()
            assert await busy

    run(main)
    assert ran == []


def test_the_end_of_a_call_after_the_loops_own_is_nobodys(
    loop: ReactorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread of an executor that outlives its loop is not told off for that."""
    go_on = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        future = loop.run_in_executor(executor, go_on.wait)
        loop.close()
        go_on.set()
    assert not future.done()
    assert not loop._ready
    assert not caplog.records


class AsyncioExecutor:
    """An executor of which ``submit`` returns a Future of asyncio's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def submit(self, function: Any, *args: Any) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        future.set_result(function(*args))
        return future


def test_an_executor_may_have_futures_of_asyncios(loop: ReactorEventLoop) -> None:
    """They are what ``run_in_executor`` returns then, as in asyncio."""
    assert loop.run_until_complete(loop.run_in_executor(AsyncioExecutor(loop), abs, -1)) == 1


# Calls for which no thread is needed


@pytest.mark.parametrize("debug", [False, True])
def test_an_address_needs_no_resolver(loop: ReactorEventLoop, debug: bool) -> None:
    """It is as it was; in debug mode a thread is asked, and the log tells of it, as asyncio's does."""
    loop.set_debug(debug)

    async def main() -> Any:
        return await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)

    assert loop.run_until_complete(main()) == [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))
    ]
    assert (loop._default_executor is not None) == debug
    loop.run_until_complete(loop.shutdown_default_executor())


def test_a_name_needs_the_resolver(loop: ReactorEventLoop) -> None:
    """It may wait for a server, so a thread is asked."""

    async def main() -> Any:
        return await loop.getaddrinfo("localhost", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)

    assert ("127.0.0.1", 80) in [found[4] for found in loop.run_until_complete(main())]
    assert loop._default_executor is not None
    loop.run_until_complete(loop.shutdown_default_executor())
