"""A cancellation that comes together with what was waited for: nothing is lost, and nothing comes later."""

from __future__ import annotations

import asyncio
import functools
import itertools
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred, DeferredLock, DeferredQueue, DeferredSemaphore

from ..conftest import Runner
from .cancelling import outcome_of, started

# One kind of reactor, and one poller: the bridge knows nothing of how a reactor polls.
pytestmark = pytest.mark.parametrize(("reactor", "poller_factory"), [("epoll", "own")], indirect=True)

needs_3_11 = pytest.mark.skipif(sys.version_info < (3, 11), reason="timeout(), TaskGroup, uncancel() came with 3.11")


@pytest.fixture(params=["fired, cancelled", "cancelled, fired"])
def order(request: pytest.FixtureRequest) -> str:
    """Which of the two came first, before the coroutine could go on."""
    order: str = request.param
    return order


def both(order: str, fire: Callable[[], object], cancel: Callable[[], object]) -> None:
    """Fire and cancel, with nothing between them."""
    for step in (fire, cancel) if order == "fired, cancelled" else (cancel, fire):
        step()


def must_not_be_cancelled(_: object) -> None:
    """A canceller that fails the test: the loop reports what it raises."""
    raise AssertionError


# The Deferred fires


@pytest.mark.parametrize("fails", [False, True])
def test_what_had_come_is_delivered_before_the_cancellation(run: Runner, order: str, fails: bool) -> None:
    """The coroutine gets its result, or error, and one CancelledError where it waits next."""

    async def main() -> list[object]:
        deferred: Deferred[Any] = Deferred(must_not_be_cancelled)
        error = ValueError()

        async def waits() -> list[object]:
            first = await outcome_of(deferred)
            assert first is error if fails else first == "result"
            return [type(await outcome_of(asyncio.sleep(0))) for _ in range(2)]

        task = await started(waits())
        both(order, lambda: deferred.errback(error) if fails else deferred.callback("result"), task.cancel)
        types: list[object] = await task
        return types

    assert run(main) == [asyncio.CancelledError, type(None)]


def test_a_cancellation_that_comes_late_cancels_the_next_deferred(run: Runner, order: str) -> None:
    """The next await may be of a Deferred, which is cancelled; the message is that of ``cancel()``."""

    async def main() -> None:
        first: Deferred[Any] = Deferred(must_not_be_cancelled)
        second: Deferred[Any] = Deferred()

        async def waits() -> None:
            await first
            await second

        task = await started(waits())
        both(order, lambda: first.callback(None), lambda: task.cancel("enough"))
        with pytest.raises(asyncio.CancelledError, match="enough" if sys.version_info >= (3, 11) else None):
            await task
        assert second.called and task.cancelled()

    run(main)


def test_a_deferred_that_fires_at_once_does_not_swallow_the_cancellation(run: Runner, order: str) -> None:
    """A next await that need not wait is no place for a CancelledError; the one after it is."""

    async def main() -> None:
        deferred: Deferred[Any] = Deferred(must_not_be_cancelled)
        fired: Deferred[str] = Deferred(must_not_be_cancelled)
        fired.callback("at once")

        async def waits() -> object:
            await deferred
            assert await fired == "at once"
            return await outcome_of(asyncio.sleep(0))

        task = await started(waits())
        both(order, lambda: deferred.callback(None), task.cancel)
        assert type(await task) is asyncio.CancelledError

    run(main)


@needs_3_11
def test_a_cancellation_that_was_taken_back_does_not_come_later(run: Runner, order: str) -> None:
    """After ``uncancel()``, the next await is an ordinary one."""

    async def main() -> object:
        deferred: Deferred[Any] = Deferred(must_not_be_cancelled)

        async def waits() -> object:
            result = await deferred
            task = asyncio.current_task()
            assert task is not None and task.uncancel() == 0
            await asyncio.sleep(0)
            return result

        task = await started(waits())
        both(order, lambda: deferred.callback("result"), task.cancel)
        return await task

    assert run(main) == "result"


