"""When both sides are done with an outcome: it is reported at most once, and no traceback keeps it alive."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txasync import as_deferred, as_future

from ..conftest import Reports, Runner
from .cancelling import awaiting, cancelled_while_waiting_for, started

# One kind of reactor, and one poller: the bridge knows nothing of how a reactor polls.
pytestmark = pytest.mark.parametrize(("reactor", "poller_factory"), [("epoll", "own")], indirect=True)


class Boom(Exception):
    """An error that weak references can point to."""


class Result:
    """A result that they can point to."""


def fails(_: object) -> None:
    """A callback."""
    raise Boom


async def taking(awaitables: list[Any]) -> None:
    """Await one after the other, and keep none."""
    while awaitables:
        await awaitables.pop(0)


@contextlib.contextmanager
def without_the_collector() -> Iterator[None]:
    """What is freed in here was in no reference cycle."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# What is reported: the fixture "reports" fails the test if something is


def test_an_error_that_was_seen_is_not_reported_because_of_an_earlier_result(run: Runner) -> None:
    """A later callback of a Deferred fails, and somebody sees that, before a task gets the result that it awaits."""

    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        task = await started(awaiting(deferred))
        deferred.callback("result")
        deferred.addCallback(fails)
        with pytest.raises(Boom):
            await deferred
        assert await task == "result"

    run(main)


@pytest.mark.parametrize("convert", [lambda deferred: deferred, as_future], ids=["await", "as_future"])
def test_an_error_that_was_seen_is_not_reported_because_of_a_pause(run: Runner, convert: Any) -> None:
    """A Deferred is paused when it has failed, and before a task gets the error."""

    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        task = await started(awaiting(convert(deferred)))
        deferred.errback(Boom())
        deferred.pause()
        with pytest.raises(Boom):
            await task

    run(main)


def test_a_cancellation_that_comes_late_hides_no_other_error(run: Runner, reports: Reports) -> None:
    """A task has abandoned a Deferred; that is cancelled at last, and then fails with something else."""

    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        deferred.pause()
        assert type(await cancelled_while_waiting_for(deferred)) is asyncio.CancelledError
        deferred.unpause()
        deferred.addErrback(fails)
        await asyncio.sleep(0)

    run(main)
    gc.collect()
    assert [report.type for report in reports.twisted] == [Boom]
    reports.clear()


# What is kept


def test_a_deferred_does_not_keep_the_error_that_was_awaited(run: Runner) -> None:
    """An error that a task has let out, and the Deferred that failed with it, are in no cycle."""

    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        task = await started(taking([deferred]))
        with without_the_collector():
            deferred.errback(Boom())
            await asyncio.wait([task])
            watched = weakref.ref(task.exception() or task)
            del deferred, task
            assert watched() is None

    run(main)


def test_an_error_does_not_keep_an_earlier_result(run: Runner) -> None:
    """Nor does its traceback, though a callback had replaced the result before the task got it."""

    async def main() -> None:
        result = Result()
        deferred: Deferred[Any] = Deferred()
        task = await started(taking([deferred, defer.fail(Boom())]))
        deferred.addCallback(lambda _: None)
        deferred.callback(result)
        await asyncio.wait([task])
        watched = weakref.ref(result)
        del result
        assert isinstance(task.exception(), Boom)
        assert watched() is None

    run(main)


def test_a_cancelled_task_leaves_nothing_on_the_deferreds_error(run: Runner) -> None:
    """The error of a Deferred that a task has cancelled has no frames of the await, nor the task's error as context."""

    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        assert type(await cancelled_while_waiting_for(deferred)) is asyncio.CancelledError
        failures: list[Failure] = []
        deferred.addErrback(failures.append)
        error = failures[0].value
        assert type(error) is defer.CancelledError
        assert error.__traceback__ is None
        assert error.__context__ is None

    run(main)


def test_the_error_of_a_cancelled_task_does_not_keep_its_deferred(run: Runner) -> None:
    """asyncio's CancelledError, the cause of Twisted's, has no frame with the failure of that."""

    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deferred = as_deferred(future)
        with without_the_collector():
            future.cancel()
            await asyncio.sleep(0)
            watched: list[weakref.ref[object]] = []
            deferred.addErrback(lambda failure: watched.append(weakref.ref(failure.value)))
            del deferred, future
            await asyncio.sleep(0)
            assert watched[0]() is None

    run(main)
