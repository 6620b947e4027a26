"""Cancellation, from either side: who is cancelled, with which error, and that nothing is lost or reported by it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from txasync import as_deferred, as_future

from ..conftest import Reports, Runner
from .cancelling import awaiting, cancelled_cancellers, cancelled_while_waiting_for, outcome_of, started

# One kind of reactor, and one poller: the bridge knows nothing of how a reactor polls.
pytestmark = pytest.mark.parametrize(("reactor", "poller_factory"), [("epoll", "own")], indirect=True)


def ignoring(*, until: Deferred[Any]) -> Deferred[Any]:
    """A Deferred that does not heed its cancellation, but goes on until *until* has fired."""
    return Deferred[Any]().addErrback(lambda _: until)


# A task is cancelled while it waits for a Deferred


class Stopped(defer.CancelledError):
    """A cancellation with a class of its own."""


@pytest.mark.parametrize(
    ("canceller", "outcome"),
    [
        pytest.param(None, asyncio.CancelledError, id="no canceller"),
        pytest.param(lambda deferred: None, asyncio.CancelledError, id="does nothing"),
        pytest.param(lambda deferred: deferred.pause(), asyncio.CancelledError, id="holds the error back"),
        pytest.param(lambda deferred: deferred.errback(Stopped()), asyncio.CancelledError, id="fails with its own"),
        pytest.param(lambda deferred: deferred.errback(ValueError()), ValueError, id="fails with another error"),
        pytest.param(lambda deferred: deferred.callback(Stopped), Stopped, id="fires a result"),
    ],
)
def test_a_cancelled_task_cancels_the_deferred_that_it_awaits(
    run: Runner, canceller: Callable[[Deferred[Any]], None] | None, outcome: type
) -> None:
    """The coroutine gets the canceller's result, or error, and otherwise asyncio's CancelledError."""

    async def main() -> object:
        deferred: Deferred[Any] = Deferred(canceller)
        got = await cancelled_while_waiting_for(deferred)
        assert deferred.called
        return got

    got = run(main)
    assert got is outcome or type(got) is outcome


def test_a_cancellation_that_is_let_out_ends_the_task_as_cancelled(run: Runner) -> None:
    """The task is a cancelled one, with the message of ``cancel()``."""

    async def main() -> asyncio.Task[Any]:
        task = await started(awaiting(Deferred()))
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough" if sys.version_info >= (3, 11) else None):
            await task
        return task

    assert run(main).cancelled()


def test_a_canceller_that_raises_is_reported(run: Runner, reports: Reports) -> None:
    """The coroutine gets its CancelledError all the same, and the loop's exception handler the canceller's error."""

    def broken(_: object) -> None:
        raise ValueError

    async def main() -> object:
        return await cancelled_while_waiting_for(Deferred(broken))

    assert type(run(main)) is asyncio.CancelledError
    assert "The canceller of <Deferred" in reports.asyncio[0].getMessage()
    assert [report.type for report in reports.twisted] == [ValueError]
    reports.clear()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_canceller_that_ends_the_program(run: Runner, kind: type[BaseException]) -> None:
    """The coroutine gets what it raised, and cleans up."""

    def interrupted(_: object) -> None:
        raise kind

    async def main() -> object:
        return await cancelled_while_waiting_for(Deferred(interrupted))

    assert type(run(main)) is kind


def test_later_callbacks_see_what_the_cancelled_deferred_fails_with(run: Runner) -> None:
    """They are called at once, with Twisted's CancelledError."""

    async def main() -> None:
        seen: list[Failure] = []
        deferred: Deferred[Any] = Deferred()
        task = await started(outcome_of(deferred))
        deferred.addErrback(seen.append)
        task.cancel()
        await task
        assert seen[0].check(defer.CancelledError)
        deferred.callback("Twisted ignores the result of a Deferred without canceller that was cancelled")
        assert deferred.result is None

    run(main)


def test_the_deferred_that_another_one_waits_for_is_cancelled(run: Runner) -> None:
    """A Deferred that a callback has chained to another hands the cancellation on."""

    async def main() -> object:
        inner: Deferred[str] = Deferred(lambda inner: inner.callback("from the inner canceller"))
        outer = defer.succeed(None).addCallback(lambda _: inner)
        return await cancelled_while_waiting_for(outer)

    assert run(main) == "from the inner canceller"