@needs_3_11
@pytest.mark.parametrize("steps", list(itertools.permutations(["fire", "time out", "cancel"])))
def test_a_cancellation_outlives_the_time_limit_that_passes_with_it(run: Runner, steps: tuple[str, ...]) -> None:
    """The limit takes its own request back; the other one stands, and the coroutine hears of it where it waits next."""
    seen: list[object] = []

    async def main() -> None:
        deferred: Deferred[Any] = Deferred(must_not_be_cancelled)

        async def waits() -> None:
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                seen.append(await deferred)
            seen.append(type(await outcome_of(asyncio.sleep(0))))
            seen.append(await outcome_of(asyncio.sleep(0)))

        limits: list[asyncio.Timeout] = []
        task = await started(waits())
        soon = asyncio.get_running_loop().call_soon
        for step in steps:
            if step == "time out":
                limits[0].reschedule(0)  # it calls call_soon(), too
            elif step == "cancel":
                soon(task.cancel)
            else:
                soon(deferred.callback, "result")
        await task
        assert task.cancelling() == 1

    run(main)
    assert seen == ["result", asyncio.CancelledError, None]


@needs_3_11
def test_a_cancellation_during_the_clean_up_after_another_is_delivered(run: Runner, order: str) -> None:
    """The time limit takes the first request back, which was delivered; the second one is yet to be."""
    seen: list[object] = []

    async def main() -> None:
        deferred: Deferred[Any] = Deferred(must_not_be_cancelled)
        cleans_up = asyncio.Event()

        async def waits() -> None:
            async with asyncio.timeout(0):
                assert type(await outcome_of(asyncio.Event().wait())) is asyncio.CancelledError
                cleans_up.set()
                seen.append(await deferred)
            seen.append(type(await outcome_of(asyncio.sleep(0))))

        task = asyncio.create_task(waits())
        await cleans_up.wait()
        both(order, lambda: deferred.callback("result"), task.cancel)
        await task

    run(main)
    assert seen == ["result", asyncio.CancelledError]


@needs_3_11
@pytest.mark.parametrize("waits_again", [False, True])
def test_a_time_limit_that_has_passed_when_the_deferred_fires(run: Runner, order: str, waits_again: bool) -> None:
    """The result is delivered; a block that waits again is timed out, one that ends is not, and nothing follows."""
    results: list[object] = []

    async def main() -> None:
        deferred: Deferred[Any] = Deferred(must_not_be_cancelled)
        soon = asyncio.get_running_loop().call_soon
        try:
            async with asyncio.timeout(None) as limit:
                both(order, lambda: soon(deferred.callback, "result"), lambda: limit.reschedule(0))
                results.append(await deferred)
                if waits_again:
                    await asyncio.sleep(0)
        except TimeoutError as error:
            results.append(type(error))
        assert limit.expired()
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        await asyncio.sleep(0)

    run(main)
    assert results == ["result", TimeoutError] if waits_again else ["result"]


@needs_3_11
@pytest.mark.parametrize("waits_again", [False, True])
def test_a_group_that_fails_when_the_deferred_fires(run: Runner, order: str, waits_again: bool) -> None:
    """The group's body gets its result, the group raises what its task raised, and nothing follows."""
    results: list[object] = []

    async def main() -> None:
        deferred: Deferred[Any] = Deferred(must_not_be_cancelled)
        fire = functools.partial(deferred.callback, "result")

        async def fails() -> None:
            if order == "fired, cancelled":
                asyncio.get_running_loop().call_soon(fire)  # before what the group has done when this task ends
            raise KeyError

        with pytest.raises(BaseException) as caught:
            async with asyncio.TaskGroup() as group:
                child = group.create_task(fails())
                if order == "cancelled, fired":
                    child.add_done_callback(lambda _: fire())
                results.append(await deferred)
                if waits_again:
                    results.append(type(await outcome_of(asyncio.sleep(0))))
        error: Any = caught.value
        assert [type(each) for each in error.exceptions] == [KeyError]
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        await asyncio.sleep(0)

    run(main)
    assert results == ["result", asyncio.CancelledError] if waits_again else ["result"]


# Twisted's primitives, cancelled at every moment


