"""TaskService: an asyncio task that lives as long as a service runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from twisted.python.failure import Failure

from txasync import ReactorEventLoop
from txasync.application import TaskService

from ..adapters.endpoint_ways import Perform
from ..conftest import Reports, Runner
from .service_runs import (
    clock,
    combination,
    mode,
    on_asyncioreactor,
    perform,
    poller_factory,
    reactor,
    run_as_twistd,
    tree_of,
)

__all__ = ["clock", "combination", "mode", "perform", "poller_factory", "reactor"]


class Work:
    """
    A coroutine function that goes on until it is cancelled, and what it has done.

    Args:
        goodbye: What it awaits when it is cancelled.
    """

    def __init__(self, goodbye: Any = None) -> None:
        self.calls: list[str] = []
        self._goodbye = goodbye or (lambda: asyncio.sleep(0.001))

    async def __call__(self) -> None:
        self.calls.append("begun")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.calls.append("ending")
            await self._goodbye()
            self.calls.append("ended")


def service_of(main: Any, ended: Any = None) -> TaskService:
    """A service on the reactor of the loop that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ReactorEventLoop)
    return TaskService(main, ended, reactor=loop.reactor)


async def turn() -> None:
    """Let tasks have a step."""
    await asyncio.sleep(0)


# While the reactor runs


def test_the_task_runs_while_the_service_does(perform: Perform) -> None:
    """When startService's Deferred has fired the task is there; when stopService's has, it has cleaned up."""

    async def main() -> None:
        work = Work()
        service = service_of(work)
        for _ in range(2):
            assert not service.running
            await service.startService()
            assert service.running
            await turn()
            assert work.calls == ["begun"]
            await service.stopService()
            assert work.calls == ["begun", "ending", "ended"]
            work.calls.clear()

    perform(main)


def test_a_parent_starts_and_stops_it(perform: Perform) -> None:
    """In a MultiService: with the parent, when it is added to a running one, and when it is taken out of it."""

    async def main() -> None:
        first, second = Work(), Work()
        parent = tree_of(service_of(first))
        parent.startService()
        await turn()
        assert first.calls == ["begun"]
        added: Any = service_of(second)
        added.setServiceParent(parent)
        await turn()
        assert second.calls == ["begun"]
        await added.disownServiceParent()
        assert second.calls == ["begun", "ending", "ended"]
        await parent.stopService()
        assert first.calls == ["begun", "ending", "ended"]

    perform(main)


