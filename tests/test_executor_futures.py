"""The Future of an executor's call, beside ``asyncio.wrap_future()``."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from txasync._executor_futures import future_of

from .conftest import Reports

Wrap = Callable[["concurrent.futures.Future[Any]", asyncio.AbstractEventLoop], "asyncio.Future[Any]"]


def ours(source: concurrent.futures.Future[Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """A Future on any loop."""
    return future_of(source, loop, loop.call_soon_threadsafe)


def asyncios(source: concurrent.futures.Future[Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """What it is to be like."""
    return asyncio.wrap_future(source, loop=loop)


@pytest.fixture(params=[asyncios, ours])
def wrap(request: pytest.FixtureRequest) -> Wrap:
    """asyncio's function, and ours."""
    wrap: Wrap = request.param
    return wrap


@pytest.fixture
def stock_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.SelectorEventLoop()
    yield loop
    loop.close()


def run_briefly(loop: asyncio.AbstractEventLoop) -> None:
    """Run what is ready, and what that makes ready."""
    for _ in range(3):
        loop.call_soon(loop.stop)
        loop.run_forever()


def test_a_result_comes_through(wrap: Wrap, stock_loop: asyncio.AbstractEventLoop) -> None:
    """In the loop, after the thread has ended with it."""
    source: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = wrap(source, stock_loop)
    source.set_result(1)
    assert not future.done()
    run_briefly(stock_loop)
    assert future.result() == 1


@pytest.mark.parametrize(
    ("raised", "comes"),
    [
        (LookupError, LookupError),
        (concurrent.futures.CancelledError, asyncio.CancelledError),
        (concurrent.futures.TimeoutError, asyncio.TimeoutError),
        (concurrent.futures.InvalidStateError, asyncio.InvalidStateError),
    ],
)
def test_an_error_comes_through(
    wrap: Wrap,
    stock_loop: asyncio.AbstractEventLoop,
    raised: type[BaseException],
    comes: type[BaseException],
) -> None:
    """The executors' own ones become asyncio's of the same name."""
    source: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = wrap(source, stock_loop)
    source.set_exception(raised("why"))
    run_briefly(stock_loop)
    error = future.exception()
    assert (type(error), error and error.args) == (comes, ("why",))


def test_to_cancel_it_cancels_what_has_not_begun(wrap: Wrap, stock_loop: asyncio.AbstractEventLoop) -> None:
    """One round later, as everything that waits for a Future."""
    source: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = wrap(source, stock_loop)
    future.cancel()
    assert not source.cancelled()
    run_briefly(stock_loop)
    assert source.cancelled()
    assert future.cancelled()


def test_to_cancel_it_drops_the_result_of_what_has_begun(wrap: Wrap, stock_loop: asyncio.AbstractEventLoop) -> None:
    """A thread cannot be stopped; what it comes to is nobody's then."""
    source: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = wrap(source, stock_loop)
    assert source.set_running_or_notify_cancel()
    future.cancel()
    run_briefly(stock_loop)
    source.set_result(1)
    run_briefly(stock_loop)
    assert future.cancelled()


def test_it_is_cancelled_with_its_source(wrap: Wrap, stock_loop: asyncio.AbstractEventLoop) -> None:
    """``executor.shutdown(cancel_futures=True)`` does so."""
    source: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = wrap(source, stock_loop)
    source.cancel()
    run_briefly(stock_loop)
    assert future.cancelled()


def test_a_source_that_is_done_is_fine(wrap: Wrap, stock_loop: asyncio.AbstractEventLoop) -> None:
    """Some executors call at once."""
    source: concurrent.futures.Future[int] = concurrent.futures.Future()
    source.set_result(1)
    future = wrap(source, stock_loop)
    run_briefly(stock_loop)
    assert future.result() == 1


def test_a_result_of_ones_own_is_reported_when_the_sources_comes(
    wrap: Wrap, stock_loop: asyncio.AbstractEventLoop, reports: Reports
) -> None:
    """Nobody but the executor is to end it."""
    source: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = wrap(source, stock_loop)
    future.set_result(2)
    source.set_result(1)
    run_briefly(stock_loop)
    assert future.result() == 2
    (report,) = reports.asyncio
    assert report.exc_info is not None
    assert report.exc_info[0] is AssertionError
    reports.clear()


class Result:
    """Something that can be weakly referred to."""


def test_no_reference_cycle_is_left(stock_loop: asyncio.AbstractEventLoop) -> None:
    """A result is freed with its last user, not by the garbage collector, which asyncio's own needs for that."""

    async def call(executor: ThreadPoolExecutor) -> weakref.ref[Result]:
        return weakref.ref(await ours(executor.submit(Result), stock_loop))

    gc.disable()
    try:
        with ThreadPoolExecutor(1) as executor:
            result = stock_loop.run_until_complete(call(executor))
        assert result() is None
    finally:
        gc.enable()