async def cancelled_at(moment: int, coroutine: Coroutine[Any, Any, Any], fire: Callable[[], object]) -> Any:
    """
    Run *coroutine* in a task that is cancelled at *moment*.

    Before its first step; after it; just before *fire*, and just after it, with nothing between them; a round later,
    when it has had its next step. Returns the task, which is done.
    """
    task = asyncio.create_task(coroutine)
    for at in range(5):
        if at == moment:
            task.cancel()
        if at == 2:
            fire()
        else:
            await asyncio.sleep(0)
    await asyncio.wait([task])
    return task


@pytest.fixture(params=range(5))
def moment(request: pytest.FixtureRequest) -> int:
    """When the task is cancelled, as in `cancelled_at`."""
    moment: int = request.param
    return moment


Primitive = Callable[[], "DeferredLock | DeferredSemaphore"]
LOCKS = [DeferredLock, functools.partial(DeferredSemaphore, 1)]


@pytest.mark.parametrize("primitive", LOCKS, ids=["lock", "semaphore"])
@pytest.mark.parametrize("with_block", [False, True], ids=["acquire", "async with"])
def test_a_lock_is_free_after_a_cancellation_at_any_moment(
    run: Runner, moment: int, primitive: Primitive, with_block: bool
) -> None:
    """Who was cancelled while waiting for the lock, or with it, keeps nobody from it; nobody waits for it any more."""

    async def main() -> None:
        lock = primitive()
        await lock.acquire()

        async def holding() -> None:
            if with_block:
                async with lock:
                    await asyncio.sleep(0)
            else:
                await lock.acquire()
                try:
                    await asyncio.sleep(0)
                finally:
                    lock.release()

        task = await cancelled_at(moment, holding(), lock.release)
        assert task.cancelled()
        assert not lock.waiting
        assert lock.acquire().called

    run(main)


@pytest.mark.parametrize("primitive", LOCKS, ids=["lock", "semaphore"])
def test_the_next_in_the_queue_gets_the_lock(run: Runner, moment: int, primitive: Primitive) -> None:
    """A task that was cancelled does not stand in the way of one that has waited behind it."""

    async def main() -> str:
        lock = primitive()
        await lock.acquire()

        async def holding() -> str:
            async with lock:
                await asyncio.sleep(0)
                return "had it"

        cancelling = await started(cancelled_at(moment, holding(), lock.release))
        next_one = asyncio.create_task(holding())
        await cancelling
        return await next_one

    assert run(main) == "had it"


def test_an_item_is_not_lost(run: Runner, moment: int) -> None:
    """A task that waits for an item and is cancelled has got it, or the queue has it still."""

    async def main() -> None:
        queue: DeferredQueue[str] = DeferredQueue()
        got: list[str] = []

        async def consuming() -> None:
            got.append(await queue.get())
            await asyncio.sleep(0)

        await cancelled_at(moment, consuming(), lambda: queue.put("item"))
        assert got + queue.pending == ["item"]
        assert not queue.waiting

    run(main)


def test_an_item_that_a_task_returns_is_not_lost(run: Runner, moment: int) -> None:
    """A task that ends with the item has it as its result, or it is in the queue."""

    async def main() -> None:
        queue: DeferredQueue[str] = DeferredQueue()

        async def getting() -> str:
            return await queue.get()

        task = await cancelled_at(moment, getting(), lambda: queue.put("item"))
        assert ([] if task.cancelled() else [task.result()]) + queue.pending == ["item"]

    run(main)


def test_a_time_limit_loses_no_item(run: Runner, order: str) -> None:
    """An item that comes when ``asyncio.wait_for`` has just given up is its result, or in the queue."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        queue: DeferredQueue[str] = DeferredQueue()
        task = await started(outcome_of(asyncio.wait_for(queue.get(), 0.01)))
        limit = loop.time() + 0.01
        # Timers that are due in one round run in the order of their times.
        placed = loop.create_future()

        def place() -> None:
            queue.put("item")
            placed.set_result(None)

        loop.call_at(limit + (1e-6 if order == "cancelled, fired" else -1e-3), place)
        got = await task
        await placed
        assert [got] == ["item"] or queue.pending == ["item"]

    run(main)
