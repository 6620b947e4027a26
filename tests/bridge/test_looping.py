"""Twisted's tools for things that are done again, later, elsewhere or together, with coroutines."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList, FirstError, gatherResults
from twisted.internet.task import Clock, LoopingCall, cooperate, deferLater
from twisted.internet.threads import deferToThread

from txasync import as_deferred, deferred_coroutine

from ..conftest import Reports, Runner
from .streams import cancelled, install, turns


@pytest.fixture
def run(run: Runner, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Run a coroutine function on the process's reactor."""
    install(run.reactor, monkeypatch)
    return run


class Job:
    """A coroutine function that begins, and ends when it is told to."""

    def __init__(self) -> None:
        self.began = 0
        self.ended = 0
        self.cancelled = 0
        self.deferred: Deferred[None] | None = None
        self._may_end: asyncio.Future[None] | None = None

    def __call__(self) -> Deferred[None]:
        self.deferred = self._do()
        return self.deferred

    @deferred_coroutine
    async def _do(self) -> None:
        self.began += 1
        self._may_end = asyncio.get_running_loop().create_future()
        try:
            await self._may_end
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1

    async def end(self) -> None:
        """Let it end, and wait until who waits for it has heard of that."""
        await asyncio.sleep(0)
        assert self._may_end is not None
        self._may_end.set_result(None)
        for _ in range(3):
            await asyncio.sleep(0)


class TestLoopingCall:
    """A LoopingCall of a coroutine function."""

    def test_it_waits_for_the_coroutine(self, run: Runner) -> None:
        """A call that takes longer than the interval is waited for; the next comes at the interval after it."""

        async def main() -> None:
            clock, job = Clock(), Job()
            looping = LoopingCall(job)
            looping.clock = clock
            done = looping.start(1)
            for number in 1, 2, 3:
                await asyncio.sleep(0)
                clock.pump([1] * 5)
                await asyncio.sleep(0)
                assert (job.began, job.ended) == (number, number - 1)
                await job.end()
                assert (job.began, job.ended) == (number, number)
                clock.advance(1)
            await asyncio.sleep(0)
            looping.stop()
            await job.end()
            assert await done is looping
            clock.pump([1] * 5)
            await asyncio.sleep(0)
            assert job.began == 4

        run(main)

    def test_it_calls_again_on_the_reactor(self, run: Runner) -> None:
        """The coroutine awaits both worlds; no two calls overlap."""
        running: list[int] = []

        @deferred_coroutine
        async def call() -> None:
            running.append(1)
            assert len(running) == 1
            await asyncio.sleep(0)
            await deferLater(run.reactor, 0, lambda: None)
            running.pop()
            calls.append(asyncio.current_task())
            if len(calls) == 5:
                looping.stop()

        async def main() -> None:
            assert await looping.start(0.0001) is looping

        calls: list[Any] = []
        looping = LoopingCall(call)
        run(main)
        assert len(set(calls)) == 5

    def test_an_error_ends_it(self, run: Runner) -> None:
        """What a call raises is raised by the await of the LoopingCall, and reported nowhere."""

        @deferred_coroutine
        async def call() -> None:
            await asyncio.sleep(0)
            raise ValueError("on purpose")

        async def main() -> None:
            looping = LoopingCall(call)
            with pytest.raises(ValueError, match="on purpose"):
                await looping.start(0.0001)
            assert not looping.running

        run(main)

    def test_stopping_it_waits_for_the_call(self, run: Runner) -> None:
        """A call that is being made when it is stopped comes to its end first."""

        async def main() -> None:
            job = Job()
            looping = LoopingCall(job)
            waiting = asyncio.ensure_future(as_deferred(looping.start(0)))
            await asyncio.sleep(0)
            looping.stop()
            await turns(run.reactor)
            assert not waiting.done()
            await job.end()
            assert await waiting is looping
            assert (job.began, job.ended) == (1, 1)

        run(main)

    def test_a_cancelled_call_ends_it(self, run: Runner) -> None:
        """Cancelling what a call returned is an error of Twisted's for who waits for the LoopingCall."""

        async def main() -> None:
            job = Job()
            looping = LoopingCall(job)
            done = looping.start(0)
            await asyncio.sleep(0)
            assert job.deferred is not None
            job.deferred.cancel()
            with pytest.raises(defer.CancelledError):
                await done
            assert (job.began, job.cancelled, looping.running) == (1, 1, False)

        run(main)

    def test_a_task_that_waits_for_it_may_be_cancelled(self, run: Runner) -> None:
        """It goes on, as its Deferred has no canceller, until it is stopped; nothing is reported."""

        async def main() -> None:
            job = Job()
            looping = LoopingCall(job)

            async def waits() -> None:
                await looping.start(0)

            waiting = asyncio.ensure_future(waits())
            await asyncio.sleep(0)
            assert await cancelled(waiting)
            assert looping.running
            looping.stop()
            await job.end()
            assert (job.began, job.ended, job.cancelled) == (1, 1, 0)

        run(main)