def test_what_is_awaited_may_be_any_awaitable(perform: Perform) -> None:
    """And a Deferred can be awaited in it, as in all tasks of the loop."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        future, fired = loop.create_future(), asyncio.Event()

        async def works() -> None:
            from twisted.internet.task import deferLater

            await deferLater(loop.reactor, 0, lambda: None)
            fired.set()

        for awaited in (lambda: future), works:
            service = service_of(awaited)
            await service.startService()
            await turn()
            if awaited is works:
                await fired.wait()
            await service.stopService()
        assert future.cancelled()

    perform(main)


def test_started_twice_runs_one_task(perform: Perform) -> None:
    """To start what is started changes nothing."""

    async def main() -> None:
        work = Work()
        service = service_of(work)
        await service.startService()
        await service.startService()
        await turn()
        assert work.calls == ["begun"]
        await service.stopService()
        assert work.calls == ["begun", "ending", "ended"]

    perform(main)


def test_stopped_twice_waits_twice(perform: Perform) -> None:
    """The second Deferred means it, too; the task is cancelled once."""

    async def main() -> None:
        let_go = asyncio.Event()
        work = Work(goodbye=let_go.wait)
        service = service_of(work)
        await service.stopService()
        await service.startService()
        await turn()
        stopping = [service.stopService(), service.stopService()]
        await turn()
        assert not stopping[0].called
        stopping.append(service.stopService())
        assert not stopping[2].called
        let_go.set()
        for stopped in stopping:
            await stopped
        assert work.calls == ["begun", "ending", "ended"]
        await service.stopService()

    perform(main)


def test_started_again_it_waits_for_the_task_before(perform: Perform) -> None:
    """However often it is started and stopped meanwhile, there are never two tasks in the function."""

    async def main() -> None:
        let_go = asyncio.Event()
        work = Work(goodbye=let_go.wait)
        service = service_of(work)
        await service.startService()
        await turn()
        stopped = service.stopService()
        for _ in range(2):
            await service.startService()
            await turn()
            stopped_while_waiting = service.stopService()
            await turn()
        await service.startService()
        await turn()
        assert not stopped.called
        assert not stopped_while_waiting.called
        assert work.calls == ["begun", "ending"]
        let_go.set()
        await stopped
        await stopped_while_waiting
        await turn()
        assert work.calls == ["begun", "ending", "ended", "begun"]
        await service.stopService()

    perform(main)


def test_a_task_that_does_not_heed_its_cancellation_is_waited_for(perform: Perform) -> None:
    """The Deferred tells of the end, not of the attempt."""

    async def main() -> None:
        heeded = 0
        let_go = asyncio.Event()

        async def stubborn() -> None:
            nonlocal heeded
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                heeded += 1
            await let_go.wait()

        service = service_of(stubborn)
        await service.startService()
        await turn()
        stopped = service.stopService()
        await turn()
        assert heeded == 1
        assert not stopped.called
        let_go.set()
        await stopped

    perform(main)


# The end of the task


def test_a_failure_is_logged_once_with_its_traceback(perform: Perform, reports: Reports) -> None:
    """And told to who wants to know; the service can be stopped, and started again."""

    async def main() -> None:
        told: list[Failure | None] = []
        news = asyncio.Event()

        def ended(failure: Failure | None) -> None:
            told.append(failure)
            news.set()

        async def fails() -> None:
            raise LookupError("from the task")

        service = service_of(fails, ended)
        for _ in range(2):
            await service.startService()
            await news.wait()
            news.clear()
            await service.stopService()
        assert [failure is not None and failure.type for failure in told] == [LookupError, LookupError]

    perform(main)
    assert [report.value for report in reports.twisted] == ["from the task"] * 2
    assert all("in fails" in report.traceback for report in reports.twisted)
    assert not reports.asyncio
    reports.clear()


def test_an_end_without_a_failure(perform: Perform) -> None:
    """The one who wants to know is told None; and nothing, when the service was stopped."""

    async def main() -> None:
        told: asyncio.Queue[Failure | None] = asyncio.Queue()
        service = service_of(turn, told.put_nowait)
        await service.startService()
        assert await told.get() is None
        await service.stopService()
        service = service_of(Work(), told.put_nowait)
        await service.startService()
        await turn()
        await service.stopService()
        await turn()
        assert told.empty()

    perform(main)


def test_an_end_at_the_moment_of_the_stop_is_its_own(perform: Perform) -> None:
    """A task that is done already was not stopped."""

    async def main() -> None:
        told: list[Failure | None] = []
        may_end = asyncio.Event()
        service = service_of(may_end.wait, told.append)
        await service.startService()
        await turn()
        may_end.set()
        task: Any = service._task
        while not task.done():
            await turn()
        await service.stopService()
        await turn()
        assert told == [None]

    perform(main)


def test_who_is_told_of_the_end_may_fail(perform: Perform, reports: Reports) -> None:
    """The loop's exception handler hears of that."""

    async def main() -> None:
        told = asyncio.Event()

        def ended(failure: Failure | None) -> None:
            told.set()
            raise LookupError("from the callback")

        service = service_of(turn, ended)
        await service.startService()
        await told.wait()
        await service.stopService()

    perform(main)
    assert len(reports.asyncio) == 1
    assert {report.value for report in reports.twisted} == {"from the callback"}
    reports.clear()


def test_a_cancellation_by_somebody_else_is_a_failure(perform: Perform, reports: Reports) -> None:
    """The work has ended, though nobody has stopped the service."""

    async def main() -> None:
        told: asyncio.Queue[Failure | None] = asyncio.Queue()

        async def gives_up() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await turn()

        service = service_of(gives_up, told.put_nowait)
        await service.startService()
        failure = await told.get()
        assert failure is not None
        assert failure.check(asyncio.CancelledError)
        await service.stopService()

    perform(main)
    assert ["was not stopped" in report.value for report in reports.twisted] == [True]
    reports.clear()