def test_a_coroutine_may_go_on_after_its_cancellation(run: Runner) -> None:
    """It can await further Deferreds to clean up; a second cancellation cancels that one."""

    async def main() -> list[object]:
        deferreds: list[Deferred[Any]] = [Deferred(), Deferred(), Deferred(), Deferred()]

        async def persistent() -> list[object]:
            return [await outcome_of(deferred) for deferred in deferreds]

        task = await started(persistent())
        for deferred in deferreds[:2]:
            task.cancel()
            await asyncio.sleep(0)
            assert deferred.called
        for deferred in deferreds[2:]:
            deferred.callback("result")
        return [type(each) for each in await task]

    assert run(main) == [asyncio.CancelledError, asyncio.CancelledError, str, str]


def test_who_awaits_a_cancelled_deferred_too_gets_twisteds_error(run: Runner) -> None:
    """Of two tasks that await one Deferred, only one was cancelled; the other learns that the Deferred was."""

    async def main() -> list[object]:
        deferred: Deferred[Any] = Deferred()
        tasks = [await started(outcome_of(deferred)) for _ in range(2)]
        tasks[1].cancel()
        return [type(await task) for task in tasks]

    assert run(main) == [defer.CancelledError, asyncio.CancelledError]


def test_cancelling_before_the_first_step(run: Runner) -> None:
    """The coroutine never begins; neither Python, which would warn of it, nor Twisted has anything to report."""

    async def main() -> None:
        async def never_begun() -> None:
            raise AssertionError

        tasks = [asyncio.create_task(never_begun()) for _ in range(2)]
        deferreds: list[Deferred[Any]] = [as_deferred(never_begun()), as_deferred(tasks[1])]
        tasks[0].cancel()
        for deferred in deferreds:
            deferred.cancel()
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [True, True]
        assert [type(await outcome_of(deferred)) for deferred in deferreds] == [defer.CancelledError] * 2

    run(main)


# Deferreds that ignore it, or take their time


def test_who_is_cancelled_does_not_wait_for_a_deferred_that_ignores_it(run: Runner) -> None:
    """The coroutine has its CancelledError at once; what becomes of the Deferred is for its callbacks."""

    async def main() -> None:
        later: Deferred[Any] = Deferred()
        deferred = ignoring(until=later)
        assert type(await cancelled_while_waiting_for(deferred)) is asyncio.CancelledError
        later.callback("result")
        assert await deferred == "result"

    run(main)


@pytest.mark.parametrize("error", [ValueError, defer.CancelledError, asyncio.CancelledError])
def test_only_an_error_that_nobody_expected_is_reported_of_an_abandoned_deferred(
    run: Runner, reports: Reports, error: type[BaseException]
) -> None:
    """A Deferred that fails after all is reported by Twisted, once; one that ends as cancelled is not."""

    async def main() -> None:
        later: Deferred[Any] = Deferred()
        assert type(await cancelled_while_waiting_for(ignoring(until=later))) is asyncio.CancelledError
        later.errback(Failure(error()))
        await asyncio.sleep(0)

    run(main)
    expected = [ValueError] if error is ValueError else []
    assert [report.type for report in reports.twisted] == expected
    reports.clear()


def test_a_generator_that_cleans_up_goes_on_alone(run: Runner) -> None:
    """An ``inlineCallbacks`` that waits once more when it is cancelled does so, and nobody waits for it."""

    async def main() -> None:
        finished: Deferred[Any] = Deferred()
        steps: list[str] = []

        @defer.inlineCallbacks
        def cleans_up() -> Generator[Deferred[Any], Any, None]:
            try:
                yield Deferred()
            except defer.CancelledError:
                steps.append("cancelled")
                yield finished
                steps.append("finished")
                raise

        assert type(await cancelled_while_waiting_for(cleans_up())) is asyncio.CancelledError
        assert steps == ["cancelled"]
        finished.callback(None)
        assert steps == ["cancelled", "finished"]
        await asyncio.sleep(0)

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout() came with 3.11")
def test_a_time_limit_around_a_deferred_that_ignores_it(run: Runner) -> None:
    """``asyncio.timeout`` ends in time, and nothing is left of it."""

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await ignoring(until=Deferred())
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        await asyncio.sleep(0)

    run(main)