class TestLaterAndElsewhere:
    """Timed calls, threads and cooperative iterators, awaited in tasks."""

    def test_a_timed_call(self, run: Runner) -> None:
        """``deferLater`` gives what the call returns or raises; a cancelled task leaves no timed call behind."""

        def fail() -> None:
            raise ValueError("on purpose")

        async def main() -> None:
            assert await deferLater(run.reactor, 0.001, "result".upper) == "RESULT"
            with pytest.raises(ValueError, match="on purpose"):
                await deferLater(run.reactor, 0, fail)

            async def waits() -> None:
                await deferLater(run.reactor, 3600, lambda: None)

            waiting = asyncio.ensure_future(waits())
            await asyncio.sleep(0)
            assert run.reactor.getDelayedCalls()
            assert await cancelled(waiting)
            assert not run.reactor.getDelayedCalls()

        run(main)

    def test_a_call_in_a_thread_of_the_reactor(self, run: Runner) -> None:
        """``deferToThread`` gives what the function returns or raises."""

        def fail() -> None:
            raise ValueError("on purpose")

        async def main() -> None:
            assert await deferToThread(threading.current_thread) is not threading.current_thread()
            with pytest.raises(ValueError, match="on purpose"):
                await deferToThread(fail)
            numbers = await asyncio.gather(*(_in_thread(number) for number in range(20)))
            assert numbers == list(range(20))

        run(main)

    def test_a_cancelled_task_does_not_wait_for_a_thread(self, run: Runner) -> None:
        """The thread cannot be stopped; the task ends at once, and what the function raises later is nobody's."""

        async def main() -> None:
            began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

            def function() -> None:
                began.set()
                may_end.wait()
                ended.set()
                raise ValueError("too late")

            async def waits() -> None:
                await deferToThread(function)

            waiting = asyncio.ensure_future(waits())
            await asyncio.to_thread(began.wait)
            assert await cancelled(waiting)
            assert not ended.is_set()
            may_end.set()
            await asyncio.to_thread(ended.wait)
            await turns(run.reactor)

        run(main)

    def test_a_thread_of_asyncio_in_a_deferred_coroutine(self, run: Runner) -> None:
        """``asyncio.to_thread`` gives its result, its error, and takes the context variables along."""
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

        @deferred_coroutine
        async def fetch() -> tuple[str, bool]:
            variable.set("set in the coroutine")
            await deferLater(run.reactor, 0, lambda: None)
            seen = await asyncio.to_thread(variable.get)
            with pytest.raises(ValueError, match="abc"):
                await asyncio.to_thread(int, "abc")
            thread = await asyncio.to_thread(threading.current_thread)
            return seen, thread is threading.current_thread()

        async def main() -> None:
            assert await fetch() == ("set in the coroutine", False)

        run(main)

    def test_a_cooperative_iterator(self, run: Runner) -> None:
        """It may yield Deferreds of coroutines, which it waits for; its end, and its error, can be awaited."""
        steps: list[object] = []

        def work(fail: bool) -> Iterator[Deferred[None] | None]:
            yield as_deferred(step("first"))
            yield None
            if fail:
                raise ValueError("on purpose")
            yield as_deferred(step("second"))

        async def step(name: str) -> None:
            await asyncio.sleep(0)
            steps.append(name)

        async def main() -> None:
            iterator = work(False)
            assert await cooperate(iterator).whenDone() is iterator
            assert steps == ["first", "second"]
            with pytest.raises(ValueError, match="on purpose"):
                await cooperate(work(True)).whenDone()

        run(main)


async def _in_thread(number: int) -> Any:
    return await deferToThread(lambda: number)


class TestTogether:
    """Lists of Deferreds that are tasks."""

    def test_results_are_gathered_in_order(self, run: Runner) -> None:
        """``gatherResults`` and ``DeferredList`` give results in the order of the Deferreds, not of their firing."""

        async def after(rounds: int) -> int:
            for _ in range(rounds):
                await asyncio.sleep(0)
            return rounds

        async def main() -> None:
            assert await gatherResults([as_deferred(after(rounds)) for rounds in (3, 1, 2)]) == [3, 1, 2]
            listed = await DeferredList([as_deferred(after(rounds)) for rounds in (2, 1)])
            assert listed == [(True, 2), (True, 1)]
            first = await DeferredList([as_deferred(after(r)) for r in (9, 1)], fireOnOneCallback=True)
            assert first == (1, 1)
            await turns(run.reactor)

        run(main)

    def test_the_first_error_is_raised(self, run: Runner) -> None:
        """``gatherResults`` fails with a FirstError, and the others come to their ends."""
        job = Job()

        async def fails() -> None:
            raise ValueError("on purpose")

        async def main() -> None:
            with pytest.raises(FirstError) as raised:
                await gatherResults([job(), as_deferred(fails())], consumeErrors=True)
            failure = raised.value.subFailure
            assert (raised.value.index, failure.type, str(failure.value)) == (1, ValueError, "on purpose")
            assert (job.began, job.ended, job.cancelled) == (1, 0, 0)
            await job.end()
            assert (job.ended, job.cancelled) == (1, 0)

        run(main)

    def test_an_error_that_is_not_consumed_is_reported_once(self, run: Runner, reports: Reports) -> None:
        """As Twisted has it: the list tells of the error, and the Deferred that had it stays unhandled."""

        async def fails() -> None:
            raise ValueError("on purpose")

        async def main() -> Any:
            return [success for success, _ in await DeferredList([as_deferred(fails())])]

        assert run(main) == [False]
        assert [(report.type, report.value) for report in reports.twisted] == [(ValueError, "on purpose")]
        reports.clear()

    @pytest.mark.parametrize("gather", [gatherResults, DeferredList])
    def test_a_cancelled_task_cancels_all_that_it_gathers(self, gather: Any, run: Runner) -> None:
        """Each of the tasks is cancelled, once, and nothing is reported."""

        async def main() -> None:
            jobs = [Job(), Job(), Job()]

            async def waits() -> None:
                await gather([job() for job in jobs], consumeErrors=True)

            waiting = asyncio.ensure_future(waits())
            for _ in range(3):
                await asyncio.sleep(0)
            assert [job.began for job in jobs] == [1, 1, 1]
            assert await cancelled(waiting)
            assert [(job.ended, job.cancelled) for job in jobs] == [(0, 1)] * 3

        run(main)