def test_a_failure_to_end_is_logged(perform: Perform, reports: Reports) -> None:
    """stopService's Deferred tells of the end all the same."""

    async def main() -> None:
        async def fails() -> None:
            raise LookupError("while ending")

        service = service_of(Work(goodbye=fails))
        await service.startService()
        await turn()
        await service.stopService()

    perform(main)
    assert [report.value for report in reports.twisted] == ["while ending"]
    reports.clear()


def test_system_exit_goes_to_who_runs_the_loop(run: Runner, reports: Reports) -> None:
    """It ends a run of asyncio's; in a run of somebody else, the loop's exception handler is told, once."""

    async def leave() -> None:
        raise SystemExit(3)

    async def main() -> None:
        ended: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        await service_of(leave, ended.set_result).startService()
        await ended

    if run.mode == "asyncio-first":
        with pytest.raises(SystemExit):
            run(main)
        run.loop.run_until_complete(run.loop.shutdown_asyncgens())
        for task in asyncio.all_tasks(run.loop):
            task.cancel()
        run.loop.run_until_complete(turn())
        assert not reports.twisted
    else:
        run(main)
        assert len(reports.asyncio) == len(reports.twisted) == 1
        reports.clear()


# Before the reactor runs, and at its end


def test_started_before_the_reactor_runs(reactor: Any) -> None:
    """Nothing happens before; and what is stopped at the reactor's shutdown is awaited there."""
    work = Work(goodbye=lambda: asyncio.sleep(0.01))
    parent = tree_of(TaskService(work, reactor=reactor))

    async def main() -> None:
        await turn()
        assert work.calls == ["begun"]

    assert not work.calls
    run_as_twistd(reactor, parent, main)
    assert work.calls == ["begun", "ending", "ended"]


def test_stopped_before_the_reactor_ran(reactor: Any) -> None:
    """Then nothing runs when it does; both Deferreds fire. Started again, there is one task."""
    never, once = Work(), Work()
    stopped = TaskService(never, reactor=reactor)
    starting = [stopped.startService()]
    assert stopped.stopService().called
    again = TaskService(once, reactor=reactor)
    starting.append(again.startService())
    assert again.stopService().called
    starting.append(again.startService())
    assert not any(deferred.called for deferred in starting)

    async def main() -> None:
        await turn()
        assert all(deferred.called for deferred in starting)
        await again.stopService()

    run_as_twistd(reactor, tree_of(), main)
    assert never.calls == []
    assert once.calls == ["begun", "ending", "ended"]


class WithoutDescriptors:
    """A reactor that runs, and can do nothing else."""

    running = False

    def callWhenRunning(self, call: Any, *args: Any) -> None:
        """Call at once."""
        call(*args)


def test_a_reactor_that_cannot_have_a_loop() -> None:
    """startService's Deferred says so."""
    service = TaskService(Work(), reactor=WithoutDescriptors())
    failures: list[Failure] = []
    service.startService().addErrback(failures.append)
    assert [failure.type for failure in failures] == [TypeError]
    assert service.stopService().called


def test_on_a_fake_reactor_time_is_moved_by_hand(clock: Any) -> None:
    """MemoryReactorClock: the task runs when the clock is advanced."""
    woken: list[float] = []

    async def main() -> None:
        while True:
            await asyncio.sleep(60)
            woken.append(clock.seconds())

    service = TaskService(main, reactor=clock)
    started = service.startService()
    assert not started.called
    clock.run()
    assert started.called
    clock.pump([0, 60, 0, 60, 0])
    assert woken == [60, 120]
    stopped = service.stopService()
    clock.pump([0, 0, 0])
    assert stopped.called


def test_on_a_reactor_that_stands_on_asyncio() -> None:
    """AsyncioSelectorReactor, with the loop that it has."""
    printed = on_asyncioreactor(
        """
        async def work():
            print("begun", asyncio.get_running_loop() is host)
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)
                print("ended")
        parent = MultiService()
        TaskService(work).setServiceParent(parent)
        parent.startService()
        reactor.addSystemEventTrigger("before", "shutdown", parent.stopService)
        async def main():
            await asyncio.sleep(0)
        """
    )
    assert printed == "begun True\nended\n"