def test_wait_for_a_deferred_that_ignores_it(run: Runner) -> None:
    """``asyncio.wait_for`` ends in time, and nothing is left of it."""

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ignoring(until=Deferred()), 0.001)
        await asyncio.sleep(0)

    run(main)


# Twisted cancels


def test_a_coroutine_sees_that_twisted_has_cancelled_its_deferred(run: Runner) -> None:
    """What is raised is Twisted's CancelledError, an Exception; the task is not cancelled, and may go on."""

    async def main() -> None:
        async def retries() -> str:
            try:
                await deferred
            except Exception as error:
                assert type(error) is defer.CancelledError
            await asyncio.sleep(0)
            return "went on"

        deferred: Deferred[Any] = Deferred()
        task = await started(retries())
        deferred.cancel()
        assert await task == "went on"

    run(main)


def test_twisteds_cancellation_ends_a_task_as_cancelled(run: Runner) -> None:
    """A coroutine that lets Twisted's CancelledError out ends its task as a cancelled Future would."""

    async def main() -> None:
        deferred: Deferred[Any] = Deferred()
        task = await started(awaiting(deferred))
        deferred.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main)


def test_add_timeout_around_a_task(run: Runner) -> None:
    """When the time is over, the task is cancelled, and the Deferred fails with Twisted's TimeoutError."""

    async def main() -> asyncio.Task[Any]:
        clock = Clock()
        task = await started(awaiting(Deferred()))
        deferred: Deferred[Any] = as_deferred(task).addTimeout(5, clock)
        clock.advance(5)
        assert type(await outcome_of(deferred)) is defer.TimeoutError
        return task

    assert run(main).cancelled()


def test_add_timeout_around_a_task_that_goes_on(run: Runner) -> None:
    """The Deferred fires when the task has come to its end, with its result."""

    async def main() -> object:
        finished: Deferred[str] = Deferred()

        async def persistent() -> str:
            await outcome_of(Deferred())
            return await finished

        clock = Clock()
        deferred: Deferred[Any] = as_deferred(await started(persistent())).addTimeout(5, clock)
        clock.advance(5)
        await asyncio.sleep(0)
        assert not deferred.called
        finished.callback("result")
        return await deferred

    assert run(main) == "result"


# Several at once


def test_a_cancelled_gather_cancels_every_deferred(run: Runner) -> None:
    """Each one that it waits for, bare or in a coroutine or a Future, is cancelled, once."""

    async def main() -> None:
        deferreds, cancelled = cancelled_cancellers(4)
        bare, deep, future, *rest = deferreds
        gathering = asyncio.gather(bare, awaiting(awaiting(deep)), as_future(future), asyncio.gather(*rest))
        task = await started(outcome_of(gathering))
        await asyncio.sleep(0)
        task.cancel()
        assert type(await task) is asyncio.CancelledError
        assert cancelled == deferreds

    run(main)


def test_a_shielded_deferred_is_not_cancelled(run: Runner) -> None:
    """``shield`` keeps the cancellation from a bare Deferred, a Future of one, and a task that awaits one."""

    async def main() -> None:
        deferreds, cancelled = cancelled_cancellers(3)
        inner = [await started(awaiting(deferreds[0])), as_future(deferreds[1]), deferreds[2]]
        tasks = [await started(awaiting(asyncio.shield(each))) for each in inner]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks) and not cancelled
        for deferred in deferreds:
            deferred.callback("result")
        assert [await each for each in inner] == ["result"] * 3

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup came with 3.11")
def test_a_group_that_is_cancelled_half_way(run: Runner) -> None:
    """What is done is done; every Deferred that is still awaited is cancelled, in the group's body too."""

    async def main() -> None:
        deferreds, cancelled = cancelled_cancellers(4)
        children: list[asyncio.Task[object]] = []

        async def waits() -> None:
            async with asyncio.TaskGroup() as group:
                children.extend(group.create_task(awaiting(deferred)) for deferred in deferreds[:3])
                await deferreds[3]

        task = await started(waits())
        await asyncio.sleep(0)
        deferreds[0].callback("result")
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [child.cancelled() for child in children] == [False, True, True]
        assert cancelled[0] is deferreds[3]
        assert len(cancelled) == 3 and deferreds[0] not in cancelled

    run(main)
